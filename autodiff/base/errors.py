"""The error classes a caller may want to catch, and how an error message is put together."""

from __future__ import annotations

from autodiff.base.source_info import SourceLine, describe_line


class ConcretizationError(TypeError):
    """Python asked for a value that is not known yet (inside `jit`, or mapped by `vmap`)."""


class LeakedTracerError(ValueError):
    """A traced value was used after the function it was traced in had returned."""


class GraphError(AssertionError):
    """A graph broke one of its invariants: a fault of this library or of a user-written rule."""


class MissingRuleError(TypeError):
    """A transformation met an operation that has no rule for it."""


def message(
    function: str,
    requirement: str,
    got: str | None = None,
    *,
    line: SourceLine | None = None,
    fix: str | None = None,
) -> str:
    """Return an error text: what is required, what came, where, and how to mend it.

    >>> print(message("grad", "the output must be a scalar", "shape=(3,)", fix="sum the output."))
    grad: the output must be a scalar, got shape=(3,).
    To fix: sum the output.
    """
    text = f"{function}: {requirement}" + (f", got {got}." if got is not None else ".")
    if line is not None:
        text += f"\nAt {describe_line(line)}"
    if fix is not None:
        text += f"\nTo fix: {fix}"
    return text
