{{ config(materialized='windowed', window_column='flight_date') }}

-- What is to be scored: every scheduled flight, two hours before its scheduled departure.
-- Only what the timetable says is here, so that the spine cannot leak an outcome.
select
    flight_id,
    flight_date,
    carrier,
    flight_number,
    tailnum,
    origin,
    dest,
    metro,
    dest_region,
    scheduled_departure_at,
    scheduled_departure_at at time zone 'America/New_York' as scheduled_departure_local,
    departure_hour,
    scheduled_departure_at - interval '2 hours' as prediction_time
from {{ ref('int_flights') }}
