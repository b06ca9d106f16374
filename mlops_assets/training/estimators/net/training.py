"""How the net learns: AdamW over shuffled mini-batches, stopped early, best weights kept."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlops_assets.training.estimators.net.architecture import Network
from mlops_assets.training.estimators.net.parameters import NetParameters
from mlops_assets.training.estimators.net.rows import Rows
from mlops_assets.training.estimators.protocol import EstimatorError, FitOptions, LearningCurve

Loss = Callable[[Tensor, Tensor], Tensor]
"""From raw outputs, shape (..., outputs), and labels, shape (...,), to the mean loss."""

_EVALUATED_ROWS = 4096  # at once, where nothing is learnt from them
_PYTORCH_IS_ONE = threading.Lock()  # its random state and its settings belong to the process


@dataclass(frozen=True)
class Labelled:
    """Rows with what is to be learnt.

    Attributes
    ----------
    rows
        The features.
    label
        Shape (rows,): class positions as int64, or what the network is to come near as float32.
    """

    rows: Rows
    label: Tensor


@dataclass(frozen=True)
class Trained:
    """What came of training.

    Attributes
    ----------
    network
        With the weights that were kept, on the CPU.
    curve
        Loss of each pass.
    """

    network: Network
    curve: LearningCurve


@contextmanager
def reproducible(options: FitOptions) -> Iterator[None]:
    """Give the seed's random state, its number of threads and deterministic algorithms to a block.

    PyTorch keeps all three for the whole process; they are as they were afterwards.
    """
    # Without it cuBLAS refuses to be deterministic; read when a GPU is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=deterministic)
        torch.set_num_threads(threads)


def seeded(build: Callable[[], Network], seed: int) -> Network:
    """Build a network whose first weights depend on the seed alone."""
    with _PYTORCH_IS_ONE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def device_named(name: str) -> torch.device:
    """Return where to train.

    Raises
    ------
    EstimatorError
        When this machine has no such device.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there[name]:
        raise EstimatorError(f"net parameter device: this machine has no {name!r}; use 'auto'")
    return torch.device(name)


def train(
    network: Network,
    loss: Loss,
    learn: Labelled,
    watch: Labelled | None,
    parameters: NetParameters,
    options: FitOptions,
) -> Trained:
    """Train a network.

    Parameters
    ----------
    network
        Fresh; it is changed.
    loss
        What to minimise: each member's own loss in training, that of their mean when watching.
    learn
        What to learn from.
    watch
        What decides when to stop. None learns for exactly `parameters.epochs`.
    parameters, options
        How.

    Raises
    ------
    EstimatorError
        When the loss is no longer a number.
    """
    device = device_named(parameters.device)
    network.to(device)
    kept = deepcopy(network)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=parameters.learning_rate, weight_decay=parameters.weight_decay
    )
    order = np.random.default_rng(options.seed)
    dropout = torch.Generator(device).manual_seed(options.seed)
    average, step = deepcopy(network).requires_grad_(requires_grad=False), 0
    curve: dict[str, list[float]] = {"train": [], "validation": []}
    best, size = 0, parameters.batch_size_for(len(learn.rows))
    for epoch in range(parameters.epochs):
        total = 0.0
        for chosen in _shuffled(len(learn.rows), size, order):
            numbers, categories = (part.to(device) for part in learn.rows.take(chosen))
            label = learn.label[torch.from_numpy(chosen)].to(device)
            outputs = network(numbers, categories, dropout)
            value = loss(outputs, label[:, None].expand(-1, outputs.shape[1]))
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it without types
            optimiser.step()
            step += 1
            _move(average, network, min(parameters.averaging, step / (10 + step)))
            total += value.item() * len(chosen)
        losses = {"train": total / len(learn.rows)}
        if watch is not None:
            losses["validation"] = evaluate(average, loss, watch, device)
        _refuse_non_finite(losses, epoch, parameters)
        for part, found in losses.items():
            curve[part].append(found)
        watched = curve["validation"]
        if watch is None or watched[-1] < min(watched[:-1], default=np.inf):
            best = epoch
            kept.load_state_dict(average.state_dict())
        stop = options.progress is not None and (
            options.progress(epoch + 1, parameters.epochs, losses) is False
        )
        if stop or epoch - best >= parameters.patience:
            break
    history = LearningCurve(tuple(curve["train"]), tuple(curve["validation"]), best)
    return Trained(kept.cpu().requires_grad_(requires_grad=False), history)


def evaluate(network: Network, loss: Loss, on: Labelled, device: torch.device) -> float:
    """Return the mean loss of the members' mean outputs."""
    total, start = 0.0, 0
    for outputs in raw_outputs(network, on.rows, device):
        label = on.label[start : start + len(outputs)].to(device)
        total += loss(outputs, label).item() * len(outputs)
        start += len(outputs)
    return total / len(on.rows)


def raw_outputs(network: Network, rows: Rows, device: torch.device) -> Iterator[Tensor]:
    """Return the members' mean raw outputs, batch by batch, each of shape (rows, outputs)."""
    with torch.inference_mode():
        for numbers, categories in rows.batches(_EVALUATED_ROWS):
            yield network(numbers.to(device), categories.to(device)).mean(dim=1)


def _shuffled(rows: int, size: int, random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    order = random.permutation(rows)
    for start in range(0, rows, size):
        yield order[start : start + size]


def _move(average: Network, network: Network, decay: float) -> None:
    """Move the running mean of the weights towards the weights."""
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)


def _refuse_non_finite(losses: Mapping[str, Any], epoch: int, parameters: NetParameters) -> None:
    wrong = {part: value for part, value in losses.items() if not np.isfinite(value)}
    if wrong:
        raise EstimatorError(
            f"net: the loss became {wrong} in epoch {epoch + 1} with learning_rate "
            f"{parameters.learning_rate}; lower it"
        )
