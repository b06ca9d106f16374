{{ config(materialized='windowed', window_column='flight_date') }}

-- Flights with every time as an instant, and the moment at which each outcome became known.
with zoned as (
    select
        flights.*,
        origins.metro,
        destinations.region as dest_region,
        destinations.time_zone as dest_time_zone,
        cast(
            cast(
                flights.scheduled_departure_at at time zone destinations.time_zone as date
            ) as timestamp
        ) as departure_day_at_dest,
        to_minutes(
            flights.scheduled_arrival_hhmm // 100 * 60 + flights.scheduled_arrival_hhmm % 100
        ) as arrival_clock
    from {{ ref('stg_flights') }} as flights
    left join {{ ref('stg_airports') }} as destinations
        on flights.dest = destinations.faa
    left join {{ ref('stg_airports') }} as origins
        on flights.origin = origins.faa
),

-- The schedule gives an arrival as a clock reading without a date. It is the first such reading at
-- the destination after departure: a red-eye arrives on the next day.
scheduled as (
    select
        *,
        (departure_day_at_dest + arrival_clock) at time zone dest_time_zone as same_day_arrival_at,
        (departure_day_at_dest + interval '1 day' + arrival_clock)
        at time zone dest_time_zone as next_day_arrival_at
    from zoned
),

dated as (
    select
        *,
        case
            when same_day_arrival_at > scheduled_departure_at then same_day_arrival_at
            else next_day_arrival_at
        end as dated_arrival_at
    from scheduled
),

-- In the night that clocks go back one hour has two instants. The database takes the later one; a
-- flight that can, lands in the earlier.
instants as (
    select
        *,
        case
            when
                (dated_arrival_at - interval '1 hour') at time zone dest_time_zone
                = dated_arrival_at at time zone dest_time_zone
                and dated_arrival_at - interval '1 hour' > scheduled_departure_at
                then dated_arrival_at - interval '1 hour'
            else dated_arrival_at
        end as scheduled_arrival_at
    from dated
),

-- Scheduled instant plus delay, not the actual clock readings: those have no date, and the hour
-- that clocks repeat has two meanings. A test compares the two.
flown as (
    select
        *,
        scheduled_departure_at + to_minutes(departure_delay) as departed_at,
        scheduled_arrival_at + to_minutes(arrival_delay) as arrived_at
    from instants
)

select
    flight_id,
    flight_date,
    carrier,
    flight_number,
    tailnum,
    origin,
    dest,
    metro,
    dest_region,
    dest_time_zone,
    scheduled_departure_at,
    scheduled_arrival_at,
    departed_at,
    arrived_at,
    departure_delay,
    arrival_delay,
    air_minutes,
    distance_miles,
    is_cancelled,
    is_diverted,
    cast(date_diff('minute', scheduled_departure_at, scheduled_arrival_at) as smallint)
        as scheduled_minutes,
    cast(hour(scheduled_departure_at at time zone 'America/New_York') as smallint)
        as departure_hour,
    -- The data do not say when a cancellation was announced. An hour after the scheduled departure
    -- it is beyond doubt; until then the flight counts as overdue.
    coalesce(departed_at, scheduled_departure_at + interval '60 minutes') as departure_known_at,
    -- A diversion is beyond doubt three hours after the aircraft should have landed.
    case
        when is_cancelled then scheduled_departure_at + interval '60 minutes'
        when is_diverted
            then scheduled_arrival_at + to_minutes(greatest(departure_delay, 0) + 180)
        else arrived_at
    end as outcome_known_at
from flown
