{#-
    Keeps of an upstream table what the rows of this run's window can depend on.

    A run over a window (variables window_start and window_end) needs the rows of the window and of
    the `days` before it; a run without a window needs every row. `days` is also declared as
    `lookback_days` in the model's meta, so that a correction upstream rebuilds the days after it.
-#}
{% macro known_history(column, days) -%}
    {%- if var('window_start', none) is none -%} true
    {%- else -%}
        {{ column }} >= cast('{{ var("window_start") }}' as date) - {{ days }}
        and {{ column }} < cast('{{ var("window_end") }}' as date)
    {%- endif -%}
{%- endmacro %}
