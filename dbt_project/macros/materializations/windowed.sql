{#-
    A table that is rebuilt one window of `window_column` at a time.

    Builds `<model>__batch`, the model's rows with window_start <= window_column < window_end
    (variables of the run; without them, all rows), and makes `<model>` a view of the whole table as
    it will be once the batch is published: the published rows outside the window, and the batch.
    So a downstream model always sees complete history. The platform publishes the batch after the
    model's tests passed.
-#}
{% macro in_window(window_column) -%}
    {{ window_column }} >= cast('{{ var("window_start") }}' as date)
    and {{ window_column }} < cast('{{ var("window_end") }}' as date)
{%- endmacro %}

{% materialization windowed, adapter="duckdb" %}
    {%- set window_column = config.require('window_column') -%}
    {%- set has_window = var('window_start', none) is not none -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {%- set batch = api.Relation.create(
        database=this.database, schema=this.schema, identifier=this.identifier ~ '__batch', type='table'
    ) -%}
    {%- set published = api.Relation.create(
        database=this.database, schema=this.schema, identifier=this.identifier ~ '__published', type='view'
    ) -%}

    {{ run_hooks(pre_hooks) }}
    {% if config.get('contract').enforced %}
        {{ get_assert_columns_equivalent(sql) }}
    {% endif %}

    {% call statement('main') -%}
        create or replace table {{ batch }} as
        select * from (
            {{ sql }}
        ) as model
        {% if has_window %} where {{ in_window(window_column) }} {% endif %}
    {%- endcall %}

    {% if has_window and existing is not none %}
        {% do adapter.rename_relation(existing, published) %}
        {% call statement('show_whole_table') -%}
            create or replace view {{ target_relation }} as
            select * from {{ published }} where not ({{ in_window(window_column) }})
            union all by name
            select * from {{ batch }}
        {%- endcall %}
    {% else %}
        {% call statement('show_whole_table') -%}
            create or replace view {{ target_relation }} as
            select * from {{ batch }}
        {%- endcall %}
    {% endif %}

    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
