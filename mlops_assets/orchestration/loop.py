"""What keeps the production loop apart: assets with a rhythm of their own, made by no other job.

Predictions and monitoring follow new days and a champion, and published tables are checked when
somebody wrote to them. Whoever makes everything from raw data to the champion does not make them;
their own jobs and sensors do.
"""

from collections.abc import Mapping

import dagster as dg

_TAG, _VALUE = "mlops/part_of", "production_loop"

LOOP_TAGS: Mapping[str, str] = {_TAG: _VALUE}
"""Tags of every asset of the loop."""

ON_DEMAND = frozenset({"published"})
"""Checks of the loop, by name: they are run when there is a reason, and may never have been."""


def outside_the_loop(declared: dg.Definitions) -> dg.AssetSelection:
    """Select all assets but those of the loop, with their checks but those of the loop.

    Parameters
    ----------
    declared
        Everything that the project declares.
    """
    assets = dg.AssetSelection.all() - dg.AssetSelection.tag(_TAG, _VALUE)
    checks = [
        check
        for check in declared.asset_checks or ()
        if {key.name for key in check.check_keys} <= ON_DEMAND
    ]
    return assets - dg.AssetSelection.checks(*checks) if checks else assets
