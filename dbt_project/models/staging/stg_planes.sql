-- Aircraft as registered.
select
    tailnum,
    year as manufactured_year,
    type as aircraft_type,
    manufacturer,
    model as aircraft_model,
    engines,
    seats,
    engine as engine_type
from {{ source('raw', 'planes') }}
