{{ config(materialized='windowed', window_column='available_date') }}

-- How flights on a route did, up to the last arrival on it, one row an arrival. Time in the air
-- against the month's shows the winds of the day, whatever the schedule allows for.
with arrivals as (
    select
        origin,
        dest,
        known_minute,
        cast(count(*) as double) as flights,
        cast(sum(arrival_delay) as double) as delay,
        cast(sum(late_arrivals) as double) as late,
        cast(sum(delay_added_en_route) as double) as added,
        cast(sum(air_minutes) as double) as air,
        cast(sum(taxi_minutes) as double) as taxi
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 34) }}
    group by origin, dest, known_minute
)

select
    origin,
    dest,
    {{ instant_of('known_minute') }} as available_at,
    {{ new_york_date(instant_of('known_minute')) }} as available_date,
    cast(sum(delay) over last_day / sum(flights) over last_day as float) as route_arrival_delay_24h,
    cast(sum(late) over last_30_days / sum(flights) over last_30_days as float)
        as route_late_share_30d,
    cast(sum(added) over last_day / sum(flights) over last_day as float) as route_delay_added_24h,
    cast(sum(added) over last_7_days / sum(flights) over last_7_days as float)
        as route_delay_added_7d,
    cast(sum(added) over last_30_days / sum(flights) over last_30_days as float)
        as route_delay_added_30d,
    cast(
        sum(air) over last_day / sum(flights) over last_day
        - sum(air) over last_30_days / sum(flights) over last_30_days as float
    ) as route_air_minutes_24h_above_30d,
    cast(sum(taxi) over last_7_days / sum(flights) over last_7_days as float)
        as route_taxi_minutes_7d
from {{ with_frames('arrivals', 'origin, dest', [24, 168, 720]) }}
window
    last_day as ({{ frame('origin, dest', 24) }}),
    last_7_days as ({{ frame('origin, dest', 168) }}),
    last_30_days as ({{ frame('origin, dest', 720) }})
