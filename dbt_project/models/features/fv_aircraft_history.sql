{{ config(materialized='windowed', window_column='available_date') }}

-- How late an aircraft ran during the day up to its last arrival, one row an arrival.
with arrivals as (
    select
        tailnum,
        known_minute,
        cast(count(*) as double) as flights,
        cast(sum(arrival_delay) as double) as delay,
        arg_max(arrival_delay, flight_id) as last_delay
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 6) }}
    group by tailnum, known_minute
)

select
    tailnum,
    {{ instant_of('known_minute') }} as available_at,
    {{ new_york_date(instant_of('known_minute')) }} as available_date,
    cast(sum(flights) over last_day as smallint) as aircraft_flights_24h,
    cast(last_delay as smallint) as aircraft_last_arrival_delay,
    cast(sum(delay) over last_day / sum(flights) over last_day as float)
        as aircraft_arrival_delay_24h
from {{ with_frames('arrivals', 'tailnum', [24]) }}
window
    last_day as ({{ frame('tailnum', 24) }})
