-- Departures whose instant, scheduled plus delay, is not what the reported clock reading says.
-- The two are reported separately, so this checks time zones, midnight and the changes of clocks.
with clocks as (
    select
        flights.flight_id,
        flights.departure_hhmm // 100 * 60 + flights.departure_hhmm % 100 as reported_minute,
        instants.departed_at at time zone 'America/New_York' as departed_local
    from {{ ref('stg_flights') }} as flights
    inner join {{ ref('int_flights') }} as instants
        on flights.flight_id = instants.flight_id
    where not flights.is_cancelled
)

select *
from clocks
where (hour(departed_local) * 60 + minute(departed_local)) != reported_minute % 1440
