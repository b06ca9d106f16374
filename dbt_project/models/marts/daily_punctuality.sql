{{ config(materialized='windowed', window_column='flight_date') }}

-- Punctuality for people and dashboards: one row per day, airport and carrier.
select
    flights.flight_date,
    flights.origin,
    flights.carrier,
    airlines.carrier_name,
    cast(count(*) as integer) as scheduled_flights,
    cast(count(*) filter (where flights.outcome = 'flown') as integer) as flown_flights,
    cast(count(*) filter (where flights.outcome = 'cancelled') as integer) as cancelled_flights,
    cast(count(*) filter (where flights.outcome = 'diverted') as integer) as diverted_flights,
    cast(count(*) filter (where flights.arrived_late_30) as integer) as late_flights,
    cast(avg(flights.departure_delay) as float) as mean_departure_delay,
    cast(avg(flights.arrival_delay) as float) as mean_arrival_delay
from {{ ref('fct_flights') }} as flights
left join {{ ref('stg_airlines') }} as airlines
    on flights.carrier = airlines.carrier
group by flights.flight_date, flights.origin, flights.carrier, airlines.carrier_name
