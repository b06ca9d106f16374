{{ config(materialized='windowed', window_column='flight_date') }}

-- Flown flights at the moment their arrival, and with it everything about them, is known.
select
    flight_id,
    flight_date,
    arrived_at as known_at,
    {{ minute_of('arrived_at') }} as known_minute,
    carrier,
    flight_number,
    tailnum,
    origin,
    dest,
    metro,
    dest_region,
    air_minutes,
    departure_hour,
    -- As for departures: four hours bound what one flight can add to a mean.
    cast(least(arrival_delay, 240) as integer) as arrival_delay,
    cast(arrival_delay >= 30 as integer) as late_arrivals,
    -- Negative when the crew made up time: wind, routing and holding, apart from the late start.
    cast(arrival_delay - departure_delay as integer) as delay_added_en_route,
    cast(date_diff('minute', departed_at, arrived_at) - air_minutes as integer) as taxi_minutes
from {{ ref('int_flights') }}
where not is_cancelled and not is_diverted
