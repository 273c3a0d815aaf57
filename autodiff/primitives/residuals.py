"""The check of what a solver returns: the size of the residual that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autodiff.base.array_modules import module_of
from autodiff.base.errors import message
from autodiff.base.source_info import SourceLine


@dataclass(frozen=True, slots=True)
class ResidualCheck:
    """How large a residual may be: `relative * |scale| + absolute`, in the Euclidean norm.

    The norm is that of all leaves together. `function` is the user's, `line` where it was called.
    The leading `mapped` axes of every array tell systems apart, each of which is checked by itself.
    """

    function: str
    relative: float
    absolute: float
    line: SourceLine | None
    mapped: int = 0

    def __repr__(self) -> str:
        return f"{self.function}:{self.relative:g}"

    @staticmethod
    def mapped_once_more(check: ResidualCheck | None) -> ResidualCheck | None:
        """Return the check for one more leading axis of systems."""
        return None if check is None else replace(check, mapped=check.mapped + 1)

    @staticmethod
    def as_system(check: ResidualCheck | None) -> ResidualCheck | None:
        """Return the check of a root for the linear systems that its derivatives solve."""
        return None if check is None else replace(check, absolute=0.0)

    def of_system(self, applied: Sequence[Any], sides: Sequence[Any]) -> None:
        """Raise a FloatingPointError unless `A x` (`applied`) is `b` (`sides`)."""
        pairs = zip(map(_on_host, applied), map(_on_host, sides), strict=True)
        residuals = [x - y for x, y in pairs]
        self._compare(residuals, self._norms(sides), "||A x - b||")

    def of_root(self, values: Sequence[Any], at_guess: Sequence[Any]) -> None:
        """Raise a FloatingPointError unless the values of a function at its root are small.

        Measured by the values `at_guess`, where these are finite.
        """
        scale = self._norms(at_guess)
        self._compare(values, np.where(np.isfinite(scale), scale, 0.0), "||f(root)||")

    @np.errstate(all="ignore")
    def _norms(self, values: Sequence[Any]) -> np.ndarray:
        """Return the norm of each system's values, as float64 on the host."""
        total: Any = 0.0
        for value in map(_on_host, values):
            axes = tuple(range(self.mapped, value.ndim))
            sizes = np.abs(value).astype(np.float64)
            # Squares neither overflow nor vanish of numbers divided by the largest.
            unit = sizes.max(axis=axes, initial=0.0, keepdims=True)
            unit = np.where(unit > 0, unit, 1.0)
            ratios = np.sum((sizes / unit) ** 2, axis=axes)
            total = np.hypot(total, unit.reshape(ratios.shape) * np.sqrt(ratios))
        return np.asarray(total)

    def _compare(self, residuals: Sequence[Any], scale: Any, what: str) -> None:
        found = self._norms(residuals)
        allowed = self.relative * scale + self.absolute
        wrong = ~(found <= allowed)  # NaN is wrong, too
        if not wrong.any():
            return
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = f" for the system at {place} of the mapped axes" if place else ""
        raise FloatingPointError(
            message(
                self.function,
                f"{what} must be at most {float(allowed[place]):.3g}{where}",
                f"residual={float(found[place]):.3g}",
                line=self.line,
                fix="let the solver iterate longer or start it closer, check that the matrix is "
                "not singular, or leave residuals out of AUTODIFF_CHECK.",
            )
        )


def _on_host(value: Any) -> Any:
    return np.asarray(value) if module_of(value) is np else value.get()
