"""HIPS autograd."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

from bench.declare import Peer


def load() -> Peer:
    """Return the adapter."""
    autograd = import_module("autograd")
    return Peer(
        name="autograd",
        version=version("autograd"),
        numpy=import_module("autograd.numpy"),
        special=import_module("autograd.scipy.special"),
        grad=autograd.grad,
        value_and_grad=autograd.value_and_grad,
        scan=_scan,
        while_loop=_while_loop,
    )


def _scan(f: Callable[..., Any], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Loop in Python, as its users do."""
    ys = []
    for x in xs:
        carry, y = f(carry, x)
        ys.append(y)
    return carry, import_module("autograd.numpy").array(ys)


def _while_loop(cond: Callable[..., Any], body: Callable[..., Any], carry: Any) -> Any:
    while cond(carry):
        carry = body(carry)
    return carry
