{#-
    Fast-changing state (delays of the last hour, flights overdue now) is published at ticks: what
    became known during the minutes up to a tick is available at that tick, never before it.
-#}

{#- The first tick at or after an instant. -#}
{% macro tick_after(instant, minutes) -%}
    make_timestamptz(
        (epoch_us({{ instant }}) + {{ minutes * 60000000 - 1 }})
        // {{ minutes * 60000000 }} * {{ minutes * 60000000 }}
    )
{%- endmacro %}

{#- Every tick of the New York days from `first_date` to `last_date`. -#}
{% macro ticks_of_days(first_date, last_date, minutes) -%}
    unnest(
        generate_series(
            {{ midnight(first_date) }},
            {{ midnight(last_date + ' + 1') }} - interval '{{ minutes }} minutes',
            interval '{{ minutes }} minutes'
        )
    )
{%- endmacro %}

{#- The instant at which a New York date begins. -#}
{% macro midnight(date) -%}
    (cast({{ date }} as timestamp) at time zone 'America/New_York')
{%- endmacro %}

{#- The New York date of an instant. -#}
{% macro new_york_date(instant) -%}
    cast({{ instant }} at time zone 'America/New_York' as date)
{%- endmacro %}

{#- A window frame of the last ticks: 60 minutes of ten-minute ticks are 6 rows. -#}
{% macro last_ticks(entity, hours, minutes) -%}
    partition by {{ entity }} order by available_at
    rows between {{ (hours * 60 // minutes) - 1 }} preceding and current row
{%- endmacro %}
