"""What collectives say, and that the next call works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.api.named_axes import enclosing_axes
from tests.errors.expectation import refused

X = np.arange(1.0, 4.0)


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    assert enclosing_axes() == ()
    total = ad.vmap(lambda x: ad.psum(x, "i"), axis_name="i")(X)
    np.testing.assert_array_equal(total, np.full(3, 6.0))


def mapped(f: Any, x: Any = X) -> Any:
    return ad.vmap(f, axis_name="i")(x)


COLLECTIVES = {
    "psum": lambda x, name: ad.psum(x, name),  # here
    "pmean": lambda x, name: ad.pmean(x, name),  # here
    "pmax": lambda x, name: ad.pmax(x, name),  # here
    "pmin": lambda x, name: ad.pmin(x, name),  # here
    "all_gather": lambda x, name: ad.all_gather(x, name),  # here
    "psum_scatter": lambda x, name: ad.psum_scatter(x, name),  # here
    "ppermute": lambda x, name: ad.ppermute(x, name, [(0, 1)]),  # here
    "axis_index": lambda x, name: ad.axis_index(name),  # here
    "axis_size": lambda x, name: ad.axis_size(name),  # here
}
MAP_IT = "map the function with vmap(..., axis_name='k')."


@pytest.mark.parametrize("name", COLLECTIVES)
def test_an_axis_that_no_vmap_names(name):
    collective = COLLECTIVES[name]
    rule = f"{name}: axis_name must name the axis of an enclosing vmap, got axis_name='k' where "
    with refused(ValueError, f"{rule}there is none.", fix=MAP_IT):
        collective(X, "k")
    with refused(ValueError, f"{rule}there is none.", fix=MAP_IT):
        ad.grad(lambda x: np.sum(collective(x, "k")))(X)
    with refused(ValueError, f"{rule}there is none.", fix=MAP_IT):
        ad.vmap(lambda x: collective(x, "k"))(X)
    with refused(ValueError, f"{rule}the axes are 'i'.", fix=MAP_IT):
        mapped(lambda x: collective(x, "k"))
    with refused(ValueError, f"{rule}the axes are 'i', 'j'.", fix=MAP_IT):
        mapped(ad.vmap(lambda x: collective(x, "k"), axis_name="j"), np.ones((2, 2)))


@pytest.mark.parametrize("name", ["psum", "pmean", "pmax", "pmin"])
def test_a_tuple_one_of_whose_names_is_unknown_or_repeated(name):
    collective = COLLECTIVES[name]
    with refused(
        ValueError,
        f"{name}: axis_name must name the axis of an enclosing vmap, got axis_name='k' where the "
        "axes are 'i'.",
        fix=MAP_IT,
    ):
        mapped(lambda x: collective(x, ("i", "k")))
    with refused(
        ValueError,
        f"{name}: axis_name must name each axis once, got axis_name=('i', 'i').",
        fix="leave out the repeated name.",
    ):
        mapped(lambda x: collective(x, ("i", "i")))


@pytest.mark.parametrize(
    "name", ["all_gather", "psum_scatter", "ppermute", "axis_index", "axis_size"]
)
def test_several_names_where_one_is_wanted(name):
    with refused(
        TypeError,
        f"{name}: axis_name must be the name of one axis, got axis_name=('i',).",
        fix="apply it to one axis after the other.",
    ):
        mapped(lambda x: COLLECTIVES[name](x, ("i",)))


def test_a_name_that_is_not_hashable():
    unhashable: Any = {}
    with refused(
        TypeError,
        "psum: axis_name must be hashable, got axis_name={} of type dict.",
        fix="use a string.",
    ):
        mapped(lambda x: ad.psum(x, unhashable))  # here
    names: Any = (["i"], ("i",))
    for name in names:
        with refused(
            TypeError,
            "vmap: axis_name must be hashable, and not a tuple, which stands for several names, "
            f"got axis_name={name!r}.",
            fix="use a string.",
        ):
            ad.vmap(np.sin, axis_name=name)  # here


def test_a_name_together_with_chunks():
    with refused(
        ValueError,
        "vmap: an axis with a name must be mapped at once, since examples of different chunks "
        "cannot see each other, got axis_name='i' and chunk_size=2.",
        fix="leave out one of them.",
    ):
        ad.vmap(np.sin, axis_name="i", chunk_size=2)  # here


def test_leaves_that_are_no_arrays():
    with refused(
        TypeError,
        "psum: every leaf must be an array or a number, got x['a'][1]='text' of type str.",
        fix="leave it out of what is passed.",
    ):
        mapped(lambda x: ad.psum({"a": [x, "text"]}, "i"))  # here


def test_extrema_of_no_examples():
    with refused(
        ValueError,
        "pmax: the mapped axis must have an example, got axis_name='i' of size 0.",
        fix="map at least one example, or leave it out for none.",
    ):
        mapped(lambda x: ad.pmax(x, "i"), np.zeros((0, 2)))  # here


def test_axes_that_the_array_does_not_have():
    fix = "count from 0, or from the end with a negative number."
    with refused(
        ValueError,
        "all_gather: axis must name one of the 2 axes that x['a'] has for it, got axis=2.",
        fix=fix,
    ):
        mapped(lambda x: ad.all_gather({"a": x}, "i", axis=2), np.ones((3, 2)))  # here
    with refused(
        ValueError,
        "all_gather: axis must name one of the 0 axes that x has for it, got axis=0.",
        fix=fix,
    ):
        mapped(lambda x: ad.all_gather(x, "i", tiled=True))  # here
    with refused(
        ValueError,
        "psum_scatter: scatter_dimension must name one of the 1 axes that x has for it, "
        "got scatter_dimension=1.",
        fix=fix,
    ):
        mapped(lambda x: ad.psum_scatter(x, "i", scatter_dimension=1), np.ones((3, 3)))  # here


def test_an_axis_that_cannot_be_scattered():
    fix = (
        "choose scatter_dimension, pad the array, or pass tiled=True where each example gets "
        "several rows."
    )
    with refused(
        ValueError,
        "psum_scatter: the scattered axis must be the size of the mapped axis 'i', which is 3, "
        "got x[0] of shape (6,), whose axis 0 has 6.",
        fix=fix,
    ):
        mapped(lambda x: ad.psum_scatter([x], "i"), np.ones((3, 6)))  # here
    with refused(
        ValueError,
        "psum_scatter: the scattered axis must be a multiple of the size of the mapped axis 'i', "
        "which is 3, got x of shape (4,), whose axis 0 has 4.",
        fix=fix,
    ):
        mapped(lambda x: ad.psum_scatter(x, "i", tiled=True), np.ones((3, 4)))  # here


@pytest.mark.parametrize("perm", [3, [0, 1], [(0, 1, 2)], [(0, 1.5)]], ids=repr)
def test_a_permutation_that_is_not_made_of_pairs(perm):
    with refused(
        TypeError,
        "ppermute: perm must be a sequence of pairs (source, destination) of ints, "
        f"got perm={perm!r}.",
        fix="for a shift by one write [(i, (i + 1) % n) for i in range(n)].",
    ):
        mapped(lambda x: ad.ppermute(x, "i", perm))  # here


@pytest.mark.parametrize(
    ("perm", "problem"),
    [
        ([(0, 3)], "positions along 'i', which has 3"),
        ([(-1, 0)], "positions along 'i', which has 3"),
        ([(0, 1), (0, 2)], "each source and each destination once"),
        ([(0, 1), (2, 1)], "each source and each destination once"),
    ],
    ids=str,
)
def test_a_permutation_that_is_none(perm, problem):
    with refused(
        ValueError,
        f"ppermute: perm must name {problem}, got perm={perm!r}.",
        fix="leave out pairs, or correct them.",
    ):
        mapped(lambda x: ad.ppermute(x, "i", perm))  # here


def test_an_error_in_the_mapped_function_leaves_no_axis_behind():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mapped(ad.vmap(f, axis_name="j"), np.ones((2, 2)))
    assert enclosing_axes() == ()
