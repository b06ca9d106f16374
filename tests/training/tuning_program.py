"""A search as a process of its own, to be killed: ``STORAGE TRIALS WORKERS [--slow]``.

It prints the number of each trial that ended, and at last, as JSON, what the search found.
"""

import json
import sys
from pathlib import Path

from tuning_world import PATH, candidate, family, part

from mlops_assets.lake import TableName, TableVersion
from mlops_assets.training.tuning import name_study, search

SPACE = {
    "slope": {"kind": "float", "low": 0.01, "high": 10, "log": True},
    "offset": {"kind": "float", "low": -3, "high": 3},
}


def main() -> None:
    storage, trials, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    declared = family(
        PATH,
        SPACE,
        trials=trials,
        workers=workers,
        parameters={"pause": 60 if "--slow" in sys.argv else 0.002, "iterations": 30},
    )
    found = search(
        declared,
        candidate(declared),
        part("train", days=30),
        part("validation", days=10),
        storage=storage,
        study_name=name_study(
            declared,
            candidate(declared),
            TableVersion(TableName("training", "late"), 4),
            seed=5,
        ),
        seed=5,
        threads=2,
        on_trial=lambda trial: print(trial.number, flush=True),
    )
    trials_found = [
        [t.number, t.state, t.value, dict(t.parameters), t.iterations, t.reason]
        for t in found.trials
    ]
    print(json.dumps({"trials": trials_found, "best": found.best_value, "resumed": found.resumed}))


if __name__ == "__main__":
    main()
