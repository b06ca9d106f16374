{{ config(materialized='windowed', window_column='observation_date') }}

-- The weather at each New York airport, and where it is heading. An observation counts from the
-- end of its hour.
with observations as (
    select
        *,
        {{ minute_of('observed_at') }} as known_minute
    from {{ ref('stg_weather') }}
    where {{ known_history('observation_date', 2) }}
)

select
    origin,
    observed_at,
    observed_at + interval '1 hour' as available_at,
    observation_date,
    cast(temperature_f as float) as weather_temperature_f,
    cast(dew_point_f as float) as weather_dew_point_f,
    cast(temperature_f - dew_point_f as float) as weather_dew_point_spread_f,
    cast(humidity_percent as float) as weather_humidity_percent,
    cast(pressure_millibars as float) as weather_pressure_millibars,
    -- A falling barometer is weather to come.
    cast(pressure_millibars - first_value(pressure_millibars) over since_3_hours_ago as float)
        as weather_pressure_change_3h,
    cast(visibility_miles as float) as weather_visibility_miles,
    cast(min(visibility_miles) over last_3_hours as float) as weather_visibility_min_3h,
    wind_direction_degrees as weather_wind_direction_degrees,
    cast(wind_speed_mph as float) as weather_wind_speed_mph,
    cast(max(wind_speed_mph) over last_6_hours as float) as weather_wind_speed_max_6h,
    -- Runways lie along compass directions: the wind's components decide which are in use.
    cast(sin(radians(wind_direction_degrees)) * wind_speed_mph as float)
        as weather_wind_from_east_mph,
    cast(cos(radians(wind_direction_degrees)) * wind_speed_mph as float)
        as weather_wind_from_north_mph,
    -- No gust is reported when there is none.
    cast(max(coalesce(wind_gust_mph, 0)) over last_3_hours as float) as weather_gust_max_3h,
    cast(precipitation_inches as float) as weather_precipitation_inches,
    -- Rounded to hundredths as reported: decimals summed in another order differ in the last bit.
    cast(round(sum(precipitation_inches) over last_3_hours, 2) as float)
        as weather_precipitation_3h,
    cast(round(sum(precipitation_inches) over last_6_hours, 2) as float)
        as weather_precipitation_6h,
    cast(round(sum(precipitation_inches) over last_day, 2) as float) as weather_precipitation_24h
from observations
window
    since_3_hours_ago as (
        partition by origin order by known_minute
        range between {{ 3 * 60 }} preceding and current row
    ),
    last_3_hours as ({{ last_hours('origin', 3) }}),
    last_6_hours as ({{ last_hours('origin', 6) }}),
    last_day as ({{ last_hours('origin', 24) }})
