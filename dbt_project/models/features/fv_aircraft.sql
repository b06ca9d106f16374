-- What an aircraft is. It is registered in the year that it was built; the day is not known.
select
    tailnum,
    make_timestamptz(coalesce(manufactured_year, 1987), 1, 1, 0, 0, 0.0, 'UTC') as registered_at,
    manufactured_year as aircraft_manufactured_year,
    seats as aircraft_seats,
    engines as aircraft_engines,
    manufacturer as aircraft_manufacturer,
    engine_type as aircraft_engine_type
from {{ ref('stg_planes') }}
