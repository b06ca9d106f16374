{{ config(materialized='windowed', window_column='flight_date') }}

-- Each flight beside the flight that its aircraft was scheduled to make before it from New York.
-- The leg back to New York is not in the data.
with flights as (
    select *
    from {{ ref('int_flights') }}
    where
        tailnum is not null
        and {{ known_history('flight_date', 3) }}
),

legs as (
    select
        flight_id,
        flight_date,
        tailnum,
        scheduled_departure_at,
        lag(flight_id) over itinerary as previous_flight_id,
        lag(scheduled_departure_at) over itinerary as previous_scheduled_departure_at,
        lag(scheduled_arrival_at) over itinerary as previous_scheduled_arrival_at,
        lag(departure_known_at) over itinerary as previous_departure_known_at,
        lag(departed_at) over itinerary as previous_departed_at,
        lag(arrived_at) over itinerary as previous_arrived_at,
        lag(departure_delay) over itinerary as previous_departure_delay,
        lag(arrival_delay) over itinerary as previous_arrival_delay,
        lag(is_cancelled) over itinerary as previous_is_cancelled,
        cast(
            row_number() over (
                partition by tailnum, flight_date
                order by scheduled_departure_at, flight_id
            ) as smallint
        ) as leg_of_day
    from flights
    window itinerary as (partition by tailnum order by scheduled_departure_at, flight_id)
)

select
    * exclude (previous_scheduled_departure_at, previous_scheduled_arrival_at, leg_of_day),
    leg_of_day,
    previous_scheduled_departure_at,
    previous_scheduled_arrival_at,
    cast(date_diff('minute', previous_scheduled_arrival_at, scheduled_departure_at) as integer)
        as ground_minutes,
    cast(
        date_diff('minute', previous_scheduled_departure_at, previous_scheduled_arrival_at)
        as integer
    ) as previous_scheduled_minutes
from legs
-- An aircraft that was away for longer comes from elsewhere; and a day's rows must not depend on
-- flights of unlimited age.
where previous_scheduled_departure_at >= scheduled_departure_at - interval '48 hours'
