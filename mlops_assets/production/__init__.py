"""The production loop: a model in use is watched, judged, trained again, and taken back if need be.

Here belongs what ties serving, monitoring, alerting and training together, as plain functions that
the assets of a graph, the command line and a replay of history all call. Nothing here knows
Dagster. This module imports nothing heavy; import what is needed from the modules beside it.
"""
