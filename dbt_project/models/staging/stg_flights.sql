{{ config(materialized='windowed', window_column='flight_date') }}

-- Every scheduled flight, flown or not, under one readable key and with its scheduled instant.
select
    flight_date,
    carrier,
    flight as flight_number,
    tailnum,
    origin,
    dest,
    sched_dep_time as scheduled_departure_hhmm,
    sched_arr_time as scheduled_arrival_hhmm,
    dep_time as departure_hhmm,
    arr_time as arrival_hhmm,
    dep_delay as departure_delay,
    arr_delay as arrival_delay,
    air_time as air_minutes,
    distance as distance_miles,
    concat_ws('|', flight_date, carrier, flight, origin) as flight_id,
    -- time_hour is already UTC, so adding the minute is right on the days that clocks change too.
    time_hour + to_minutes(cast(minute as integer)) as scheduled_departure_at,
    dep_time is null as is_cancelled,
    dep_time is not null and arr_delay is null as is_diverted
from {{ source('raw', 'flights') }}
