"""The drawings of a model card: those of the report, as values that are kept with the card."""

from collections.abc import Iterable

from mlops_assets.registry.card.content import Picture
from mlops_assets.training import pictures
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.pictures import Plot


def drawn(plots: Iterable[Plot]) -> tuple[Picture, ...]:
    """Draw pictures."""
    return tuple(
        Picture(title=plot.title, caption=plot.caption, svg=plot.svg(), wide=plot.wide)
        for plot in plots
    )


def calibration_pictures(test: Evaluation) -> tuple[Picture, ...]:
    """Draw predicted against observed on test."""
    return drawn(
        [
            Plot(
                "calibration",
                "Calibration on test",
                "On the diagonal, an answer means what it says.",
                pictures.calibration({"model": test}),
            )
        ]
    )
