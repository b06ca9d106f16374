{#- Rows that break a condition. A condition that is null for a row, for want of a value, holds. -#}
{% test every_row(model, condition) %}
    select *
    from {{ model }}
    where not ({{ condition }})
{% endtest %}
