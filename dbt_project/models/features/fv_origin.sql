{{ config(materialized='windowed', window_column='available_date') }}

-- The state of each New York airport, every ten minutes: delays and cancellations of the last
-- hours, and the flights that should have left and are not known to have.
with departures as (
    select
        origin,
        {{ tick_after('known_minute', every=10) }} as known_minute,
        cast(sum(departures) as double) as departures,
        cast(sum(cancellations) as double) as cancellations,
        cast(sum(departure_delay) as double) as delay,
        cast(sum(late_departures) as double) as late,
        cast(sum(overdue_change) as double) as overdue_change,
        cast(sum(overdue_20_change) as double) as overdue_20_change,
        cast(sum(overdue_scheduled_minutes) as double) as overdue_scheduled_minutes
    from {{ ref('int_departure_changes') }}
    where {{ known_history('flight_date', 5) }}
    group by all
),

arrivals as (
    select
        origin,
        {{ tick_after('known_minute', every=10) }} as known_minute,
        cast(count(*) as double) as arrivals,
        cast(sum(taxi_minutes) as double) as taxi
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 5) }}
    group by all
),

origins as (
    select distinct origin from departures
),

days as (
    select
        min(flight_date) as first_date,
        max(flight_date) as last_date
    from {{ ref('int_flights') }}
    where {{ known_history('flight_date', 5) }}
),

ticks as (
    select
        origins.origin,
        {{ ticks_of_days('days.first_date', 'days.last_date', every=10) }} as known_minute
    from days
    cross join origins
),

events as (
    select *
    from ticks
    left join departures using (origin, known_minute)
    left join arrivals using (origin, known_minute)
),

state as (
    select
        origin,
        known_minute,
        {{ instant_of('known_minute') }} as available_at,
        sum(departures) over last_hour as departures_1h,
        sum(delay) over last_hour as delay_1h,
        sum(departures) over last_3_hours as departures_3h,
        sum(delay) over last_3_hours as delay_3h,
        sum(late) over last_3_hours as late_3h,
        sum(departures) over last_6_hours as departures_6h,
        sum(departures) over last_day as departures_24h,
        sum(late) over last_day as late_24h,
        sum(cancellations) over last_day as cancellations_24h,
        sum(arrivals) over last_3_hours as arrivals_3h,
        sum(taxi) over last_3_hours as taxi_3h,
        sum(overdue_change) over so_far as overdue,
        sum(overdue_20_change) over so_far as overdue_20,
        sum(overdue_scheduled_minutes) over so_far as overdue_scheduled_minutes
    from {{ with_frames('events', 'origin', [1, 3, 6, 24]) }}
    window
        last_hour as ({{ frame('origin', 1) }}),
        last_3_hours as ({{ frame('origin', 3) }}),
        last_6_hours as ({{ frame('origin', 6) }}),
        last_day as ({{ frame('origin', 24) }}),
        so_far as (partition by origin order by known_minute rows unbounded preceding)
)

select
    origin,
    available_at,
    {{ new_york_date('available_at') }} as available_date,
    cast(coalesce(departures_3h, 0) as smallint) as origin_departures_3h,
    cast(coalesce(departures_6h, 0) as smallint) as origin_departures_6h,
    cast(delay_1h / nullif(departures_1h, 0) as float) as origin_departure_delay_1h,
    cast(delay_3h / nullif(departures_3h, 0) as float) as origin_departure_delay_3h,
    cast(late_3h / nullif(departures_3h, 0) as float) as origin_late_share_3h,
    cast(late_24h / nullif(departures_24h, 0) as float) as origin_late_share_24h,
    cast(cancellations_24h / nullif(departures_24h + cancellations_24h, 0) as float)
        as origin_cancelled_share_24h,
    cast(taxi_3h / nullif(arrivals_3h, 0) as float) as origin_taxi_minutes_3h,
    cast(coalesce(overdue, 0) as smallint) as origin_overdue,
    cast(coalesce(overdue_20, 0) as smallint) as origin_overdue_20,
    cast(coalesce(overdue * known_minute - overdue_scheduled_minutes, 0) as integer)
        as origin_overdue_minutes
from state
