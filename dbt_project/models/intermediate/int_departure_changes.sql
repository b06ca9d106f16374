{{ config(materialized='windowed', window_column='flight_date') }}

-- What changes, and when, in the picture that an observer has of departures: a flight becomes
-- overdue, and later it departs or is known to be cancelled. Summed over the last hours this gives
-- delays; summed from the beginning it gives the flights that are overdue now.
with flights as (
    select
        flight_id,
        flight_date,
        carrier,
        origin,
        dest,
        metro,
        dest_region,
        scheduled_departure_at,
        departure_known_at,
        departure_delay,
        is_cancelled,
        {{ minute_of('scheduled_departure_at') }} as scheduled_minute,
        departure_known_at > scheduled_departure_at as was_overdue,
        departure_known_at > scheduled_departure_at + interval '20 minutes' as was_overdue_20
    from {{ ref('int_flights') }}
),

became_overdue as (
    select
        *,
        scheduled_departure_at as known_at,
        1 as overdue_change,
        0 as overdue_20_change
    from flights
    where was_overdue
),

became_overdue_20 as (
    select
        *,
        scheduled_departure_at + interval '20 minutes' as known_at,
        0 as overdue_change,
        1 as overdue_20_change
    from flights
    where was_overdue_20
),

ended as (
    select
        *,
        departure_known_at as known_at,
        -cast(was_overdue as integer) as overdue_change,
        -cast(was_overdue_20 as integer) as overdue_20_change
    from flights
),

changes as (
    select
        'overdue' as change_kind,
        *
    from became_overdue
    union all by name
    select
        'overdue_20' as change_kind,
        *
    from became_overdue_20
    union all by name
    select
        'ended' as change_kind,
        *
    from ended
)

select
    flight_id,
    change_kind,
    flight_date,
    known_at,
    {{ minute_of('known_at') }} as known_minute,
    carrier,
    origin,
    dest,
    metro,
    dest_region,
    overdue_change,
    overdue_20_change,
    overdue_change * scheduled_minute as overdue_scheduled_minutes,
    cast(change_kind = 'ended' and not is_cancelled as integer) as departures,
    cast(change_kind = 'ended' and is_cancelled as integer) as cancellations,
    -- Delays beyond four hours say little more than four hours do, and would rule every mean.
    case
        -- coalesce inside: `least` passes over nulls, and a cancelled flight has no delay.
        when change_kind = 'ended' then cast(least(coalesce(departure_delay, 0), 240) as integer)
        else 0
    end as departure_delay,
    cast(change_kind = 'ended' and coalesce(departure_delay >= 30, false) as integer)
        as late_departures
from changes
