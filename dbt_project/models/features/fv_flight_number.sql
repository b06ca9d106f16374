{{ config(materialized='windowed', window_column='available_date') }}

-- How late a carrier's flight of this number ran, up to its last arrival, one row an arrival.
with arrivals as (
    select
        carrier,
        flight_number,
        origin,
        known_minute,
        cast(count(*) as double) as flights,
        cast(sum(arrival_delay) as double) as delay,
        cast(sum(late_arrivals) as double) as late
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 64) }}
    group by carrier, flight_number, origin, known_minute
)

select
    carrier,
    flight_number,
    origin,
    {{ instant_of('known_minute') }} as available_at,
    {{ new_york_date(instant_of('known_minute')) }} as available_date,
    cast(sum(flights) over last_30_days as smallint) as number_flights_30d,
    cast(sum(delay) over last_7_days / sum(flights) over last_7_days as float)
        as number_arrival_delay_7d,
    cast(sum(delay) over last_30_days / sum(flights) over last_30_days as float)
        as number_arrival_delay_30d,
    cast(sum(late) over last_60_days / sum(flights) over last_60_days as float)
        as number_late_share_60d
from {{ with_frames('arrivals', 'carrier, flight_number, origin', [168, 720, 1440]) }}
window
    last_7_days as ({{ frame('carrier, flight_number, origin', 168) }}),
    last_30_days as ({{ frame('carrier, flight_number, origin', 720) }}),
    last_60_days as ({{ frame('carrier, flight_number, origin', 1440) }})
