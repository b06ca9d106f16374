{#-
    Rows of a feature view that break the order of knowledge: for one entity, what was known later
    must tell of a later event, at a moment of its own, and nothing may be null. Then the newest row
    that was known is the newest event, and point-in-time joins take it without looking further.
-#}
{% test knowledge_ordered(model, entity, event_time, available_at) %}
{%- set key = entity + [event_time, available_at] | unique | list %}
    select {{ key | join(', ') }}
    from {{ model }}
    window known as (
        partition by {{ entity | join(', ') }} order by {{ available_at }}, {{ event_time }}
    )
    qualify
        {{ key | join(' is null or ') }} is null
        or {{ available_at }} = lag({{ available_at }}) over known
        or {{ event_time }} < lag({{ event_time }}) over known
{% endtest %}
