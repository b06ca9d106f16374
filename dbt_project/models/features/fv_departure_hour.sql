{{ config(materialized='windowed', window_column='available_date') }}

-- How flights that leave an airport in one hour of the day did, up to the last of them that
-- arrived, one row an arrival.
with arrivals as (
    select
        origin,
        departure_hour,
        known_minute,
        cast(count(*) as double) as flights,
        cast(sum(late_arrivals) as double) as late,
        cast(sum(delay_added_en_route) as double) as added
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 34) }}
    group by origin, departure_hour, known_minute
)

select
    origin,
    departure_hour,
    {{ instant_of('known_minute') }} as available_at,
    {{ new_york_date(instant_of('known_minute')) }} as available_date,
    cast(sum(added) over last_7_days / sum(flights) over last_7_days as float)
        as hour_delay_added_7d,
    cast(sum(late) over last_30_days / sum(flights) over last_30_days as float)
        as hour_late_share_30d
from {{ with_frames('arrivals', 'origin, departure_hour', [168, 720]) }}
window
    last_7_days as ({{ frame('origin, departure_hour', 168) }}),
    last_30_days as ({{ frame('origin, departure_hour', 720) }})
