{{ config(materialized='windowed', window_column='available_date') }}

-- The state of each carrier's operation at one airport, at every half hour in which something
-- became known of its departures.
with departures as (
    select
        carrier,
        origin,
        {{ tick_after('known_minute', every=30) }} as known_minute,
        cast(sum(departures) as double) as departures,
        cast(sum(departure_delay) as double) as delay,
        cast(sum(late_departures) as double) as late,
        cast(sum(overdue_change) as double) as overdue_change,
        cast(sum(overdue_scheduled_minutes) as double) as overdue_scheduled_minutes
    from {{ ref('int_departure_changes') }}
    where {{ known_history('flight_date', 5) }}
    group by all
),

state as (
    select
        carrier,
        origin,
        known_minute,
        {{ instant_of('known_minute') }} as available_at,
        sum(departures) over last_3_hours as departures_3h,
        sum(delay) over last_3_hours as delay_3h,
        sum(late) over last_3_hours as late_3h,
        sum(departures) over last_day as departures_24h,
        sum(late) over last_day as late_24h,
        sum(overdue_change) over so_far as overdue,
        sum(overdue_scheduled_minutes) over so_far as overdue_scheduled_minutes
    from {{ with_frames('departures', 'carrier, origin', [3, 24]) }}
    window
        last_3_hours as ({{ frame('carrier, origin', 3) }}),
        last_day as ({{ frame('carrier, origin', 24) }}),
        so_far as (partition by carrier, origin order by known_minute rows unbounded preceding)
)

select
    carrier,
    origin,
    available_at,
    {{ new_york_date('available_at') }} as available_date,
    cast(delay_3h / nullif(departures_3h, 0) as float) as carrier_origin_departure_delay_3h,
    cast(late_3h / nullif(departures_3h, 0) as float) as carrier_origin_late_share_3h,
    cast(late_24h / nullif(departures_24h, 0) as float) as carrier_origin_late_share_24h,
    cast(overdue as smallint) as carrier_origin_overdue,
    cast(overdue * known_minute - overdue_scheduled_minutes as integer)
        as carrier_origin_overdue_minutes
from state
