-- Every airport that a flight serves, with its time zone, region and metropolitan area.
with listed as (
    select
        faa,
        name as airport_name,
        lat as latitude,
        lon as longitude,
        tzone as time_zone
    from {{ source('raw', 'airports') }}
),

-- The source lists no airport of Puerto Rico and the Virgin Islands, and flights serve four.
-- Without their time zone the arrivals of 7,602 flights of 2013 would have no instant.
caribbean (faa, airport_name, latitude, longitude, time_zone) as (
    values
    ('BQN', 'Rafael Hernandez Airport', 18.4949, -67.1294, 'America/Puerto_Rico'),
    ('PSE', 'Mercedita Airport', 18.0083, -66.5630, 'America/Puerto_Rico'),
    ('SJU', 'Luis Munoz Marin International Airport', 18.4394, -66.0018, 'America/Puerto_Rico'),
    ('STT', 'Cyril E. King Airport', 18.3373, -64.9734, 'America/St_Thomas')
),

-- A listed airport wins, so that the source may one day list these four itself.
airports as (
    select * from listed
    union all
    select * from caribbean
    where caribbean.faa not in (select listed.faa from listed)
)

select
    faa,
    airport_name,
    latitude,
    longitude,
    time_zone,
    -- Neighbouring airports share weather and airspace: cells of 4 by 5 degrees, by their centre.
    concat(
        cast(round(latitude / 4) * 4 as integer),
        'N ',
        cast(round(longitude / 5) * 5 as integer),
        'E'
    ) as region,
    case when faa in ('EWR', 'JFK', 'LGA') then 'NYC' end as metro
from airports
