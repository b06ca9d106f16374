{{ config(materialized='windowed', window_column='available_date') }}

-- The state of a metropolitan area, every ten minutes. Its airports share one airspace: a storm or
-- a ground stop at one of them is soon a delay at the others.
with departures as (
    select
        metro,
        {{ tick_after('known_minute', every=10) }} as known_minute,
        cast(sum(departures) as double) as departures,
        cast(sum(cancellations) as double) as cancellations,
        cast(sum(departure_delay) as double) as delay,
        cast(sum(late_departures) as double) as late,
        cast(sum(overdue_change) as double) as overdue_change,
        cast(sum(overdue_20_change) as double) as overdue_20_change,
        cast(sum(overdue_scheduled_minutes) as double) as overdue_scheduled_minutes
    from {{ ref('int_departure_changes') }}
    where {{ known_history('flight_date', 11) }}
    group by all
),

arrivals as (
    select
        metro,
        {{ tick_after('known_minute', every=10) }} as known_minute,
        cast(count(*) as double) as arrivals,
        cast(sum(arrival_delay) as double) as arrival_delay,
        cast(sum(delay_added_en_route) as double) as added
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 11) }}
    group by all
),

metros as (
    select distinct metro from departures
),

days as (
    select
        min(flight_date) as first_date,
        max(flight_date) as last_date
    from {{ ref('int_flights') }}
    where {{ known_history('flight_date', 11) }}
),

ticks as (
    select
        metros.metro,
        {{ ticks_of_days('days.first_date', 'days.last_date', every=10) }} as known_minute
    from days
    cross join metros
),

events as (
    select *
    from ticks
    left join departures using (metro, known_minute)
    left join arrivals using (metro, known_minute)
),

state as (
    select
        metro,
        known_minute,
        {{ instant_of('known_minute') }} as available_at,
        sum(departures) over last_hour as departures_1h,
        sum(delay) over last_hour as delay_1h,
        sum(departures) over last_3_hours as departures_3h,
        sum(cancellations) over last_3_hours as cancellations_3h,
        sum(delay) over last_3_hours as delay_3h,
        sum(departures) over last_6_hours as departures_6h,
        sum(late) over last_6_hours as late_6h,
        sum(departures) over last_day as departures_24h,
        sum(cancellations) over last_day as cancellations_24h,
        sum(delay) over last_day as delay_24h,
        sum(departures) over last_7_days as departures_7d,
        sum(delay) over last_7_days as delay_7d,
        sum(arrivals) over last_6_hours as arrivals_6h,
        sum(arrival_delay) over last_6_hours as arrival_delay_6h,
        sum(added) over last_6_hours as added_6h,
        sum(arrivals) over last_day as arrivals_24h,
        sum(arrival_delay) over last_day as arrival_delay_24h,
        sum(overdue_change) over so_far as overdue,
        sum(overdue_20_change) over so_far as overdue_20,
        sum(overdue_scheduled_minutes) over so_far as overdue_scheduled_minutes
    from {{ with_frames('events', 'metro', [1, 3, 6, 24, 168]) }}
    window
        last_hour as ({{ frame('metro', 1) }}),
        last_3_hours as ({{ frame('metro', 3) }}),
        last_6_hours as ({{ frame('metro', 6) }}),
        last_day as ({{ frame('metro', 24) }}),
        last_7_days as ({{ frame('metro', 168) }}),
        so_far as (partition by metro order by known_minute rows unbounded preceding)
)

select
    metro,
    available_at,
    {{ new_york_date('available_at') }} as available_date,
    cast(delay_1h / nullif(departures_1h, 0) as float) as metro_departure_delay_1h,
    cast(delay_3h / nullif(departures_3h, 0) as float) as metro_departure_delay_3h,
    cast(delay_24h / nullif(departures_24h, 0) as float) as metro_departure_delay_24h,
    cast(delay_7d / nullif(departures_7d, 0) as float) as metro_departure_delay_7d,
    cast(late_6h / nullif(departures_6h, 0) as float) as metro_late_share_6h,
    cast(cancellations_3h / nullif(departures_3h + cancellations_3h, 0) as float)
        as metro_cancelled_share_3h,
    cast(cancellations_24h / nullif(departures_24h + cancellations_24h, 0) as float)
        as metro_cancelled_share_24h,
    cast(arrival_delay_6h / nullif(arrivals_6h, 0) as float) as metro_arrival_delay_6h,
    cast(arrival_delay_24h / nullif(arrivals_24h, 0) as float) as metro_arrival_delay_24h,
    cast(added_6h / nullif(arrivals_6h, 0) as float) as metro_delay_added_6h,
    cast(coalesce(overdue, 0) as smallint) as metro_overdue,
    cast(coalesce(overdue_20, 0) as smallint) as metro_overdue_20,
    cast(coalesce(overdue * known_minute - overdue_scheduled_minutes, 0) as integer)
        as metro_overdue_minutes
from state
