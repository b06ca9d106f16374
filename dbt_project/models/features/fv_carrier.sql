{{ config(materialized='windowed', window_column='available_date') }}

-- The state of each carrier's operation from New York, at every half hour in which something
-- became known of it.
with departures as (
    select
        carrier,
        {{ tick_after('known_minute', every=30) }} as known_minute,
        cast(sum(departures) as double) as departures,
        cast(sum(cancellations) as double) as cancellations,
        cast(sum(late_departures) as double) as late,
        cast(sum(overdue_change) as double) as overdue_change
    from {{ ref('int_departure_changes') }}
    where {{ known_history('flight_date', 34) }}
    group by all
),

arrivals as (
    select
        carrier,
        {{ tick_after('known_minute', every=30) }} as known_minute,
        cast(count(*) as double) as arrivals,
        cast(sum(delay_added_en_route) as double) as added
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 34) }}
    group by all
),

events as (
    select *
    from departures
    full outer join arrivals using (carrier, known_minute)
),

state as (
    select
        carrier,
        {{ instant_of('known_minute') }} as available_at,
        sum(departures) over last_day as departures_24h,
        sum(cancellations) over last_day as cancellations_24h,
        sum(late) over last_day as late_24h,
        sum(departures) over last_30_days as departures_30d,
        sum(late) over last_30_days as late_30d,
        sum(arrivals) over last_day as arrivals_24h,
        sum(added) over last_day as added_24h,
        sum(overdue_change) over so_far as overdue
    from {{ with_frames('events', 'carrier', [24, 720]) }}
    window
        last_day as ({{ frame('carrier', 24) }}),
        last_30_days as ({{ frame('carrier', 720) }}),
        so_far as (partition by carrier order by known_minute rows unbounded preceding)
)

select
    carrier,
    available_at,
    {{ new_york_date('available_at') }} as available_date,
    cast(late_24h / nullif(departures_24h, 0) as float) as carrier_late_share_24h,
    cast(late_30d / nullif(departures_30d, 0) as float) as carrier_late_share_30d,
    cast(cancellations_24h / nullif(departures_24h + cancellations_24h, 0) as float)
        as carrier_cancelled_share_24h,
    cast(added_24h / nullif(arrivals_24h, 0) as float) as carrier_delay_added_24h,
    cast(coalesce(overdue, 0) as smallint) as carrier_overdue
from state
