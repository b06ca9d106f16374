{{ config(materialized='windowed', window_column='available_date') }}

-- How late a carrier ran on a route, up to its last arrival there, one row an arrival.
with arrivals as (
    select
        carrier,
        origin,
        dest,
        known_minute,
        cast(count(*) as double) as flights,
        cast(sum(arrival_delay) as double) as delay,
        cast(sum(late_arrivals) as double) as late
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 64) }}
    group by carrier, origin, dest, known_minute
)

select
    carrier,
    origin,
    dest,
    {{ instant_of('known_minute') }} as available_at,
    {{ new_york_date(instant_of('known_minute')) }} as available_date,
    cast(sum(delay) over last_60_days / sum(flights) over last_60_days as float)
        as carrier_route_arrival_delay_60d,
    cast(sum(late) over last_60_days / sum(flights) over last_60_days as float)
        as carrier_route_late_share_60d
from {{ with_frames('arrivals', 'carrier, origin, dest', [1440]) }}
window
    last_60_days as ({{ frame('carrier, origin, dest', 1440) }})
