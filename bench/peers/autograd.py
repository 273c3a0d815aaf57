"""HIPS autograd."""

from __future__ import annotations

from importlib.metadata import version

from bench.declare import Peer


def load() -> Peer:
    """Return the adapter."""
    import autograd
    import autograd.numpy

    return Peer(
        name="autograd",
        version=version("autograd"),
        numpy=autograd.numpy,
        grad=autograd.grad,
        value_and_grad=autograd.value_and_grad,
    )
