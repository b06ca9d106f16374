"""A code location of three small families in production, for a real daemon; see test_loop.py."""

from datetime import date

import dagster as dg

from mlops_assets.orchestration.daily import Days
from mlops_assets.orchestration.model_family.challenging import challenger, documentation
from mlops_assets.orchestration.model_family.component import watched
from mlops_assets.orchestration.model_family.judging import champion, evaluation
from mlops_assets.orchestration.model_family.learning import candidate, training_set
from mlops_assets.orchestration.model_family.retraining import retraining_defs
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import current_settings
from mlops_assets.training import ModelFamily, declare_family
from tests.registry.conftest import DECLARATION, make_views

MARCH = Days(start=date(2013, 3, 1), end=date(2013, 4, 1))
VIEWS = make_views()


def declared(name: str, **retraining: object) -> ModelFamily:
    return declare_family(
        DECLARATION
        | {
            "name": name,
            "candidates": [{"algorithm": "linear"}],
            "monitoring": {
                "windows": [7],
                "look_back": "P36500D",
                "drift": {"min_rows": 20},
                "label_due": "P1D",
            },
            "retraining": {"min_new_rows": 0, "cooldown": "PT0S", **retraining},
        }
    )


AGEING = declared("ageing", max_age="PT1M")
DRIFTING = declared("drifting")
FAILING = declared("failing", drifted_features=1.0)


def trained(family: ModelFamily) -> dg.Definitions:
    assets = [
        training_set(family, VIEWS),
        *(candidate(family, each) for each in family.candidates),
        evaluation(family),
        challenger(family),
        documentation(family, VIEWS),
        champion(family),
    ]
    return dg.Definitions.merge(dg.Definitions(assets=assets), retraining_defs(family, assets))


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions.merge(
        *map(trained, (AGEING, DRIFTING, FAILING)),
        watched(DRIFTING, VIEWS, MARCH),
        dg.Definitions(
            assets=[dg.AssetSpec(["features", name]) for name in ("flights", "delays")],
            resources={RESOURCE_KEY: Platform(current_settings())},
            executor=dg.in_process_executor,
        ),
    )
