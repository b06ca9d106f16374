"""What to try next: Optuna's tree-structured Parzen estimator, the same after a resumption."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, TPESampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

RETRY_OF = "retry_of"
"""Attribute of a trial that repeats one which was killed: the number of that one."""

SLOT = "slot"
"""Attribute of such a trial: the slot of that one."""

DECLARED = "declared"
"""Attribute of the trial that tries the declared parameters."""

_RANDOM_TRIALS = 8


class SlotSampler(BaseSampler):
    """TPE (Bergstra et al. 2011, NeurIPS; Watanabe 2023, arXiv:2304.11127) that restarts alike.

    Optuna's own sampler draws from one stream of random numbers, which a resumed search would begin
    again: its first trials would be those of the killed one. Here every trial has numbers of its
    own, drawn by the seed and the trial's *slot*: its place among the trials, where one that was
    killed and the one that repeats it share a place. So trial n depends on the seed and on the
    trials that ended before it, and on nothing else.

    Parameters
    ----------
    space
        All that is searched. Known in advance, so a trial that lacks a parameter (the declared one
        may) does not narrow what is sampled jointly, as it would in Optuna.
    seed
        Of the search.
    parallel
        Whether trials run at the same time; those running are then avoided.
    """

    def __init__(
        self, space: "Mapping[str, BaseDistribution]", seed: int, *, parallel: bool
    ) -> None:
        self._space = {name: kind for name, kind in space.items() if not kind.single()}
        self._seed = seed
        self._parallel = parallel
        self._declared: Mapping[str, Any] = {}

    def reveal(self, parameters: Mapping[str, Any]) -> None:
        """Say what the parameters of the declared trial turned out to be."""
        self._declared = parameters

    def infer_relative_search_space(
        self, study: "Study", trial: "FrozenTrial"
    ) -> "dict[str, BaseDistribution]":
        """Return the whole space, for all trials but the declared one, which samples nothing."""
        del study
        return {} if trial.user_attrs.get(DECLARED) else self._space

    def sample_relative(
        self, study: "Study", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
    ) -> dict[str, Any]:
        """Draw all parameters together."""
        if not search_space:
            return {}
        stream = np.random.SeedSequence([self._seed, slot_of(study, trial)])
        inner = TPESampler(
            seed=int(stream.generate_state(1)[0]),
            n_startup_trials=_RANDOM_TRIALS,
            constant_liar=self._parallel,
        )
        return inner.sample_relative(study, trial, search_space) or {
            name: inner.sample_independent(study, trial, name, kind)
            for name, kind in search_space.items()
        }

    def sample_independent(
        self,
        study: "Study",
        trial: "FrozenTrial",
        param_name: str,
        param_distribution: "BaseDistribution",
    ) -> Any:
        """Return what was revealed of the declared trial."""
        del study, trial, param_distribution
        return self._declared[param_name]


def slot_of(study: "Study", trial: "FrozenTrial") -> int:
    """Return a trial's slot: its number, less the repetitions before it."""
    if SLOT in trial.user_attrs:
        return int(trial.user_attrs[SLOT])
    repeated = sum(
        RETRY_OF in other.user_attrs
        for other in study.get_trials(deepcopy=False)
        if other.number < trial.number
    )
    return trial.number - repeated
