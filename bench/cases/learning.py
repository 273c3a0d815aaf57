"""Losses with gradients and steps of training, jitted where a library has that."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.comparison import WITH_ARRAYS, Arguments, compared
from bench.declare import OURS, Case, Workload
from bench.programs.learning import (
    logistic_loss_and_gradient,
    logistic_loss_and_gradient_by_hand,
    network_arguments,
    torch_training_step,
    training_step,
    training_step_by_hand,
)

F4, F8 = "float32", "float64"
PEERS = (*WITH_ARRAYS, "autograd")


def _examples(count: int, features: int, dtype: str) -> Arguments:
    def make() -> tuple[np.ndarray, ...]:
        random = np.random.default_rng(0)
        weights, bias = random.normal(size=features) / 8.0, np.array(0.1)
        examples = random.normal(size=(count, features))
        labels = np.where(examples @ weights + random.normal(size=count) > 0, 1.0, -1.0)
        return tuple(array.astype(dtype) for array in (weights, bias, examples, labels))

    return make


def _logistic(count: int, dtype: str, goal: float) -> Workload:
    return compared(
        f"logistic regression {count}x64, loss and gradient",
        logistic_loss_and_gradient,
        _examples(count, 64, dtype),
        _examples(7, 3, dtype),
        dtype=dtype,
        peers=PEERS,
        instead={"numpy": logistic_loss_and_gradient_by_hand},
        faster_than={"jax": goal},
        tolerance={F4: 1e-4, F8: 1e-10}[dtype],
    )


def _network(sizes: tuple[int, ...], batch: int, goal: float) -> Workload:
    layers = "-".join(map(str, sizes))
    return compared(
        f"training step of a network {layers}, batch {batch}",
        training_step,
        partial(network_arguments, sizes, batch, F4),
        partial(network_arguments, (5, 4, 3), 6, F4),
        dtype=F4,
        peers=PEERS,
        instead={"numpy": training_step_by_hand, "torch": torch_training_step},
        faster_than={"jax": goal},
        # Rounding decides on which side of its corner a relu is whose argument is nearly zero, and
        # with it whether one example takes part in a few derivatives.
        tolerance=0.2,
    )


CASE = Case(
    name="learning",
    about=f"Gradients: {OURS}, jax, torch and autograd by their own, numpy written out by hand.",
    workloads=(
        *[
            _logistic(count, dtype, goal)
            for count, goal in ((4_096, 2.3), (131_072, 4.0))
            for dtype in (F4, F8)
        ],
        _network((64, 64, 64, 10), 32, 1.8),
        _network((784, 512, 512, 10), 128, 1.0),
    ),
)
