"""What indexing says when an index, a mode or a value does not fit: the whole text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.numpy.indexing import at

X = np.ones((2, 3))

OUT_OF_RANGE = (
    '\nTo fix: correct the index, or say what it does with x.at[index].get(mode="fill" | "clip" | '
    '"wrap").'
)
NO_INDEX = (
    "index: an index must be an integer, a slice, ..., None, or an array of integers or booleans"
)

CASES: dict[str, tuple[Callable[[], Any], type[Exception], str, str]] = {
    "integer": (
        lambda: ad.grad(lambda x: x[2, 0])(X),
        IndexError,
        "index: an index into axis 0 of size 2 must be in [-2, 2), got index=2.",
        OUT_OF_RANGE,
    ),
    "integer array": (
        lambda: ad.grad(lambda x: x[:, [0, -4]].sum())(X),
        IndexError,
        "index: an index into axis 1 of size 3 must be in [-3, 3), got index=-4.",
        OUT_OF_RANGE,
    ),
    "plain array": (
        lambda: at(X)[5].set(0.0),
        IndexError,
        "index: an index into axis 0 of size 2 must be in [-2, 2), got index=5.",
        OUT_OF_RANGE,
    ),
    "too many": (
        lambda: ad.grad(lambda x: x[0, 0, 0])(X),
        IndexError,
        "index: the index must select from at most 2 axes, got an index for 3.",
        "",
    ),
    "two ellipses": (
        lambda: ad.grad(lambda x: x[..., ...])(X),
        IndexError,
        "index: an index must have at most one ellipsis (...), got 2.",
        "",
    ),
    "float": (
        lambda: ad.grad(lambda x: x[1.0])(X),
        IndexError,
        f"{NO_INDEX}, got index=1.0 of type float.",
        "\nTo fix: convert the index with .astype(int).",
    ),
    "traced float": (
        lambda: ad.grad(lambda x: x[x[0, 0]])(X),
        IndexError,
        f"{NO_INDEX}, got an index of type float64.",
        "\nTo fix: convert the index with .astype(int).",
    ),
    "mask of another size": (
        lambda: ad.grad(lambda x: x[np.array([True])].sum())(X),
        IndexError,
        "index: a boolean array must have the size of the axis it selects from, got size 1 for "
        "axis 0 of size 2.",
        "",
    ),
    "index arrays of two shapes": (
        lambda: ad.grad(lambda x: x[[0, 1], [0, 1, 2]].sum())(X),
        IndexError,
        "index: index arrays must broadcast together, got shapes=(2,), (3,).",
        "",
    ),
    "ragged list": (
        lambda: ad.grad(lambda x: x[[[0], [1, 2]]].sum())(X),
        IndexError,
        "index: a list used as an index must be rectangular, got index=[[0], [1, 2]].",
        "",
    ),
    "mask without a value": (
        lambda: ad.jit(lambda x: x[x > 0])(X),
        ad.ConcretizationError,
        "index: the number of elements that a boolean array selects must be known, got a traced "
        "bool[2,3] of jit of <lambda>.",
        "\nTo fix: select with autodiff.numpy.where(mask, x, 0), or write with "
        "x.at[mask].set(value).",
    ),
    "values by a mask without a value": (
        lambda: ad.jit(lambda x: x.at[x > 0].set(np.ones(6)))(X),
        ad.ConcretizationError,
        "index: the number of elements that a boolean array selects must be known, got a traced "
        "bool[2,3] of jit of <lambda>.",
        "\nTo fix: select with autodiff.numpy.where(mask, x, 0), or write with "
        "x.at[mask].set(value).",
    ),
    "slice without a value": (
        lambda: ad.jit(lambda x, i: x[:, :i])(X, np.int64(1)),
        ad.ConcretizationError,
        "index: the bounds of a slice must be known, got a traced int64 of jit of <lambda>.",
        "\nTo fix: read x[start + numpy.arange(length)], or make the bound static "
        "(static_argnums).",
    ),
    "empty axis": (
        lambda: ad.jit(lambda x, i: x.at[i].get(mode="clip"))(np.ones((0, 2)), np.array([1])),
        IndexError,
        "index: an index array can select from an axis of size 0 only with mode "
        '"fill" or "drop", got mode=\'clip\'.',
        "",
    ),
    "mode": (
        lambda: at(X)[0].get(mode="nearest"),
        ValueError,
        "at: mode must be one of 'fill', 'drop', 'clip', 'wrap', 'promise_in_bounds' or None, got "
        "mode='nearest'.",
        "",
    ),
    "value of another shape": (
        lambda: at(X)[0].set(np.ones(2)),
        ValueError,
        "assignment: the value must broadcast to the selected elements' shape (3,), got "
        "shape=(2,).",
        "",
    ),
    "complex value": (
        lambda: at(X)[0].set(1j),
        TypeError,
        "assignment: a complex value cannot be written into an array of type float64.",
        "\nTo fix: write its real part (y.real), or make the array complex with .astype.",
    ),
    "value that does not fit": (
        lambda: at(np.ones(2, int))[0].add(1.5),
        TypeError,
        "at.add: the value must be of a type that fits into the array's int64, got type=float.",
        "\nTo fix: convert the array with .astype first.",
    ),
    "division of integers": (
        lambda: at(np.ones(2, int))[0].divide(2),
        TypeError,
        "at.divide: the array must be of a floating or complex type, got type=int64.",
        "\nTo fix: convert the array with .astype(float) first.",
    ),
    "take with floats": (
        lambda: ad.jit(lambda x: anp.take(x, [1.5]))(X),
        TypeError,
        "take: the indices must be integers, got type=float64.",
        "\nTo fix: convert them with .astype(int).",
    ),
    "take with an unknown mode": (
        lambda: ad.jit(lambda x: anp.take(x, 1, mode="nearest"))(X),
        ValueError,
        "take: mode must be one of 'raise', 'clip', 'wrap', 'fill', got mode='nearest'.",
        "",
    ),
    "take_along_axis of two numbers of axes": (
        lambda: ad.jit(lambda x: anp.take_along_axis(x, [1], 0))(X),
        ValueError,
        "take_along_axis: indices and array must have the same number of axes, got shapes=(1,), "
        "(2, 3).",
        "",
    ),
    "take_along_axis of other axes that differ": (
        lambda: ad.jit(lambda x: anp.take_along_axis(x, [[1, 1]], 0))(X),
        IndexError,
        "take_along_axis: the axes other than axis 0 must match, got shapes=(2, 3), (1, 2).",
        "",
    ),
    "nonzero without a value": (
        lambda: ad.jit(lambda x: anp.nonzero(x))(X),
        ad.ConcretizationError,
        "nonzero: the shape of the result depends on the value, which must be known, got a traced "
        "float64[2,3] of jit of <lambda>.",
        "\nTo fix: use autodiff.numpy.where(condition, x, 0), which keeps the shape.",
    ),
    "compress by a matrix": (
        lambda: ad.grad(lambda x: anp.compress([[1]], x).sum())(X),
        ValueError,
        "compress: condition must be 1-d, got shape=(1, 1).",
        "",
    ),
    "side": (
        lambda: ad.jit(lambda x: np.searchsorted(x[0], 1.0, "middle"))(X),  # type: ignore[arg-type]
        ValueError,
        "searchsorted: side must be 'left' or 'right', got side='middle'.",
        "",
    ),
    "search in a matrix": (
        lambda: ad.jit(lambda x: np.searchsorted(x, 1.0))(X),
        ValueError,
        "searchsorted: a must be 1-d, got shape=(2, 3).",
        "",
    ),
    "choice out of range": (
        lambda: ad.jit(lambda x: np.choose([0, 2], [x[0, :2], x[1, :2]]))(X),
        IndexError,
        "choose: the choices must be in [0, 2), got 2.",
        "",
    ),
    "diag of three axes": (
        lambda: ad.jit(lambda x: np.diag(x[None]))(X),
        ValueError,
        "diag: the array must be 1-d or 2-d, got shape=(1, 2, 3).",
        "",
    ),
    "diagonal of one axis": (
        lambda: ad.jit(lambda x: np.diagonal(x[0]))(X),
        ValueError,
        "diagonal: the array must have two axes, got shape=(3,).",
        "",
    ),
    "diagonal of one axis twice": (
        lambda: ad.jit(lambda x: np.diagonal(x, 0, 1, -1))(X),
        ValueError,
        "diagonal: the axes must be distinct, got axis=1 twice.",
        "",
    ),
    "triangle of a number": (
        lambda: ad.jit(lambda x: np.tril(x[0, 0]))(X),
        ValueError,
        "tril: the array must have an axis, got shape=().",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_says_what_is_required_where_and_how_to_mend_it(case: str) -> None:
    call, kind, requirement, fix = CASES[case]
    with pytest.raises(kind) as caught:
        call()
    first, place, *rest = str(caught.value).split("\n")
    assert first == requirement
    assert place.startswith(f"At {__file__}:")
    assert ", in <lambda>: " in place
    assert "".join(f"\n{line}" for line in rest) == fix


def test_a_value_of_an_inner_transformation_cannot_be_stored_outside() -> None:
    def f(x: Any) -> Any:
        y = x * 1

        def inner(z: Any) -> Any:
            y[0, 0] = z
            return y.sum()

        return ad.grad(inner)(x[0, 0])

    with pytest.raises(ValueError) as caught:
        ad.grad(f)(X)
    lines = str(caught.value).split("\n")
    assert lines[0] == (
        "assignment: a value traced by grad of inner cannot be written into an array from outside "
        "of it."
    )
    assert lines[1].endswith("in inner: y[0, 0] = z")
    assert lines[2] == "To fix: use the new value: y = x.at[index].set(value)."


def test_what_failed_leaves_the_array_as_it_was() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        for index in (5, (0, 0, 0), "a"):
            with pytest.raises(IndexError):
                y[index] = 0.0
        with pytest.raises(ValueError):
            y[0] = np.ones(2)
        return y.sum()

    np.testing.assert_array_equal(ad.grad(f)(X), 2 * X)
