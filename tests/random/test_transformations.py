"""Random functions under jit, vmap and grad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff import random
from autodiff.base.settings import override

KEY = random.key(20)
LOGITS = np.array([[0.5, -1.0, 2.0], [0.0, 0.3, 0.1]])
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "split": random.split,
    "split into three": lambda key: random.split(key, 3),
    "split into a table": lambda key: random.split(key, (2, 2)),
    "fold_in": lambda key: random.fold_in(key, 3),
    "bits of a scalar": random.bits,
    "bits": lambda key: random.bits(key, (3, 5)),
    "8 bits": lambda key: random.bits(key, (7,), "uint8"),
    "32 bits": lambda key: random.bits(key, (7,), "uint32"),
    "no bits": lambda key: random.bits(key, (0,)),
    "uniform": lambda key: random.uniform(key, (4,), "float32"),
    "uniform in bfloat16": lambda key: random.uniform(key, (4,), "bfloat16"),
    "uniform with bounds": lambda key: random.uniform(key, (4,), None, -0.3, 0.7),
    "normal": lambda key: random.normal(key, (3,)),
    "normal in float32": lambda key: random.normal(key, (2, 3), "float32"),
    "complex normal": lambda key: random.normal(key, (3,), "complex64"),
    "truncated normal": lambda key: random.truncated_normal(key, -1.0, np.array([0.5, 2.0])),
    "exponential": lambda key: random.exponential(key, (3,)),
    "gumbel": lambda key: random.gumbel(key, (3,), "float32"),
    "gumbel with more bits": lambda key: random.gumbel(key, (3,), "float32", "high"),
    "bernoulli": lambda key: random.bernoulli(key, 0.3, (9,)),
    "bernoulli with more bits": lambda key: random.bernoulli(key, 0.3, (9,), "high"),
    "randint": lambda key: random.randint(key, (6,), 0, 10),
    "randint of all numbers": lambda key: random.randint(key, (6,), -128, 128, "int8"),
    "categorical": lambda key: random.categorical(key, LOGITS),
    "several categorical": lambda key: random.categorical(key, LOGITS, shape=(4, 2)),
    "distinct categorical": lambda key: random.categorical(
        key, LOGITS, shape=(2, 2), replace=False
    ),
    "permutation": lambda key: random.permutation(key, 12),
    "permutation of rows": lambda key: random.permutation(key, LOGITS),
    "independent permutations": lambda key: random.permutation(key, LOGITS, 1, True),
    "choice": lambda key: random.choice(key, 9, (4,)),
    "choice of one": lambda key: random.choice(key, 9),
    "distinct choice": lambda key: random.choice(key, 9, (4,), replace=False),
    "choice with probabilities": lambda key: random.choice(key, 4, (5,), True, WEIGHTS),
    "distinct choice with probabilities": lambda key: random.choice(key, 4, (2,), False, WEIGHTS),
    "choice of columns": lambda key: random.choice(key, LOGITS, (2,), axis=1),
}


@pytest.fixture(params=[True, False], ids=["partitionable", "older"])
def layout(request: pytest.FixtureRequest) -> Any:
    with override(threefry_partitionable=request.param):
        yield


def assert_same_bits(found: Any, expected: Any) -> None:
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes(), (found, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jit_gives_the_same_bits(name, layout):
    assert_same_bits(ad.jit(FUNCTIONS[name])(KEY), FUNCTIONS[name](KEY))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_over_keys_equals_a_loop(name, layout):
    function = FUNCTIONS[name]
    keys = random.split(KEY, 5)
    expected = np.stack([function(key) for key in keys])
    assert_same_bits(ad.vmap(function)(keys), expected)
    assert_same_bits(ad.jit(ad.vmap(function))(keys), expected)


def test_setting_of_the_layout_changes_the_jitted_numbers():
    draw = ad.jit(lambda key: random.normal(key, (3,)))
    with override(threefry_partitionable=True):
        new = draw(KEY)
    with override(threefry_partitionable=False):
        older = draw(KEY)
        assert_same_bits(older, random.normal(KEY, (3,)))
    assert not np.array_equal(new, older)


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3, -1])
def test_seeds_and_numbers_to_fold_in_can_be_traced(seed):
    assert_same_bits(ad.jit(random.key)(np.int64(seed)), random.key(seed))
    number = np.int32(seed & 0xFFFF)
    folded = ad.jit(random.fold_in)(KEY, number)
    assert_same_bits(folded, random.fold_in(KEY, int(number)))


def test_keys_of_mapped_seeds():
    keys = ad.vmap(random.key)(np.arange(4))
    assert_same_bits(keys, np.stack([random.key(seed) for seed in range(4)]))
    folded = ad.vmap(random.fold_in, in_axes=(None, 0))(KEY, np.arange(4))
    assert_same_bits(folded, np.stack([random.fold_in(KEY, i) for i in range(4)]))


def test_mapped_parameters_equal_a_loop():
    keys = random.split(KEY, 3)
    upper = np.array([1, 5, 100])

    def draw(key: Any, upper: Any) -> Any:
        return random.randint(key, (4,), 0, upper)

    expected = np.stack([draw(key, high) for key, high in zip(keys, upper, strict=True)])
    assert_same_bits(ad.vmap(draw)(keys, upper), expected)


# ------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("wrap", [lambda f: f, ad.jit], ids=["eager", "jit"])
def test_gradient_through_mean_and_deviation(wrap):
    noise = random.normal(KEY, (50,))

    def total(mean: Any, deviation: Any) -> Any:
        return anp.sum((mean + deviation * random.normal(KEY, (50,))) ** 2)

    by_mean, by_deviation = wrap(ad.grad(total, (0, 1)))(2.0, 0.5)
    sample = 2.0 + 0.5 * noise
    np.testing.assert_allclose(by_mean, np.sum(2 * sample), rtol=1e-13)
    np.testing.assert_allclose(by_deviation, np.sum(2 * sample * noise), rtol=1e-13)


def test_gradient_through_the_bounds_of_uniform():
    unit = random.uniform(KEY, (6,))
    jacobian = ad.jacrev(lambda low, high: random.uniform(KEY, (6,), None, low, high), (0, 1))
    by_low, by_high = jacobian(-1.0, 3.0)
    np.testing.assert_allclose(by_low, 1 - unit, rtol=1e-14)
    np.testing.assert_allclose(by_high, unit, rtol=1e-14)


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (0.5, 0.7), (2.0, 5.0)])
def test_gradient_through_the_bounds_of_truncated_normal(bounds):
    """x = F^-1(F(a) + u (F(b) - F(a))): dx/da = (1 - u) f(a) / f(x), dx/db = u f(b) / f(x)."""
    low, high = bounds
    unit = random.uniform(KEY, (6,))

    def density(x: Any) -> Any:
        return np.exp(-(x**2) / 2)

    def draw(low: Any, high: Any) -> Any:
        return random.truncated_normal(KEY, low, high, (6,))

    sample = draw(low, high)
    for jacobian in (ad.jacrev(draw, (0, 1)), ad.jacfwd(draw, (0, 1))):
        by_low, by_high = jacobian(low, high)
        np.testing.assert_allclose(by_low, (1 - unit) * density(low) / density(sample), rtol=1e-9)
        np.testing.assert_allclose(by_high, unit * density(high) / density(sample), rtol=1e-9)


def test_second_derivative_through_truncated_normal_agrees_with_differences():
    def draw(low: Any) -> Any:
        return random.truncated_normal(KEY, low, 2.0)

    step = 1e-4
    difference = (draw(-0.5 + step) - 2 * draw(-0.5) + draw(-0.5 - step)) / step**2
    np.testing.assert_allclose(ad.grad(ad.grad(draw))(-0.5), difference, rtol=1e-5)


def test_a_gradient_flows_to_what_is_selected():
    x = np.arange(5.0)
    weights = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    order = random.permutation(KEY, 5)
    by_permutation = ad.grad(lambda x: anp.sum(weights * random.permutation(KEY, x)))(x)
    np.testing.assert_array_equal(by_permutation[order], weights)
    chosen = random.choice(KEY, 5, (4,))
    by_choice = ad.grad(lambda x: anp.sum(random.choice(KEY, x, (4,))))(x)
    np.testing.assert_array_equal(by_choice, np.bincount(chosen, minlength=5))


def test_no_gradient_flows_through_discrete_draws():
    def draws(p: Any) -> Any:
        return anp.sum(anp.where(random.bernoulli(KEY, p, (9,)), 1.0, 0.0)) + p

    assert ad.grad(draws)(0.3) == 1.0


def test_keys_inside_a_differentiated_function_are_split_as_outside():
    def loss(scale: Any, key: Any) -> Any:
        first, second = random.split(key)
        return anp.sum(scale * random.normal(first, (3,)) * random.uniform(second, (3,)))

    first, second = random.split(KEY)
    expected = np.sum(random.normal(first, (3,)) * random.uniform(second, (3,)))
    np.testing.assert_allclose(ad.jit(ad.grad(loss))(2.0, KEY), expected, rtol=1e-14)
    per_example = ad.vmap(ad.grad(loss), in_axes=(None, 0))(2.0, random.split(KEY, 3))
    for key, gradient in zip(random.split(KEY, 3), per_example, strict=True):
        np.testing.assert_allclose(ad.grad(loss)(2.0, key), gradient, rtol=1e-14)
