"""The public face of pytrees: what it offers, and that it is the same machinery as the core's."""

from autodiff import tree
from autodiff.base import pytree


def test_all_that_is_listed_is_there_and_nothing_else():
    offered = {name for name in vars(tree) if not name.startswith("_")}
    assert offered - {"raveling"} == set(tree.__all__)


def test_functions_are_those_of_the_core():
    for name in tree.__all__:
        if name != "ravel":
            assert getattr(tree, name) is getattr(pytree, name)
