"""The net as an estimator: fit, learn again, answer, explain, save and load."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor

from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators.net.architecture import Network
from mlops_assets.training.estimators.net.attribution import contributions
from mlops_assets.training.estimators.net.losses import (
    LabelScale,
    label_tensor,
    loss_of,
    rising,
)
from mlops_assets.training.estimators.net.parameters import NetParameters
from mlops_assets.training.estimators.net.rows import NumberScales, Rows, Vocabulary
from mlops_assets.training.estimators.net.training import (
    Labelled,
    Trained,
    raw_outputs,
    reproducible,
    seeded,
    train,
)
from mlops_assets.training.estimators.protocol import (
    LOG_ODDS,
    MIDDLE_QUANTILE,
    PREDICTED_CLASS,
    EstimatorError,
    Explanation,
    FitOptions,
    LearningCurve,
    Manifest,
    check_classes,
)
from mlops_assets.training.tasks import Multiclass, Regression, Task

if TYPE_CHECKING:
    import pandas as pd

_BACKGROUND_ROWS = 32  # training rows that explanations are counted from
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Net:
    """A fitted deep tabular net; see `mlops_assets.training.estimators.protocol.Estimator`.

    Attributes
    ----------
    vocabulary
        Categories known from training.
    scales
        Of the numbers.
    label_scale
        From the network's outputs to the label's unit; of a regression.
    background
        Training rows from which contributions are counted, as `Rows` gives them.
    """

    flavor: ClassVar[str] = "mlops_assets"
    FILE: ClassVar[str] = "network.pt"
    requirements: ClassVar[tuple[str, ...]] = ("torch", "tabm", "rtdl_num_embeddings")

    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: Network
    vocabulary: Vocabulary
    scales: NumberScales
    label_scale: LabelScale
    background: tuple[Tensor, Tensor]

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Learn until the validation loss has not improved for `patience` epochs."""
        chosen = NetParameters.of(parameters)
        chosen = chosen.model_copy(update={"batch_size": chosen.batch_size_for(len(train))})
        return cls._learnt(train, validation, chosen, options)

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Learn for as many epochs as validation found best, without stopping early."""
        best = self.learning_curve.best_iteration
        if best is None:
            raise EstimatorError("net: how many epochs were best is not known; fit it first")
        chosen = NetParameters.of({**self.parameters, "epochs": best + 1})
        again = self._learnt(part, None, chosen, options)
        return replace(again, parameters=self.parameters, learning_curve=self.learning_curve)

    @classmethod
    def _learnt(
        cls, part: Part, validation: Part | None, chosen: NetParameters, options: FitOptions
    ) -> Self:
        check_classes(part)
        schema, task = part.schema, part.task
        random = np.random.default_rng(options.seed)
        vocabulary = Vocabulary.of(part.features, schema, chosen.min_category_rows)
        scales = NumberScales.of(part.features, schema, chosen.n_bins, random)
        label_scale = LabelScale.of(task, part.label)

        def labelled(rows: Part) -> Labelled:
            return Labelled(
                Rows(rows.features, schema, vocabulary),
                label_tensor(task, label_scale, rows.label),
            )

        learn = labelled(part)
        with reproducible(options):
            network = seeded(
                lambda: Network(scales, vocabulary.sizes, len(task.outputs), chosen), options.seed
            )
            trained: Trained = train(
                network,
                loss_of(task, label_scale),
                learn,
                None if validation is None else labelled(validation),
                chosen,
                options,
            )
        count = min(_BACKGROUND_ROWS, len(part))
        background = learn.rows.take(np.sort(random.choice(len(part), count, replace=False)))
        return cls(
            schema,
            task,
            chosen.model_dump(),
            trained.curve,
            trained.network,
            vocabulary,
            scales,
            label_scale,
            background,
        )

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return probabilities, or quantiles, which cannot cross."""
        raw = self._raw(features)
        if isinstance(self.task, Regression):
            quantiles = self._quantiles(raw)
            return quantiles[:, 0] if quantiles.shape[1] == 1 else quantiles
        several = isinstance(self.task, Multiclass)
        answers: NDArray[np.float64] = softmax(raw, axis=1) if several else expit(raw[:, 0])
        return answers

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's raw output by DeepSHAP against a sample of the training rows.

        Lundberg & Lee 2017 (NeurIPS) over DeepLIFT's rescale rule (Shrikumar et al. 2017, ICML):
        the sum is exact up to the rounding of float32, the shares of features that interact are
        approximate. See `mlops_assets.training.estimators.net.attribution`.
        """
        raw = self._raw(features)
        weights = np.zeros_like(raw)
        every = np.arange(len(raw))
        if isinstance(self.task, Regression):
            column, of = np.full(len(raw), self.task.middle), MIDDLE_QUANTILE
            score = self._quantiles(raw)[:, self.task.middle]
        elif isinstance(self.task, Multiclass):
            column, of = raw.argmax(axis=1), PREDICTED_CLASS
            score = raw[every, column]
        else:
            column, of, score = np.zeros(len(raw), int), LOG_ODDS, raw[:, 0]
        weights[every, column] = self.label_scale.unit
        rows = Rows(features, self.schema, self.vocabulary).take(slice(None))
        added, expected = contributions(
            self.native, rows, self.background, torch.from_numpy(weights)
        )
        names = [*self.schema.numeric, *self.schema.categorical]
        order = [names.index(name) for name in self.schema.names]
        return Explanation(
            self.schema.names,
            added.numpy()[:, order],
            expected.numpy() + self.label_scale.centre,
            score,
            of,
        )

    def _raw(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the members' mean raw outputs, shape (rows, outputs)."""
        rows = Rows(features, self.schema, self.vocabulary)
        found = [batch.double().numpy() for batch in raw_outputs(self.native, rows, _CPU)]
        return np.concatenate(found) if found else np.empty((0, len(self.task.outputs)))

    def _quantiles(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        quantiles = rising(torch.from_numpy(raw)).numpy()
        return self.label_scale.centre + self.label_scale.unit * quantiles

    def save(self, folder: Path) -> None:
        """Write the weights and what scales the features, as tensors without code."""
        torch.save(
            {
                "weights": self.native.state_dict(),
                "edges": self.scales.edges,
                "scores": self.scales.scores,
                "bins": list(self.scales.bins),
                "nullable": self.scales.nullable,
                "background": list(self.background),
            },
            folder / self.FILE,
        )
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
            self.task,
            self.parameters,
            self.learning_curve,
            state={
                "categories": {name: list(v) for name, v in self.vocabulary.categories.items()},
                "label": {"centre": self.label_scale.centre, "unit": self.label_scale.unit},
            },
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; a file that holds anything but tensors is refused."""
        from pickle import UnpicklingError

        manifest = Manifest.read(folder)
        path = folder / cls.FILE
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            scales = NumberScales(
                held["edges"], held["scores"], tuple(held["bins"]), held["nullable"]
            )
            vocabulary = Vocabulary(
                {name: tuple(v) for name, v in manifest.state["categories"].items()}
            )
            chosen = NetParameters.of(manifest.parameters)
            network = seeded(
                lambda: Network(scales, vocabulary.sizes, len(manifest.task.outputs), chosen), 0
            )
            network.load_state_dict(held["weights"])
            numbers, categories = held["background"]
            label_scale = LabelScale(**manifest.state["label"])
        except (OSError, RuntimeError, EOFError, KeyError, ValueError, UnpicklingError) as error:
            raise EstimatorError(f"{path}: PyTorch cannot read the network: {error}") from error
        return cls(
            manifest.schema,
            manifest.task,
            chosen.model_dump(),
            manifest.learning_curve,
            network.requires_grad_(requires_grad=False),
            vocabulary,
            scales,
            label_scale,
            (numbers, categories),
        )
