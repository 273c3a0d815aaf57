"""HIPS autograd."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

from bench.declare import Peer


def load() -> Peer:
    """Return the adapter."""
    autograd = import_module("autograd")
    return Peer(
        name="autograd",
        version=version("autograd"),
        numpy=import_module("autograd.numpy"),
        grad=autograd.grad,
        value_and_grad=autograd.value_and_grad,
    )
