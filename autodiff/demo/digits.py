"""A classifier of handwritten digits, trained with `jit(value_and_grad(loss))`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

import autodiff as ad
from autodiff import random

HIDDEN = 96
BATCH = 100
EPOCHS = 24
RATE = 2e-3


@dataclass(frozen=True, slots=True)
class Digits:
    """Images `(n, 64)` in [0, 1] and labels `(n,)`: two thirds to train, one third held out."""

    images: np.ndarray
    labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray


def load() -> Digits:
    """Return the 1,797 digits that come inside scikit-learn, shuffled by a fixed key."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    order = random.permutation(random.key(1), len(data.target))
    images = (data.data[order] / 16).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    count = len(labels) * 2 // 3
    return Digits(images[:count], labels[:count], images[count:], labels[count:])


def initial_parameters() -> list[dict[str, Any]]:
    """Return the weights and biases of three layers, scaled by the number of inputs."""
    sizes = (64, HIDDEN, HIDDEN, 10)
    keys = random.split(random.key(2), len(sizes) - 1)
    return [
        {
            "w": random.normal(key, (m, n), np.float32) * np.float32(np.sqrt(2 / m)),
            "b": np.zeros(n, np.float32),
        }
        for key, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def scores(xp: ModuleType, parameters: list[dict[str, Any]], images: Any) -> Any:
    """Return unnormalised log-probabilities `(n, 10)`; `xp` is `numpy` or `autodiff.numpy`."""
    hidden = images
    for layer in parameters[:-1]:
        hidden = xp.tanh(xp.matmul(hidden, layer["w"]) + layer["b"])
    return xp.matmul(hidden, parameters[-1]["w"]) + parameters[-1]["b"]


def loss_with(xp: ModuleType) -> Callable[..., Any]:
    """Return the mean cross-entropy, written with the functions of `xp`."""

    def loss(parameters: list[dict[str, Any]], images: Any, labels: Any) -> Any:
        logits = scores(xp, parameters, images)
        largest = xp.max(logits, axis=1, keepdims=True)
        log_total = xp.log(xp.sum(xp.exp(logits - largest), axis=1)) + largest[:, 0]
        chosen = logits[np.arange(len(images)), labels]
        return xp.mean(log_total - chosen)

    return loss


def train(xp: ModuleType, digits: Digits) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Train by Adam and yield (loss of the batch, parameters) after every step.

    Source of the update: Kingma and Ba, "Adam: a method for stochastic optimization", 2015.
    """
    loss_and_gradient = ad.jit(ad.value_and_grad(loss_with(xp)))
    parameters = initial_parameters()
    first = ad.tree.map(np.zeros_like, parameters)
    second = ad.tree.map(np.zeros_like, parameters)
    step = 0
    key = random.key(3)
    for _ in range(EPOCHS):
        key, shuffle_key = random.split(key)
        order = random.permutation(shuffle_key, len(digits.labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            value, gradient = loss_and_gradient(
                parameters, digits.images[rows], digits.labels[rows]
            )
            step += 1
            first = ad.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = ad.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
            scale = RATE * float(np.sqrt(1 - 0.999**step) / (1 - 0.9**step))
            parameters = ad.tree.map(
                lambda p, m, v, scale=scale: p - scale * m / (np.sqrt(v) + 1e-8),
                parameters,
                first,
                second,
            )
            yield float(value), parameters


def predictions(parameters: list[dict[str, Any]], images: np.ndarray) -> np.ndarray:
    """Return the most probable digit of each image."""
    return np.argmax(scores(np, parameters, images), axis=1)
