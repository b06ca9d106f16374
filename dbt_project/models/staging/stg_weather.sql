{{ config(materialized='windowed', window_column='observation_date') }}

-- Hourly observations by UTC hour; the local hour columns are ambiguous when clocks go back.
select
    observation_date,
    origin,
    time_hour as observed_at,
    temp as temperature_f,
    dewp as dew_point_f,
    humid as humidity_percent,
    wind_dir as wind_direction_degrees,
    wind_gust as wind_gust_mph,
    precip as precipitation_inches,
    pressure as pressure_millibars,
    visib as visibility_miles,
    -- No sustained surface wind has reached 254 mph; one reading of 1,048 mph is a decoding error.
    case when wind_speed < 254 then wind_speed end as wind_speed_mph
from {{ source('raw', 'weather') }}
