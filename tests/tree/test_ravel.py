"""`tree.ravel`: one vector of all leaves and back, with shapes and dtypes."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodiff import tree

DTYPES = ["bool", "int8", "int64", "uint8", "float16", "float32", "float64"]
DTYPES += ["complex64", "complex128"]


def text_of(error, call, *args) -> str:
    with pytest.raises(error) as caught:
        call(*args)
    return str(caught.value)


def test_leaves_stand_in_order_each_in_row_major_order():
    square = np.array([[1.0, 2.0], [3.0, 4.0]])
    flat, unravel = tree.ravel({"b": square.T, "a": (np.zeros((0, 2)), None, np.array(5.0))})
    np.testing.assert_array_equal(flat, [5, 1, 3, 2, 4])
    back = unravel(flat)
    np.testing.assert_array_equal(back["b"], square.T)
    assert back["a"][0].shape == (0, 2) and back["a"][1] is None
    assert back["a"][2].shape == () and isinstance(back["a"][2], np.ndarray)


@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.sampled_from([(), (0,), (3,), (2, 1)]))))
def test_unravel_restores_values_shapes_and_dtypes(kinds):
    leaves = [np.ones(shape, dtype) for dtype, shape in kinds]
    flat, unravel = tree.ravel(leaves)
    assert flat.shape == (sum(leaf.size for leaf in leaves),)
    dtypes = [leaf.dtype for leaf in leaves]
    assert flat.dtype == (np.result_type(*dtypes) if dtypes else np.float64)
    for leaf, back in zip(leaves, unravel(flat), strict=True):
        assert (back.dtype, back.shape) == (leaf.dtype, leaf.shape)
        np.testing.assert_array_equal(back, leaf)


def test_a_single_leaf_is_copied():
    x = np.arange(3.0)
    flat, _ = tree.ravel(x)
    assert not np.shares_memory(flat, x)


def test_a_tree_without_leaves_is_an_empty_vector():
    flat, unravel = tree.ravel({"a": None})
    assert (flat.shape, flat.dtype) == ((0,), np.float64)
    assert unravel(flat) == {"a": None}


def test_python_numbers_come_back_as_arrays_of_their_default_dtype():
    flat, unravel = tree.ravel((1, 2.5, True))
    np.testing.assert_array_equal(flat, [1, 2.5, 1])
    assert [leaf.dtype.name for leaf in unravel(flat)] == ["int64", "float64", "bool"]


def test_leaves_take_from_a_wider_kind_what_they_can_hold():
    _, unravel = tree.ravel((np.float32(0), np.complex64(0), np.int8(0)))
    real, complex_, integer = unravel(np.array([1 + 2j, 3 + 4j, -5.5 + 6j]))
    assert (real, complex_, integer) == (1, 3 + 4j, -5)
    assert [x.dtype.name for x in (real, complex_, integer)] == ["float32", "complex64", "int8"]


def test_unravel_takes_other_dtypes_of_the_same_kind():
    _, unravel = tree.ravel([np.ones(2, np.float32), np.ones((), ml_dtypes.bfloat16)])
    for dtype in ("float64", "float16", "int64"):
        back = unravel(np.array([1, 2, 3], dtype))
        assert [x.dtype.name for x in back] == ["float32", "bfloat16"]
        np.testing.assert_array_equal(back[0], [1, 2])


def test_what_does_not_fit_is_refused():
    _, unravel = tree.ravel([np.ones(2, np.float32), np.ones(3, np.float32)])
    assert text_of(ValueError, unravel, np.ones(4)) == (
        "tree.ravel: unravel: the vector must have shape (5,), got shape=(4,)."
    )
    assert text_of(ValueError, unravel, np.ones((5, 1))) == (
        "tree.ravel: unravel: the vector must have shape (5,), got shape=(5, 1)."
    )
    assert text_of(TypeError, unravel, np.ones(5, complex)) == (
        "tree.ravel: unravel: the vector must be of a dtype that casts to float32 within its "
        "kind, got dtype=complex128.\n"
        "To fix: convert it first, with .real or .astype."
    )
    assert text_of(TypeError, tree.ravel, {"w": 1.0, "act": ["relu"]}) == (
        "tree.ravel: the leaves must be numbers or arrays of numbers, "
        "got tree['act'][0]='relu'.\n"
        "To fix: make it static data of a registered class, or leave it out."
    )
    assert text_of(TypeError, tree.ravel, (1, np.ones(2, ml_dtypes.bfloat16))) == (
        "tree.ravel: the dtypes of the leaves must have a common one, got bfloat16, int64.\n"
        "To fix: convert the leaves with .astype first."
    )
