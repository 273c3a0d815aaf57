"""Losses with their gradients, and steps of training."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np

from bench.declare import Peer

#: Adam: Diederik P. Kingma, Jimmy Ba, "Adam: A Method for Stochastic Optimization", 2015,
#: algorithm 1, with the values it recommends.
STEP_SIZE, DECAY_1, DECAY_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8

_Step = Callable[..., tuple[Any, ...]]


# ---- logistic regression


def logistic_loss(peer: Peer) -> Callable[[Any, Any, Any, Any], Any]:
    """Return the mean negative log-likelihood: (weights, bias, examples, labels -1 or 1) -> ()."""
    xp = peer.numpy

    def loss(weights: Any, bias: Any, examples: Any, labels: Any) -> Any:
        margins = labels * (xp.matmul(examples, weights) + bias)
        return xp.mean(xp.log1p(xp.exp(-margins)))

    return loss


def logistic_loss_and_gradient(peer: Peer) -> Callable[..., Any]:
    """Return the loss with its derivatives with respect to weights and bias."""
    assert peer.value_and_grad is not None
    return peer.value_and_grad(logistic_loss(peer), (0, 1))


def logistic_loss_and_gradient_by_hand(peer: Peer) -> Callable[..., Any]:
    """Return the same, the derivatives written out."""
    xp = peer.numpy

    def f(weights: Any, bias: Any, examples: Any, labels: Any) -> Any:
        e = xp.exp(-labels * (xp.matmul(examples, weights) + bias))
        slopes = -labels * e / ((1.0 + e) * len(labels))
        return xp.mean(xp.log1p(e)), (xp.matmul(slopes, examples), xp.sum(slopes))

    return f


# ---- a network of dense layers, trained by Adam
#
# Parameters are weights and bias of each layer in turn. A step is a function
# (count, inputs, one-hot targets, *parameters, *means, *squares) -> (parameters, means, squares).


def network_arguments(sizes: tuple[int, ...], batch: int, dtype: Any) -> tuple[np.ndarray, ...]:
    """Return a step's arguments for layers of these sizes: those of a second step.

    The first one would not do to compare results. It divides each derivative by its own magnitude,
    so that a derivative of rounding errors alone moves its parameter as far as any other.
    """
    random = np.random.default_rng(0)
    inputs = random.normal(size=(batch, sizes[0]))
    targets = np.eye(sizes[-1])[random.integers(sizes[-1], size=batch)]
    parameters = []
    for fan_in, fan_out in pairwise(sizes):
        parameters.append(random.normal(size=(fan_in, fan_out)) * sqrt(2.0 / fan_in))
        parameters.append(np.full(fan_out, 0.01))  # not 0, or dead units sit on the relu's corner
    means = [np.zeros_like(parameter) for parameter in parameters]
    squares = [np.full_like(parameter, 0.01) for parameter in parameters]
    everything = (np.array(2.0), inputs, targets, *parameters, *means, *squares)
    return tuple(array.astype(dtype) for array in everything)


def network_loss(peer: Peer) -> Callable[..., Any]:
    """Return the mean cross entropy: (inputs, targets, *parameters) -> ()."""
    xp = peer.numpy

    def loss(inputs: Any, targets: Any, *parameters: Any) -> Any:
        h, last = inputs, len(parameters) - 2
        for i in range(0, len(parameters), 2):
            h = xp.matmul(h, parameters[i]) + parameters[i + 1]
            if i < last:
                h = xp.maximum(h, 0.0)
        h = h - xp.max(h, axis=-1, keepdims=True)
        logarithms = h - xp.log(xp.sum(xp.exp(h), axis=-1, keepdims=True))
        return -xp.sum(targets * logarithms) / len(targets)

    return loss


def training_step(peer: Peer) -> _Step:
    """Return one step of training by the library's own gradient."""
    assert peer.value_and_grad is not None
    loss, value_and_grad = network_loss(peer), peer.value_and_grad

    def step(count: Any, inputs: Any, targets: Any, *state: Any) -> tuple[Any, ...]:
        n = len(state) // 3
        arguments = tuple(range(2, 2 + n))
        _, gradients = value_and_grad(loss, arguments)(inputs, targets, *state[:n])
        return _adam(peer.numpy, count, gradients, state)

    return step


def training_step_by_hand(peer: Peer) -> _Step:
    """Return the same step, the gradient written out."""
    xp = peer.numpy

    def step(count: Any, inputs: Any, targets: Any, *state: Any) -> tuple[Any, ...]:
        parameters = state[: len(state) // 3]
        outputs = [inputs]
        for i in range(0, len(parameters), 2):
            h = xp.matmul(outputs[-1], parameters[i]) + parameters[i + 1]
            outputs.append(xp.maximum(h, 0.0) if i < len(parameters) - 2 else h)
        e = xp.exp(outputs[-1] - xp.max(outputs[-1], axis=-1, keepdims=True))
        slope = (e / xp.sum(e, axis=-1, keepdims=True) - targets) / len(targets)
        gradients: list[Any] = []
        for i in reversed(range(0, len(parameters), 2)):
            below = outputs[i // 2]
            gradients = [xp.matmul(below.T, slope), xp.sum(slope, axis=0), *gradients]
            if i:
                slope = xp.matmul(slope, parameters[i].T) * (below > 0)
        return _adam(xp, count, gradients, state)

    return step


def _adam(xp: Any, count: Any, gradients: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    n = len(state) // 3
    scale_1, scale_2 = 1.0 / (1.0 - DECAY_1**count), 1.0 / (1.0 - DECAY_2**count)
    parameters, means, squares = [], [], []
    for x, m, v, g in zip(state[:n], state[n : 2 * n], state[2 * n :], gradients, strict=True):
        m = DECAY_1 * m + (1.0 - DECAY_1) * g
        v = DECAY_2 * v + (1.0 - DECAY_2) * (g * g)
        parameters.append(x - STEP_SIZE * (m * scale_1) / (xp.sqrt(v * scale_2) + EPSILON))
        means.append(m)
        squares.append(v)
    return (*parameters, *means, *squares)


def torch_training_step(peer: Peer) -> _Step:
    """Return the step as torch's users take it: `backward`, and Adam in place, fused.

    Each call goes on from the call before, and returns the same tensors, which it has changed.
    """
    torch = import_module("torch")
    loss = network_loss(peer)
    parameters: list[Any] = []
    state: list[Any] = []
    optimizer: Any = None

    def step(count: Any, inputs: Any, targets: Any, *start: Any) -> tuple[Any, ...]:
        nonlocal optimizer
        if optimizer is None:
            n = len(start) // 3
            parameters.extend(x.clone().requires_grad_() for x in start[:n])
            betas = (DECAY_1, DECAY_2)
            optimizer = torch.optim.Adam(
                parameters, lr=STEP_SIZE, betas=betas, eps=EPSILON, fused=True
            )
            moments = zip(parameters, start[n : 2 * n], start[2 * n :], strict=True)
            for x, mean, square in moments:
                optimizer.state[x] = {
                    "step": count - 1.0,
                    "exp_avg": mean.clone(),
                    "exp_avg_sq": square.clone(),
                }
        optimizer.zero_grad()
        loss(inputs, targets, *parameters).backward()
        optimizer.step()
        if not state:
            state.extend(x.detach() for x in parameters)
            for name in ("exp_avg", "exp_avg_sq"):
                state.extend(optimizer.state[x][name] for x in parameters)
        return tuple(state)

    return step
