"""Transformations: running the dbt project over the lake.

Here belongs what knows dbt: reading its manifest, building models in a scratch DuckDB over the
lake's tables, and publishing to Delta what passed its tests. The SQL itself is in ``dbt_project/``;
what the models mean to Dagster is in ``orchestration``.
"""
