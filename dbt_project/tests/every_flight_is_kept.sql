-- Flights that a mart lost or gained: cancelled and diverted ones are rows like any other.
select
    flights.flight_id as staged_flight_id,
    facts.flight_id as fact_flight_id,
    spine.flight_id as spine_flight_id
from {{ ref('stg_flights') }} as flights
full outer join {{ ref('fct_flights') }} as facts
    on flights.flight_id = facts.flight_id
full outer join {{ ref('spine_flights') }} as spine
    on flights.flight_id = spine.flight_id
where flights.flight_id is null or facts.flight_id is null or spine.flight_id is null
