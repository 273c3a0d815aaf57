"""A key of the class `cupy.ndarray` gives numbers of that class, the same ones.

The module is a stand-in with CuPy's manners (tests/composition/fake_cupy.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import random
from tests.composition import fake_cupy
from tests.emulator.device import emulated
from tests.random.test_transformations import FUNCTIONS, KEY, LOGITS, WEIGHTS, layout

__all__ = ["layout"]


@pytest.fixture(autouse=True)
def _cupy_is_imported():
    fake_cupy.transfers.clear()
    with emulated(checked=True), ad.override(device="cpu"):
        yield


def device(x: Any) -> Any:
    return fake_cupy.ndarray(np.array(x))


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is fake_cupy.ndarray, type(found)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found._data, expected)


HOST_PARAMETERS = (
    "truncated normal",
    "categorical",
    "several categorical",
    "distinct categorical",
    "permutation of rows",
    "independent permutations",
    "choice with probabilities",
    "distinct choice with probabilities",
    "choice of columns",
)
OF_KEYS_ALONE = [name for name in FUNCTIONS if name not in HOST_PARAMETERS]
# permutation and choice are sorts and gathers, whose own references the seam's tests run.
DRAWN = [name for name in FUNCTIONS if "permutation" not in name and "choice" not in name]


@pytest.mark.parametrize("name", OF_KEYS_ALONE)
def test_numbers_are_made_where_the_key_is(name, layout):
    assert_same(FUNCTIONS[name](device(KEY)), FUNCTIONS[name](KEY))
    assert "to the host" not in fake_cupy.transfers


@pytest.mark.parametrize("name", DRAWN)
def test_jitted_numbers_are_made_where_the_key_is(name, layout):
    """Parameters on the host are constants of the graph, which go where the key is."""
    assert_same(ad.jit(FUNCTIONS[name])(device(KEY)), FUNCTIONS[name](KEY))


@pytest.mark.parametrize("name", [name for name in DRAWN if name in OF_KEYS_ALONE])
def test_mapped_numbers_are_made_where_the_keys_are(name, layout):
    keys = random.split(KEY, 3)
    assert_same(ad.vmap(FUNCTIONS[name])(device(keys)), ad.vmap(FUNCTIONS[name])(keys))


def test_parameters_on_the_device():
    key, logits, weights = device(KEY), device(LOGITS), device(WEIGHTS)
    low, high = np.array([-1.0, 0.0]), np.array([0.5, 2.0])
    expected = random.truncated_normal(KEY, low, high)
    assert_same(random.truncated_normal(key, device(low), device(high)), expected)
    assert_same(random.categorical(key, logits), random.categorical(KEY, LOGITS))
    distinct = random.categorical(KEY, LOGITS, shape=(2, 2), replace=False)
    assert_same(random.categorical(key, logits, shape=(2, 2), replace=False), distinct)
    assert_same(random.permutation(key, logits), random.permutation(KEY, LOGITS))
    independent = random.permutation(KEY, LOGITS, 1, True)
    assert_same(random.permutation(key, logits, 1, True), independent)
    for replace in (True, False):
        chosen = random.choice(KEY, 4, (3,), replace, WEIGHTS)
        assert_same(random.choice(key, 4, (3,), replace, weights), chosen)
    bounds = np.array([1, 5, 100])
    assert_same(random.randint(key, (3,), 0, device(bounds)), random.randint(KEY, (3,), 0, bounds))
    assert_same(
        random.bernoulli(key, device(WEIGHTS), (5, 4)), random.bernoulli(KEY, WEIGHTS, (5, 4))
    )
