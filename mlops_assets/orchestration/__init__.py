"""All that knows Dagster: components, checks, sensors, resources, and running them.

A component turns a declaration (YAML) into assets and hands the work to the plain packages. A
``defs.yaml`` names it by its module: ``mlops_assets.orchestration.raw_table.RawTable``. Nothing is
imported here, because Dagster's own processes import single modules of this package.
"""
