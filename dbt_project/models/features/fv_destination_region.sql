{{ config(materialized='windowed', window_column='available_date') }}

-- The state of the region around a destination, at every half hour in which something became
-- known. Weather and airspace are larger than an airport, and most airports alone have too few
-- flights to show them.
with departures as (
    select
        dest_region,
        {{ tick_after('known_minute', every=30) }} as known_minute,
        cast(sum(departures) as double) as departures,
        cast(sum(departure_delay) as double) as delay,
        cast(sum(overdue_change) as double) as overdue_change
    from {{ ref('int_departure_changes') }}
    where {{ known_history('flight_date', 5) }}
    group by all
),

arrivals as (
    select
        dest_region,
        {{ tick_after('known_minute', every=30) }} as known_minute,
        cast(count(*) as double) as arrivals,
        cast(sum(arrival_delay) as double) as arrival_delay,
        cast(sum(delay_added_en_route) as double) as added
    from {{ ref('int_arrivals') }}
    where {{ known_history('flight_date', 5) }}
    group by all
),

events as (
    select *
    from departures
    full outer join arrivals using (dest_region, known_minute)
),

state as (
    select
        dest_region,
        {{ instant_of('known_minute') }} as available_at,
        sum(departures) over last_2_hours as departures_2h,
        sum(delay) over last_2_hours as delay_2h,
        sum(departures) over last_6_hours as departures_6h,
        sum(delay) over last_6_hours as delay_6h,
        sum(arrivals) over last_2_hours as arrivals_2h,
        sum(added) over last_2_hours as added_2h,
        sum(arrivals) over last_6_hours as arrivals_6h,
        sum(arrival_delay) over last_6_hours as arrival_delay_6h,
        sum(added) over last_6_hours as added_6h,
        sum(overdue_change) over so_far as overdue
    from {{ with_frames('events', 'dest_region', [2, 6]) }}
    window
        last_2_hours as ({{ frame('dest_region', 2) }}),
        last_6_hours as ({{ frame('dest_region', 6) }}),
        so_far as (partition by dest_region order by known_minute rows unbounded preceding)
)

select
    dest_region,
    available_at,
    {{ new_york_date('available_at') }} as available_date,
    cast(delay_2h / nullif(departures_2h, 0) as float) as region_departure_delay_2h,
    cast(delay_6h / nullif(departures_6h, 0) as float) as region_departure_delay_6h,
    cast(added_2h / nullif(arrivals_2h, 0) as float) as region_delay_added_2h,
    cast(added_6h / nullif(arrivals_6h, 0) as float) as region_delay_added_6h,
    cast(arrival_delay_6h / nullif(arrivals_6h, 0) as float) as region_arrival_delay_6h,
    cast(coalesce(overdue, 0) as smallint) as region_overdue
from state
