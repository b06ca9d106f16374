"""Tuning: the search for a candidate's parameters, on train and validation alone.

One process keeps the study and asks Optuna what to try next; worker processes fit. So the study has
one writer whatever the number of workers, a fit that crashes, hangs or takes all memory ends its
worker and not the search, and a serial search gives the same trials every time. The study is on
disk after every trial: a search that was killed goes on where it stopped.
"""

from mlops_assets.training.search_space import name_study
from mlops_assets.training.tuning.result import (
    SearchResult,
    TrialRecord,
    TrialState,
    TuningError,
    trials_table,
)
from mlops_assets.training.tuning.searching import search

__all__ = [
    "SearchResult",
    "TrialRecord",
    "TrialState",
    "TuningError",
    "name_study",
    "search",
    "trials_table",
]
