"""The libraries that are compared: one adapter a file, each with `load() -> Peer`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from bench.declare import OURS, Peer


def names() -> tuple[str, ...]:
    """Return the names of all adapters, ours first."""
    found = sorted(module.name for module in iter_modules(__path__))
    return OURS, *(name for name in found if name != OURS)


def load(wanted: Sequence[str]) -> tuple[list[Peer], list[str]]:
    """Return the peers that are installed, and a sentence for each one that is not."""
    peers, missing = [], []
    for name in wanted:
        adapter = import_module(f"{__name__}.{name}")
        try:
            peers.append(adapter.load())
        except ImportError as error:
            if name == OURS:
                raise
            missing.append(f"{name} is left out: {error}.")
    return peers, missing
