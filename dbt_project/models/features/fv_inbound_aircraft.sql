{{ config(materialized='windowed', window_column='flight_date') }}

-- Where the aircraft of a flight is: the state of its previous leg, one row whenever it changes.
-- Assumed: a day ahead it is known which aircraft flies which flight.
with legs as (
    select
        *,
        scheduled_departure_at - interval '24 hours' as assigned_at,
        -- Minutes that the previous leg may be late before this flight is, if the aircraft flies
        -- straight back and takes half an hour to turn around at each end.
        ground_minutes - previous_scheduled_minutes - 60 as slack_minutes
    from {{ ref('int_aircraft_legs') }}
    where {{ known_history('flight_date', 0) }}
),

planned as (
    select
        *,
        assigned_at as event_at,
        'planned' as inbound_state,
        0 as progress,
        null as inbound_departure_delay,
        null as inbound_arrival_delay
    from legs
),

-- While the aircraft does not move its lateness grows; in steps, to bound the rows.
steps (late_minutes) as (
    values (15), (30), (45), (60), (90), (120), (180), (240), (360), (480)
),

overdue as (
    select
        legs.*,
        legs.previous_scheduled_departure_at + to_minutes(steps.late_minutes) as event_at,
        'overdue' as inbound_state,
        1 as progress,
        steps.late_minutes as inbound_departure_delay,
        null as inbound_arrival_delay
    from legs
    inner join steps
        on
            legs.previous_scheduled_departure_at + to_minutes(steps.late_minutes)
            < legs.previous_departure_known_at
),

departed as (
    select
        *,
        previous_departed_at as event_at,
        'departed' as inbound_state,
        2 as progress,
        previous_departure_delay as inbound_departure_delay,
        null as inbound_arrival_delay
    from legs
    where previous_departed_at is not null
),

cancelled as (
    select
        *,
        previous_departure_known_at as event_at,
        'cancelled' as inbound_state,
        2 as progress,
        null as inbound_departure_delay,
        null as inbound_arrival_delay
    from legs
    where previous_is_cancelled
),

arrived as (
    select
        *,
        previous_arrived_at as event_at,
        'arrived' as inbound_state,
        3 as progress,
        previous_departure_delay as inbound_departure_delay,
        previous_arrival_delay as inbound_arrival_delay
    from legs
    where previous_arrived_at is not null
),

states as (
    select * from planned
    union all by name
    select * from overdue
    union all by name
    select * from departed
    union all by name
    select * from cancelled
    union all by name
    select * from arrived
)

select
    flight_id,
    flight_date,
    event_at,
    greatest(event_at, assigned_at) as available_at,
    inbound_state,
    leg_of_day as aircraft_leg_of_day,
    ground_minutes as inbound_ground_minutes,
    cast(slack_minutes as integer) as inbound_slack_minutes,
    cast(inbound_departure_delay as smallint) as inbound_departure_delay,
    cast(inbound_arrival_delay as smallint) as inbound_arrival_delay,
    cast(coalesce(inbound_arrival_delay, inbound_departure_delay) - slack_minutes as integer)
        as inbound_projected_delay
from states
-- Nobody asks for this flight's aircraft after the flight was due to leave.
where event_at < scheduled_departure_at
-- What happened before the aircraft was assigned becomes known all at once: its last state counts.
qualify
    row_number() over (
        partition by flight_id, greatest(event_at, assigned_at)
        order by progress desc, event_at desc
    ) = 1
