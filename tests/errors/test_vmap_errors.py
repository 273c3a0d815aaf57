"""What vmap says, and that the next call works."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import refused

X = np.arange(6.0).reshape(2, 3)


def scale(x, params=1.0):
    return x * 2.0


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    np.testing.assert_array_equal(ad.vmap(scale)(X), 2 * X)
    np.testing.assert_array_equal(ad.vmap(ad.grad(np.sum))(X), np.ones((2, 3)))


def test_sizes_that_differ_are_listed():
    def f(x, params):
        return x

    fix = "map equal axes, or give None in in_axes to what all examples share."
    with refused(
        ValueError,
        "vmap: the mapped axes must have one size, got x has axis 0 of size 2; "
        "params['w'][0] has axis 0 of size 3; params['w'][1] has axis 0 of size 2.",
        fix=fix,
    ):
        ad.vmap(f)(X, {"w": [np.ones(3), np.ones(2)]})  # here
    with refused(
        ValueError,
        "vmap: the mapped axes must have one size, got x has axis 1 of size 3; axis_size=4.",
        fix=fix,
    ):
        ad.vmap(f, in_axes=(1, None), axis_size=4)(X, 2.0)  # here
    with refused(
        ValueError,
        "vmap: the mapped axes must have one size, got x has axis 0 of size 2; "
        "y has axis 1 of size 3.",
        fix=fix,
    ):
        ad.vmap(lambda x, shared, y: x, in_axes=(0, None, -1))(X, X, X)  # here


def test_an_argument_without_the_mapped_axis():
    fix = "give it None in in_axes to share it among the examples."
    with refused(
        ValueError,
        "vmap: a mapped argument must be an array with the axis named by in_axes, "
        "got params['s'] of shape () with axis 0.",
        fix=fix,
    ):
        ad.vmap(scale)(X, {"s": 2.0})  # here
    with refused(
        ValueError,
        "vmap: a mapped argument must be an array with the axis named by in_axes, "
        "got x of shape (2, 3) with axis 2.",
        fix=fix,
    ):
        ad.vmap(scale, in_axes=2)(X)  # here
    with refused(
        ValueError,
        "vmap: a mapped argument must be an array with the axis named by in_axes, "
        "got params of shape () with axis 0.",
        fix=fix,
    ):
        ad.vmap(scale)(X, "text")  # here


def test_nothing_mapped():
    with refused(
        ValueError,
        "vmap: one argument must be mapped, or axis_size given, got in_axes of None only.",
        fix="pass axis_size=n.",
    ):
        ad.vmap(scale, in_axes=None)(X)  # here
    np.testing.assert_array_equal(ad.vmap(scale, in_axes=None, axis_size=2)(X[0]), [2 * X[0]] * 2)


def test_in_axes_of_another_length():
    with refused(
        ValueError,
        "vmap: in_axes must have one entry per positional argument, "
        "got in_axes=(0, 0, None) for 2 arguments.",
        fix="add or remove entries; keyword arguments are mapped over axis 0.",
    ):
        ad.vmap(scale, in_axes=(0, 0, None))(X, X)  # here


def test_in_axes_that_are_no_prefix():
    with refused(
        ValueError,
        "vmap: in_axes[1] must be a tree prefix of the tree, got a dict with keys ['v'] where a "
        "dict with keys ['w'] was expected at in_axes[1].",
        at=False,
    ):
        ad.vmap(scale, in_axes=(0, {"v": 0}))(X, {"w": X})


def test_out_axes_that_are_no_prefix():
    with refused(
        ValueError,
        "vmap: out_axes must be a tree prefix of the tree, got a tuple of length 2 where a leaf "
        "was expected at out_axes.",
        at=False,
    ):
        ad.vmap(scale, out_axes=(0, 0))(X)


def test_out_axes_of_none_for_an_output_that_is_mapped():
    with refused(
        ValueError,
        "vmap: an output with None in out_axes must not depend on the example, "
        "got output['a'][0], which is mapped.",
        fix="give it an axis in out_axes.",
    ):
        ad.vmap(lambda x: {"a": [x]}, out_axes=None)(X)  # here


def test_out_axes_beyond_the_output():
    with refused(
        ValueError,
        "vmap: out_axes must name an axis of the output, which has 2, got out_axes=2.",
        fix="name one of its axes; the mapped axis is one of them.",
    ):
        ad.vmap(scale, out_axes=2)(X)  # here


def test_a_chunk_size_below_one():
    with refused(
        ValueError,
        "vmap: chunk_size must be at least 1, got chunk_size=0.",
        fix="pass a positive chunk_size, or None to take all examples at once.",
    ):
        ad.vmap(scale, chunk_size=0)  # here
