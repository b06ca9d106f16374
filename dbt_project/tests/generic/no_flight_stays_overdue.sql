{#- Flights whose changes do not cancel out: they would count as overdue for ever. -#}
{% test no_flight_stays_overdue(model) %}
    select flight_id
    from {{ model }}
    group by flight_id
    having sum(overdue_change) != 0 or sum(overdue_20_change) != 0
{% endtest %}
