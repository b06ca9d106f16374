{{ config(materialized='windowed', window_column='available_date') }}

-- The state of each destination as flights from New York show it, at every hour in which something
-- became known: flights held for it before departure, late on the way, or late on arrival.
with departures as (
    select
        dest,
        {{ tick_after('known_minute', every=60) }} as known_minute,
        cast(sum(departures) as double) as departures,
        cast(sum(cancellations) as double) as cancellations,
        cast(sum(departure_delay) as double) as delay,
        cast(sum(overdue_change) as double) as overdue_change
    from {{ ref('int_departure_changes') }}
    where {{ known_history('flight_date', 34) }}
    group by all
),

arrivals as (
    select
        dest,
        {{ tick_after('known_minute', every=60) }} as known_minute,
        cast(count(*) as double) as arrivals,
        cast(sum(arrival_delay) as double) as arrival_delay,
        cast(sum(delay_added_en_route) as double) as added
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 34) }}
    group by all
),

events as (
    select *
    from departures
    full outer join arrivals using (dest, known_minute)
),

state as (
    select
        dest,
        {{ instant_of('known_minute') }} as available_at,
        sum(departures) over last_3_hours as departures_3h,
        sum(delay) over last_3_hours as delay_3h,
        sum(departures) over last_30_days as departures_30d,
        sum(cancellations) over last_30_days as cancellations_30d,
        sum(arrivals) over last_3_hours as arrivals_3h,
        sum(added) over last_3_hours as added_3h,
        sum(arrivals) over last_day as arrivals_24h,
        sum(arrival_delay) over last_day as arrival_delay_24h,
        sum(added) over last_day as added_24h,
        sum(arrivals) over last_30_days as arrivals_30d,
        sum(arrival_delay) over last_30_days as arrival_delay_30d,
        sum(overdue_change) over so_far as overdue
    from {{ with_frames('events', 'dest', [3, 24, 720]) }}
    window
        last_3_hours as ({{ frame('dest', 3) }}),
        last_day as ({{ frame('dest', 24) }}),
        last_30_days as ({{ frame('dest', 720) }}),
        so_far as (partition by dest order by known_minute rows unbounded preceding)
)

select
    dest,
    available_at,
    {{ new_york_date('available_at') }} as available_date,
    cast(delay_3h / nullif(departures_3h, 0) as float) as dest_departure_delay_3h,
    cast(cancellations_30d / nullif(departures_30d + cancellations_30d, 0) as float)
        as dest_cancelled_share_30d,
    cast(added_3h / nullif(arrivals_3h, 0) as float) as dest_delay_added_3h,
    cast(added_24h / nullif(arrivals_24h, 0) as float) as dest_delay_added_24h,
    cast(arrival_delay_24h / nullif(arrivals_24h, 0) as float) as dest_arrival_delay_24h,
    cast(arrival_delay_30d / nullif(arrivals_30d, 0) as float) as dest_arrival_delay_30d,
    cast(coalesce(overdue, 0) as smallint) as dest_overdue
from state
