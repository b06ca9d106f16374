{{ config(materialized='windowed', window_column='flight_date') }}

-- The fact table: one row per scheduled flight, with its outcome and its label.
select
    flight_id,
    flight_date,
    carrier,
    flight_number,
    tailnum,
    origin,
    dest,
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
    outcome_known_at as label_available_at,
    case
        when is_cancelled then 'cancelled'
        when is_diverted then 'diverted'
        else 'flown'
    end as outcome,
    -- Null for a flight that never arrived: it is neither late nor on time.
    arrival_delay >= 30 as arrived_late_30
from {{ ref('int_flights') }}
