{{ config(materialized='windowed', window_column='flight_date') }}

-- What the timetable says of a flight and of its competition for runways and gates. Windows never
-- reach into the next day, so that a day can be built before the next one is loaded.
with flights as (
    select
        *,
        {{ minute_of('scheduled_departure_at') }} as departure_minute,
        {{ minute_of('scheduled_arrival_at') }} as arrival_minute
    from {{ ref('int_flights') }}
    where {{ known_history('flight_date', 30) }}
)

select
    flights.flight_id,
    flights.flight_date,
    flights.scheduled_departure_at,
    flights.scheduled_departure_at - interval '60 days' as available_at,
    flights.carrier as operating_carrier,
    flights.origin as departure_airport,
    flights.dest as arrival_airport,
    cast(isodow(flights.flight_date) as smallint) as day_of_week,
    cast(
        date_diff('minute', {{ midnight('flights.flight_date') }}, flights.scheduled_departure_at)
        as smallint
    ) as departure_minute_of_day,
    cast(
        hour(flights.scheduled_arrival_at at time zone flights.dest_time_zone) * 60
        + minute(flights.scheduled_arrival_at at time zone flights.dest_time_zone) as smallint
    ) as arrival_minute_of_day,
    flights.scheduled_minutes,
    flights.distance_miles,
    holidays.days_from_holiday,
    cast(flights.scheduled_minutes - avg(flights.scheduled_minutes) over route_month as float)
        as scheduled_minutes_above_route,
    cast(count(*) over origin_near as smallint) as origin_departures_near,
    cast(count(*) over origin_before as smallint) as origin_departures_before,
    cast(count(*) over origin_day as smallint) as origin_departures_of_day,
    cast(count(*) over origin_so_far as smallint) as origin_departure_rank,
    cast(count(*) over metro_day as smallint) as metro_departures_of_day,
    cast(count(*) over carrier_near as smallint) as carrier_departures_near,
    cast(count(*) over dest_near as smallint) as dest_arrivals_near
from flights
left join {{ ref('int_holidays') }} as holidays
    on flights.flight_date = holidays.calendar_date
window
    route_month as (
        partition by flights.origin, flights.dest
        order by flights.departure_minute
        range between {{ 30 * 24 * 60 }} preceding and current row
    ),
    origin_near as (
        partition by flights.origin, flights.flight_date
        order by flights.departure_minute
        range between 30 preceding and 30 following
    ),
    origin_before as (
        partition by flights.origin, flights.flight_date
        order by flights.departure_minute
        range between 120 preceding and current row
    ),
    origin_so_far as (
        partition by flights.origin, flights.flight_date
        order by flights.departure_minute
        range between unbounded preceding and current row
    ),
    origin_day as (partition by flights.origin, flights.flight_date),
    metro_day as (partition by flights.metro, flights.flight_date),
    carrier_near as (
        partition by flights.origin, flights.carrier, flights.flight_date
        order by flights.departure_minute
        range between 60 preceding and 60 following
    ),
    dest_near as (
        partition by flights.dest, flights.flight_date
        order by flights.arrival_minute
        range between 60 preceding and 60 following
    )
