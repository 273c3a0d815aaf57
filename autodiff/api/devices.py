"""The default device, and waiting for results."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.settings import configure, override, settings
from autodiff.base.source_info import user_line
from autodiff.runtime.devices import wait_for


class default_device:
    """Set the device of arrays that creation functions make: "cpu", "gpu" or "auto".

    Called, it changes the whole process; as a context manager, the block and then back. Computation
    on existing arrays always follows the arrays.

    >>> with default_device("cpu"):
    ...     pass
    """

    def __init__(self, device: str) -> None:
        if device not in ("cpu", "gpu", "auto"):
            raise ValueError(
                message(
                    "default_device",
                    "the device must be 'cpu', 'gpu' or 'auto'",
                    f"device={device!r}",
                    line=user_line(),
                    fix="choose one of these.",
                )
            )
        self._before = settings().device
        self._device = device
        self._block: Any = None
        configure(device=device)

    def __enter__(self) -> None:
        configure(device=self._before)
        self._block = override(device=self._device)
        self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, traceback)


def block_until_ready(tree: Any) -> Any:
    """Wait until every array of a pytree is computed, and return the pytree.

    NumPy arrays always are; CuPy computes in the background.
    """
    wait_for(pytree.leaves(tree))
    return tree
