{{ config(materialized='windowed', window_column='observation_date') }}

-- The worst and the typical weather over a metropolitan area. What one airport has now its
-- neighbours have soon.
select
    airports.metro,
    weather.observed_at,
    weather.observed_at + interval '1 hour' as available_at,
    weather.observation_date,
    cast(round(avg(weather.visibility_miles), 2) as float) as metro_visibility_miles,
    cast(max(weather.precipitation_inches) as float) as metro_precipitation_max_inches,
    cast(max(coalesce(weather.wind_gust_mph, 0)) as float) as metro_gust_max_mph
from {{ ref('stg_weather') }} as weather
inner join {{ ref('stg_airports') }} as airports
    on weather.origin = airports.faa
where airports.metro is not null
group by airports.metro, weather.observed_at, weather.observation_date
