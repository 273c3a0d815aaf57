"""Plain NumPy: what the arithmetic itself costs, without derivatives."""

from __future__ import annotations

import numpy as np
from scipy import special

from bench.declare import Peer


def load() -> Peer:
    """Return the adapter; its `jit` leaves a function as it is."""
    return Peer(name="numpy", version=np.__version__, numpy=np, special=special, jit=lambda f: f)
