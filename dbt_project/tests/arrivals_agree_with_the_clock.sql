-- Arrivals whose instant, scheduled plus delay, is not what the clock at the destination showed.
-- A carrier's clock may not have been changed yet when a flight lands in the night that clocks
-- change: there an hour's difference is allowed.
with clocks as (
    select
        flights.flight_id,
        flights.arrival_hhmm // 100 * 60 + flights.arrival_hhmm % 100 as reported_minute,
        instants.arrived_at at time zone instants.dest_time_zone as arrived_local,
        (instants.arrived_at - interval '6 hours') at time zone instants.dest_time_zone
            as six_hours_before_local
    from {{ ref('stg_flights') }} as flights
    inner join {{ ref('int_flights') }} as instants
        on flights.flight_id = instants.flight_id
    where not flights.is_cancelled and not flights.is_diverted
),

differences as (
    select
        *,
        (hour(arrived_local) * 60 + minute(arrived_local) - reported_minute + 2880) % 1440
            as minutes_apart,
        arrived_local - six_hours_before_local != interval '6 hours' as clocks_changed
    from clocks
)

select *
from differences
where minutes_apart != 0 and not (clocks_changed and minutes_apart in (60, 1380))
