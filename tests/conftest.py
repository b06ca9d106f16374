"""What every test can use."""

import os

# Set before any test imports MLflow or Dagster, which read them when they are imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "true"
