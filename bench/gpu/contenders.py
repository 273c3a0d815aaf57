"""The libraries as programs use them on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

import autodiff as ad
from bench.declare import OURS, Peer
from bench.gpu.card import Card

#: The contender that copies memory, as many bytes as a program has to move.
COPY = "copy"


class Placed:
    """An array namespace whose `asarray` puts NumPy's arrays on the device."""

    def __init__(self, namespace: Any, asarray: Callable[[np.ndarray], Any]) -> None:
        self._namespace = namespace
        self.asarray = asarray

    def __getattr__(self, name: str) -> Any:
        return getattr(self._namespace, name)


def load(card: Card, wanted: Sequence[str] = ()) -> tuple[list[Peer], list[str]]:
    """Return the contenders that are installed, and a sentence for each one that is not.

    Args:
        card: the device.
        wanted: names; none means all. This library and the copy are always among them.
    """
    peers, missing = [], []
    for name, make in _LOADERS.items():
        if wanted and name not in (OURS, COPY, *wanted):
            continue
        try:
            peers.append(make(card))
        except ImportError as error:
            missing.append(f"{name} is left out: {error}.")
    return peers, missing


def on_host(value: Any) -> Any:
    """Return a result of any library with its arrays as NumPy's."""
    if isinstance(value, tuple | list):
        return [on_host(part) for part in value]
    if hasattr(value, "get"):
        return value.get()
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def _ours(card: Card) -> Peer:
    return Peer(
        name=OURS,
        version=ad.__version__,
        numpy=Placed(np, card.arrays.asarray),
        value_and_grad=ad.value_and_grad,
        jit=ad.jit,
    )


def _copy(card: Card) -> Peer:
    return Peer(name=COPY, version=card.arrays.__version__, numpy=card.arrays)


def _cupy(card: Card) -> Peer:
    return Peer(
        name="cupy",
        version=card.arrays.__version__,
        numpy=card.arrays,
        jit=lambda function: function,
    )


def _fused(card: Card) -> Peer:
    return Peer(
        name="cupy.fuse",
        version=card.arrays.__version__,
        numpy=card.arrays,
        jit=card.arrays.fuse,
    )


def _jax(card: Card) -> Peer:
    jax = import_module("jax")
    jax.config.update("jax_enable_x64", True)
    # Single precision is what the others compute in; else products of matrices lose digits.
    jax.config.update("jax_default_matmul_precision", "highest")
    if not card.is_emulated and jax.default_backend() != "gpu":
        raise ImportError("it finds no GPU")
    return Peer(
        name="jax",
        version=jax.__version__,
        numpy=import_module("jax.numpy"),
        value_and_grad=jax.value_and_grad,
        jit=jax.jit,
        ready=jax.block_until_ready,
    )


def _torch(card: Card) -> Peer:
    torch = import_module("torch")
    names = import_module("bench.peers.torch").Namespace(torch)
    if not card.is_emulated and not torch.cuda.is_available():
        raise ImportError("it finds no GPU")
    place = "cpu" if card.is_emulated else "cuda"
    return Peer(
        name="torch.compile",
        version=version("torch"),
        numpy=Placed(names, lambda x: torch.from_numpy(x).to(place)),
        jit=torch.compile,
    )


_LOADERS: dict[str, Callable[[Card], Peer]] = {
    OURS: _ours,
    COPY: _copy,
    "cupy": _cupy,
    "cupy.fuse": _fused,
    "jax": _jax,
    "torch.compile": _torch,
}

NAMES = tuple(name for name in _LOADERS if name not in (OURS, COPY))
