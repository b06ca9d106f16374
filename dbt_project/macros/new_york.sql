{#- The calendar of the departures, which are all in New York. -#}

{#- The instant at which a New York date begins. -#}
{% macro midnight(date) -%}
    (cast({{ date }} as timestamp) at time zone 'America/New_York')
{%- endmacro %}

{#- The New York date of an instant. -#}
{% macro new_york_date(instant) -%}
    cast({{ instant }} at time zone 'America/New_York' as date)
{%- endmacro %}
