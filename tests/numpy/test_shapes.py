"""Functions of shape against NumPy's, and which of their results are views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from tests.numpy.traced_and_plain import (
    check_derivatives,
    check_function,
    check_method,
    check_values,
    layouts,
    sample,
)

X = sample((2, 3, 4), "f8")
EMPTY = sample((2, 0, 3), "f4")
ONES = sample((1, 3, 1), "i4")
SCALAR = sample((), "c16")


def cases_of(*cases: tuple[Any, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(("x", "options"), cases)


@cases_of(
    (X, {"shape": (4, 6)}),
    (X, {"shape": -1}),
    (X, {"shape": (3, -1, 2)}),
    (X, {"shape": [6, 4], "order": "F"}),
    (X, {"shape": (2, 3, 4), "order": "F"}),
    (X, {"shape": (2, 3, 4)}),
    (X, {"shape": (2, 3, 4), "copy": True}),
    (X[:, ::-1, ::2], {"shape": (4, -1), "order": "F"}),
    (EMPTY, {"shape": (0, 7)}),
    (EMPTY, {"shape": (2, -1, 3)}),
    (SCALAR, {"shape": (1, 1)}),
    (ONES, {"shape": (np.int64(3),)}),
)
def test_reshape_is_numpys(x: Any, options: Any) -> None:
    check_function("reshape", x, **options)


def test_the_method_reshape_takes_sizes_in_both_forms() -> None:
    check_method("reshape", X, 4, 6)
    check_method("reshape", X, (4, 6))
    check_method("reshape", X, 4, -1, order="F")
    check_method("reshape", X, -1)
    check_method("reshape", sample((1,), "f8"), ())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("x", [X, EMPTY, ONES, SCALAR])
def test_ravel_and_flatten_are_numpys(x: Any, order: str) -> None:
    check_function("ravel", x, order=order)
    check_method("ravel", x, order)
    check_method("flatten", x, order=order)


@pytest.mark.parametrize("x", [X, EMPTY, ONES, SCALAR, *layouts(sample((3, 4), "f4"))])
def test_orders_of_axes_are_numpys(x: Any) -> None:
    check_function("transpose", x)
    check_values(lambda m, x: x.T, x)
    check_method("transpose", x)
    if x.ndim > 1:
        check_values(lambda m, x: x.mT, x)
        check_function("matrix_transpose", x)
        check_function("swapaxes", x, axis1=0, axis2=-1)
        check_method("swapaxes", x, -1, 1)
        check_function("moveaxis", x, source=0, destination=-1)
        check_function("rollaxis", x, axis=1)
        check_function("rollaxis", x, axis=0, start=x.ndim)
        check_function("rollaxis", x, axis=-1, start=-1)
        axes = (*range(1, x.ndim), 0)
        check_function("transpose", x, axes=axes)
        check_function("permute_dims", x, axes=axes)
        check_method("transpose", x, *axes)
        check_method("transpose", x, axes)
    if x.ndim == 3:
        check_function("moveaxis", x, source=(0, 2), destination=(1, 0))


@cases_of(
    (ONES, {}),
    (ONES, {"axis": 0}),
    (ONES, {"axis": (0, -1)}),
    (X, {}),
    (X, {"axis": ()}),
    (SCALAR, {}),
    (SCALAR, {"axis": 0}),
)
def test_squeeze_is_numpys(x: Any, options: Any) -> None:
    check_function("squeeze", x, **options)
    check_method("squeeze", x, **options)


@cases_of(
    (X, {"axis": 0}), (X, {"axis": -1}), (X, {"axis": (0, 2, -1)}), (SCALAR, {"axis": [0, 1]})
)
def test_expand_dims_is_numpys(x: Any, options: Any) -> None:
    check_function("expand_dims", x, **options)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (0,), (2, 1, 1, 3)])
@pytest.mark.parametrize("name", ["atleast_1d", "atleast_2d", "atleast_3d"])
def test_atleast_is_numpys(name: str, shape: Any) -> None:
    check_function(name, sample(shape, "f4"))
    check_values(lambda m, x: getattr(m, name)(x, 3.0, [[1, 2]]), sample(shape, "f4"))


@cases_of(
    (sample((3, 1), "f8"), {"shape": (2, 3, 4)}),
    (sample((3, 1), "i4"), {"shape": (3, 1)}),
    (SCALAR, {"shape": (2, 0)}),
    (SCALAR, {"shape": ()}),
    (sample((3,), "f8"), {"shape": (1, 3)}),
    (sample((1,), "f8"), {"shape": 3}),
)
def test_broadcast_to_is_numpys(x: Any, options: Any) -> None:
    check_function("broadcast_to", x, **options)


def test_broadcast_arrays_is_numpys() -> None:
    column, row = sample((3, 1), "f8"), sample((4,), "i4")
    check_function("broadcast_arrays", column, row)
    check_values(lambda m, x: m.broadcast_arrays(x, row, 2.0), column)


@pytest.mark.parametrize("x", [X, EMPTY, *layouts(sample((3, 4), "f4"))])
def test_reversals_are_numpys(x: Any) -> None:
    for axis in (None, 0, -1, (0, 1), ()):
        check_function("flip", x, axis=axis)
    check_function("fliplr", x)
    check_function("flipud", x)
    for k in range(-1, 5):
        check_function("rot90", x, k=k)
    check_function("rot90", x, axes=(1, 0))


@pytest.mark.parametrize("x", [X, EMPTY, sample((5,), "i4")])
def test_roll_is_numpys(x: Any) -> None:
    for shift in (0, 1, -2, 7, 24):
        check_function("roll", x, shift=shift)
        check_function("roll", x, shift=shift, axis=0)
        check_function("roll", x, shift=shift, axis=-1)
    check_function("roll", x, shift=(1, 2), axis=(0, -1))
    check_function("roll", x, shift=1, axis=(0, 0))
    check_function("roll", SCALAR, shift=1)


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", "c8"])
def test_every_type_is_moved_unchanged(dtype: str) -> None:
    x = sample((3, 4), dtype)
    for name in ("ravel", "transpose", "flip", "fliplr", "atleast_3d", "squeeze", "rot90"):
        check_function(name, x)


def test_derivatives_of_moved_elements() -> None:
    def moved(x: Any) -> Any:
        y = x.reshape(3, 2, 4).T.swapaxes(0, 2)
        z = np.roll(np.flip(y, 1), 2, axis=2) * np.expand_dims(np.rot90(y[0]), 2)[:3, :2]
        return np.moveaxis(np.broadcast_to(z, (2, 3, 2, 4)), 0, 1)

    check_derivatives(moved, sample((2, 3, 4), "f8") / 4)
    check_derivatives(lambda x: np.ravel(x, "F") ** 2, sample((2, 3), "f8"), order=2)


# -------------------------------------------------------------------------------------------- views


VIEWS = {
    "reshape": lambda x: x.reshape(3, 2),
    "reshape to the same shape": lambda x: np.reshape(x, (2, 3)),
    "ravel": lambda x: x.ravel(),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "transpose": lambda x: np.transpose(x, (0, 1)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "squeeze": lambda x: np.squeeze(x),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "flip": lambda x: np.flip(x, 0),
    "rot90": lambda x: np.rot90(x),
    "atleast_1d": lambda x: np.atleast_1d(x),
    "real": lambda x: x.real,
    "split": lambda x: np.split(x, 2)[0],
    "split in one": lambda x: np.split(x, 1)[0],
    "unstack": lambda x: np.unstack(x)[0],
    "view": lambda x: x.view(),
    "reshape of a transpose": lambda x: x.T.T.reshape(-1),
}

COPIES = {
    "flatten": lambda x: x.flatten(),
    "ravel in order F": lambda x: x.ravel("F"),
    "copy": lambda x: x.copy(),
    "np.copy": lambda x: np.copy(x),
    "astype": lambda x: x.astype(x.dtype),
    "array": lambda x: anp.array(x),
    "roll": lambda x: np.roll(x, 0, axis=0),
    "tile": lambda x: np.tile(x, 1),
    "repeat": lambda x: np.repeat(x, 1, axis=0),
    "pad": lambda x: np.pad(x, 0),
    "concatenate": lambda x: np.concatenate([x]),
    "sum over no axes": lambda x: np.sum(x, axis=()),
    "max over no axes": lambda x: np.max(x, axis=()),
    "reshape with copy": lambda x: np.reshape(x, (2, 3), copy=True),
}


@pytest.mark.parametrize("name", VIEWS)
def test_writing_beside_a_view_is_refused(name: str) -> None:
    def write_to_view(x: Any) -> Any:
        view = VIEWS[name](x)
        view[...] = 0.0
        return x.sum() + view.sum()

    def write_to_source(x: Any) -> Any:
        view = VIEWS[name](x)
        x[...] = 0.0
        return x.sum() + view.sum()

    for function in (write_to_view, write_to_source):
        with pytest.raises(ValueError, match="must not share memory"):
            ad.grad(function)(np.ones((2, 3)))


@pytest.mark.parametrize("name", COPIES)
def test_writing_beside_a_copy_is_seen_in_one_of_them(name: str) -> None:
    def write(x: Any) -> Any:
        copy = COPIES[name](x)
        copy[...] = 0.0
        return x.sum() + copy.sum()

    np.testing.assert_array_equal(ad.grad(write)(np.ones((2, 3))), np.ones((2, 3)))


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x.reshape(5), "reshape: the shape must hold the array's 6 elements"),
        (lambda x: x.reshape(-1, -1), "reshape: the shape must hold the array's 6 elements"),
        (lambda x: x.reshape(-1, 0), "reshape: the shape must hold the array's 6 elements"),
        (lambda x: x.reshape(6, order="Z"), "reshape: order must be"),
        (lambda x: x.transpose(0), "transpose: axes must name every axis once"),
        (lambda x: x.transpose(0, 0), "transpose: axes must be distinct"),
        (lambda x: x.swapaxes(0, 2), "swapaxes: the axis must be one of the array's"),
        (lambda x: np.squeeze(x, 0), "squeeze: an axis that is removed must be of size 1"),
        (lambda x: np.broadcast_to(x, (3, 2)), "broadcast_to: the shapes must broadcast"),
        (lambda x: np.broadcast_to(x, (3,)), "broadcast_to: the array's axes must be of size 1"),
        (lambda x: np.fliplr(x[0]), "fliplr: the array must have at least 2 axes"),
        (lambda x: np.matrix_transpose(x[0]), "matrix_transpose: the array must have at least two"),
        (lambda x: np.moveaxis(x, (0, 1), 0), "moveaxis: source and destination"),
    ],
)
def test_bad_arguments_are_named(function: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ad.jit(function)(np.ones((2, 3)))
