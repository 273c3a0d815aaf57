"""JAX on the CPU, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from bench.declare import Peer


def load() -> Peer:
    """Return the adapter."""
    jax = import_module("jax")
    jax.config.update("jax_enable_x64", True)

    def trace_linearized(f: Callable[..., Any], x: Any) -> Any:
        return jax.make_jaxpr(lambda x, t: jax.linearize(f, x)[1](t))(x, x)

    return Peer(
        name="jax",
        version=jax.__version__,
        numpy=import_module("jax.numpy"),
        special=import_module("jax.scipy.special"),
        grad=jax.grad,
        value_and_grad=jax.value_and_grad,
        jit=jax.jit,
        ready=jax.block_until_ready,
        trace=lambda f, x: jax.make_jaxpr(f)(x),
        trace_linearized=trace_linearized,
        trace_gradient=lambda f, x: jax.make_jaxpr(jax.grad(f))(x),
        scan=jax.lax.scan,
        while_loop=jax.lax.while_loop,
    )
