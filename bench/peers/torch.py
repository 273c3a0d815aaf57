"""PyTorch on the CPU, eager, in one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from numbers import Number
from typing import Any

from bench.declare import Peer


def load() -> Peer:
    """Return the adapter."""
    torch = import_module("torch")
    torch.set_num_threads(1)
    return Peer(
        name="torch",
        version=torch.__version__,
        numpy=Namespace(torch),
        special=torch.special,
        value_and_grad=_value_and_grad(torch),
    )


class Namespace:
    """`torch` under NumPy's names, as far as programs here use any that differ."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.asarray = torch.from_numpy
        self.max = torch.amax

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def maximum(self, x: Any, y: Any) -> Any:
        """Return the larger of a tensor and a tensor or number."""
        return self._torch.clamp_min(x, y) if isinstance(y, Number) else self._torch.maximum(x, y)


def _value_and_grad(torch: Any) -> Callable[..., Any]:
    def value_and_grad(f: Callable[..., Any], argnums: Sequence[int]) -> Callable[..., Any]:
        def run(*arguments: Any) -> tuple[Any, tuple[Any, ...]]:
            variables = list(arguments)
            for i in argnums:
                variables[i] = arguments[i].detach().requires_grad_()
            value = f(*variables)
            gradients = torch.autograd.grad(value, [variables[i] for i in argnums])
            return value.detach(), gradients

        return run

    return value_and_grad
