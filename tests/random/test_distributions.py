"""What the numbers of `autodiff.random` have to satisfy, whoever drew them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from autodiff import random

KEY = random.key(5)
COUNT = 20_000
FLOATS = ("float16", "bfloat16", "float32", "float64")
CONTINUOUS: dict[str, tuple[Any, Any]] = {
    "uniform": (lambda d: random.uniform(KEY, (COUNT,), d, -2.0, 3.0), stats.uniform(-2, 5)),
    "normal": (lambda d: random.normal(KEY, (COUNT,), d), stats.norm()),
    "truncated_normal": (
        lambda d: random.truncated_normal(KEY, -0.5, 2.0, (COUNT,), d),
        stats.truncnorm(-0.5, 2.0),
    ),
    "exponential": (lambda d: random.exponential(KEY, (COUNT,), d), stats.expon()),
    "gumbel": (lambda d: random.gumbel(KEY, (COUNT,), d), stats.gumbel_r()),
    "gumbel of more bits": (
        lambda d: random.gumbel(KEY, (COUNT,), d, "high"),
        stats.gumbel_r(),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_numbers_have_the_distribution(name, dtype):
    """Kolmogorov-Smirnov. The key is fixed, so this cannot fail by chance."""
    draw, distribution = CONTINUOUS[name]
    assert stats.kstest(draw(dtype).astype(np.float64), distribution.cdf).pvalue > 1e-3


def test_complex_normal_numbers_have_variance_one():
    numbers = random.normal(KEY, (COUNT,), "complex128")
    assert stats.kstest(np.abs(numbers) ** 2, stats.expon().cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_keep_to_their_range(dtype):
    uniform = random.uniform(KEY, (COUNT,), dtype)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    between = random.truncated_normal(KEY, 0.5, 0.75, (COUNT,), dtype)
    assert between.min() > 0.5
    assert between.max() < 0.75
    assert np.isfinite(random.normal(KEY, (COUNT,), dtype)).all()
    assert np.isfinite(random.gumbel(KEY, (COUNT,), dtype)).all()
    assert random.exponential(KEY, (COUNT,), dtype).min() >= 0


def test_integers_are_uniform_and_in_range():
    draws = random.randint(KEY, (COUNT,), -3, 4)
    counts = np.bincount(draws + 3, minlength=7)
    assert counts.size == 7
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("mode", ["low", "high"])
def test_bernoulli_has_the_probability(mode):
    probabilities = np.array([0.0, 0.02, 0.5, 1.0])
    share = random.bernoulli(KEY, probabilities, (COUNT, 4), mode).mean(0)
    np.testing.assert_allclose(share, probabilities, atol=0.012)
    assert share[0] == 0
    assert share[3] == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_categorical_has_the_probabilities(axis):
    table = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    logits = np.log(table if axis == 1 else table.T) + 3.0
    draws = random.categorical(KEY, logits, axis, (COUNT, 2))
    for i in range(2):
        counts = np.bincount(draws[:, i], minlength=3)
        assert stats.chisquare(counts, COUNT * table[i]).pvalue > 1e-3


def test_distinct_categories_do_not_repeat():
    draws = random.categorical(KEY, np.zeros((3, 6)), shape=(4, 3), replace=False)
    for i in range(3):
        assert len(set(draws[:, i].tolist())) == 4


def test_a_permutation_has_every_element_once():
    for size in (0, 1, 2, 1000):
        assert sorted(random.permutation(KEY, size).tolist()) == list(range(size))
    matrix = np.arange(12).reshape(3, 4)
    rows = random.permutation(KEY, matrix)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, matrix.tolist()))
    columns = random.permutation(KEY, matrix, 1, independent=True)
    np.testing.assert_array_equal(np.sort(columns, 1), matrix)


def test_all_orders_are_equally_likely():
    keys = random.split(KEY, 3000)
    orders = [tuple(random.permutation(key, 3).tolist()) for key in keys]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert counts.size == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_choice_has_the_probabilities():
    p = np.array([0.1, 0.0, 0.6, 0.3])
    draws = random.choice(KEY, 4, (COUNT,), p=p)
    counts = np.bincount(draws, minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], COUNT * p[[0, 2, 3]]).pvalue > 1e-3
    assert stats.chisquare(np.bincount(random.choice(KEY, 4, (COUNT,)))).pvalue > 1e-3
    without = random.choice(KEY, 4, (3,), False, p)
    assert sorted(without.tolist()) == [0, 2, 3]


def test_split_keys_draw_unrelated_numbers():
    first, second = random.split(KEY)
    x, y = random.normal(first, (COUNT,)), random.normal(second, (COUNT,))
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.03
    assert abs(np.corrcoef(x, random.normal(KEY, (COUNT,)))[0, 1]) < 0.03


def test_arguments_may_be_lists_and_not_contiguous():
    reference = random.randint(KEY, (3,), np.array([0, 10, 20]), np.array([5, 15, 25]))
    np.testing.assert_array_equal(random.randint(KEY, [3], [0, 10, 20], [5, 15, 25]), reference)
    keys = random.split(KEY, 6)
    spaced = np.asfortranarray(keys)[::-2]
    np.testing.assert_array_equal(random.bits(spaced[0], (4,)), random.bits(keys[5], (4,)))
    flipped = KEY[::-1]
    np.testing.assert_array_equal(random.bits(flipped), random.bits(flipped.copy()))
