"""Makes some tables of a whole year in one run; a test kills it at any moment.

Its arguments are the home and the tables. It says ``begun`` when the run begins.
"""

import sys
from pathlib import Path

import dagster as dg

from mlops_assets.definitions import build_defs
from mlops_assets.orchestration.instance import open_instance
from mlops_assets.orchestration.running import RANGE_END, RANGE_START
from mlops_assets.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(home=Path(sys.argv[1]))
    defs = build_defs(settings)
    with open_instance(settings) as instance:
        print("begun", flush=True)
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey.from_user_string(table) for table in sys.argv[2:]],
            tags={RANGE_START: "2013-01-01", RANGE_END: "2013-12-31"},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    print("succeeded" if result.success else "failed", flush=True)
