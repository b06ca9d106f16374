"""The model server and what stands around it: one ASGI app, its processes, its inference log.

Here belongs everything between a request and its durable answer. Which model serves is decided in
``registry``; what was known about an entity comes from ``features``. Nothing here imports Dagster,
and only the follower imports MLflow: a worker starts in the time its model takes to load.
"""
