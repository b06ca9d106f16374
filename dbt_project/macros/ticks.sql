{#-
    Rolling values. Events are ordered by `known_minute`, whole minutes since 1970: the data are in
    minutes, and window frames over integers cost half of what frames over instants cost. Sums are
    kept as doubles for the same reason; sums of whole minutes are exact in them.

    Fast-changing state (delays of the last hour, flights overdue now) is published at ticks: what
    became known during the minutes up to a tick is available at that tick, never before it.
-#}

{#- Whole minutes since 1970. -#}
{% macro minute_of(instant) -%}
    (epoch_us({{ instant }}) // 60000000)
{%- endmacro %}

{#- The instant at which a minute since 1970 begins. -#}
{% macro instant_of(minute) -%}
    make_timestamptz({{ minute }} * 60000000)
{%- endmacro %}

{#- The first tick at or after a minute. -#}
{% macro tick_after(minute, every) -%}
    ({{ minute }} + {{ every - 1 }}) // {{ every }} * {{ every }}
{%- endmacro %}

{#- The minutes of all ticks of the New York days from `first_date` to `last_date`. -#}
{% macro ticks_of_days(first_date, last_date, every) -%}
    unnest(
        range(
            {{ minute_of(midnight(first_date)) }},
            {{ minute_of(midnight(last_date + ' + 1')) }},
            {{ every }}
        )
    )
{%- endmacro %}

{#- What became known during the last hours, the present minute included. -#}
{% macro last_hours(entity, hours) -%}
    partition by {{ entity }} order by known_minute
    range between {{ hours * 60 - 1 }} preceding and current row
{%- endmacro %}

{#-
    The rows of a relation, each with the number of rows before it that the last hours hold, one
    column a width: `rows_24h`. DuckDB then finds the bound of a window once for all sums over it;
    with a range frame each sum finds it again (0.4 of the time at 3.4 million flights). The rows
    must be unique in entity and `known_minute`.
-#}
{% macro with_frames(relation, entity, hours) -%}
    (
        select
            *
            {%- for width in hours %},
            count(*) over ({{ last_hours(entity, width) }}) - 1 as rows_{{ width }}h
            {%- endfor %}
        from {{ relation }}
    ) as {{ relation }}
{%- endmacro %}

{#- The window `last_hours` over rows that come from `with_frames`. -#}
{% macro frame(entity, hours) -%}
    partition by {{ entity }} order by known_minute
    rows between rows_{{ hours }}h preceding and current row
{%- endmacro %}
