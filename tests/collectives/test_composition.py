"""Collectives in nested maps, in jitted functions and loops, and on every kind of value."""

from __future__ import annotations

from threading import Barrier, Thread

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad

RNG = np.random.default_rng(0)
X = RNG.normal(size=4)
M = RNG.normal(size=(3, 4))


def same(found, expected):
    """Compare values, shapes and types exactly."""
    assert type(found) is np.ndarray
    assert (found.shape, found.dtype) == (np.shape(expected), np.asarray(expected).dtype)
    np.testing.assert_array_equal(found, expected)


def near(found, expected):
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner_first", [True, False])
def test_each_collective_addresses_the_axis_it_names(inner_first):
    def f(x):
        if inner_first:
            return ad.psum(x, "j") + 10 * ad.pmax(x, "i") + 100 * ad.axis_index("i")
        return 100 * ad.axis_index("i") + 10 * ad.pmax(x, "i") + ad.psum(x, "j")

    found = ad.vmap(ad.vmap(f, axis_name="j"), axis_name="i")(M)
    by_hand = M.sum(1)[:, None] + 10 * M.max(0) + 100 * np.arange(3)[:, None]
    near(found, by_hand)


def test_a_collective_may_stand_between_two_maps():
    def outer(row):
        return ad.vmap(lambda x: x - ad.psum(ad.pmean(row, "i"), "j"), axis_name="j")(row)

    by_hand = M[:, :, None] - 4 * M.mean(0)  # the mean row is shared by all j
    near(ad.vmap(outer, axis_name="i")(M), by_hand)


SHIFTS = [(0, 2), (2, 1)]
UNDER_ANOTHER = {
    # a function of one example, and NumPy's of all, whose first two axes are "i" (3) and "j" (2)
    "all_gather": (lambda x: ad.all_gather(x, "i", axis=1), lambda A: np.moveaxis(A, 0, 2)),
    "all_gather, tiled": (
        lambda x: ad.all_gather(x, "i", tiled=True),
        lambda A: A.transpose(1, 0, 2, 3).reshape(2, 9, 4),
    ),
    "psum_scatter": (lambda x: ad.psum_scatter(x, "i"), lambda A: A.sum(0).transpose(1, 0, 2)),
    "ppermute": (
        lambda x: ad.ppermute(x, "i", SHIFTS),
        lambda A: np.stack([np.zeros_like(A[0]), A[2], A[0]]),
    ),
    "pmin": (lambda x: ad.pmin(x, "i"), lambda A: A.min(0)),
}


@pytest.mark.parametrize("inner", ["i", "j"])
@pytest.mark.parametrize("name", UNDER_ANOTHER)
def test_a_collective_leaves_the_other_mapped_axis_alone(name, inner):
    """Values, and the dot-product identity of the (piecewise) linear function that each is."""
    one, by_numpy = UNDER_ANOTHER[name]
    A = RNG.normal(size=(3, 2, 3, 4))

    def nested(f):
        if inner == "j":
            return ad.vmap(ad.vmap(f, axis_name="j"), axis_name="i")
        return ad.vmap(ad.vmap(f, 0, 0, "i"), 1, 1, "j")

    expected = by_numpy(A)
    if name not in ("psum_scatter", "ppermute"):  # each example along "i" has the same
        expected = np.stack([expected] * 3)
    near(nested(one)(A), expected)
    ct, t = RNG.normal(size=expected.shape), RNG.normal(size=A.shape)
    transposed = nested(lambda x, ct: ad.vjp(one, x)[1](ct)[0])(A, ct)
    moved = nested(lambda x, t: ad.jvp(one, (x,), (t,))[1])(A, t)
    np.testing.assert_allclose(np.sum(transposed * t), np.sum(ct * moved), rtol=1e-12)


def test_a_tuple_of_names_goes_over_all_of_them():
    def nested(f):
        return ad.vmap(ad.vmap(f, axis_name="j"), axis_name="i")(M)

    near(nested(lambda x: ad.psum(x, ("i", "j"))), np.full((3, 4), M.sum()))
    near(nested(lambda x: ad.pmean(x, ("j", "i"))), np.full((3, 4), M.mean()))
    near(nested(lambda x: ad.pmax(x, ("i", "j"))), np.full((3, 4), M.max()))
    near(nested(lambda x: ad.pmin(x, ("j", "i"))), np.full((3, 4), M.min()))
    assert nested(lambda x: x * ad.psum(1, ("i", "j"))).sum() == pytest.approx(12 * M.sum())
    near(nested(lambda x: ad.psum(x, ())), M)


def test_an_inner_axis_of_the_same_name_takes_the_place_of_the_outer():
    def outer(row):
        inner = ad.vmap(lambda x: ad.psum(x, "i") * ad.axis_size("i"), axis_name="i")(row)
        return inner + ad.psum(row, "i") + 100 * ad.axis_index("i")

    by_hand = 4 * M.sum(1)[:, None] + M.sum(0) + 100 * np.arange(3)[:, None]
    near(ad.vmap(outer, axis_name="i")(M), by_hand)


def test_a_function_pulled_back_in_an_inner_map_keeps_its_own_axis_of_the_same_name():
    """The sum over the outer axis is recorded again inside the inner map of the same name."""

    def outer(row):
        _, pull = ad.vjp(lambda y: ad.psum(y**2, "i"), row)
        return ad.vmap(lambda ct: pull(ct)[0] + ad.psum(ct, "i"), axis_name="i")(np.eye(4) * row)

    cts = np.stack([np.eye(4) * row for row in M])  # [i, k, element]
    by_hand = 2 * M[:, None] * cts.sum(0) + cts.sum(1)[:, None]
    near(ad.vmap(outer, axis_name="i")(M), by_hand)


@pytest.mark.parametrize("name", ["batch", 7, frozenset({"a"})])
def test_a_name_is_anything_hashable_but_a_tuple(name):
    same(ad.vmap(lambda x: ad.psum(x, name), axis_name=name)(np.arange(3)), np.full(3, 3))


def test_a_map_without_a_name_leaves_the_others_in_force():
    def f(row):
        return ad.vmap(lambda x: ad.psum(x, "i"))(row)

    near(ad.vmap(f, axis_name="i")(M), np.stack([M.sum(0)] * 3))


def test_threads_have_axes_of_their_own():
    barrier = Barrier(2, timeout=10)
    results = {}

    def f(x):
        barrier.wait()
        size = ad.axis_size("i")
        barrier.wait()
        return x + size + ad.psum(x, "i")

    def run(n):
        results[n] = ad.vmap(f, axis_name="i")(np.ones(n))

    threads = [Thread(target=run, args=(n,)) for n in (2, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(results[2], np.full(2, 5.0))
    same(results[5], np.full(5, 11.0))


# Values that do not depend on the example ---------------------------------------------------------


def test_of_what_is_not_traced_the_sum_is_known_at_once():
    def f(x):
        assert ad.psum(1, "i") == 4 and type(ad.psum(1, "i")) is int
        assert ad.psum(True, "i") == 4
        assert ad.pmean(3, "i") == 3.0
        same(ad.psum(np.arange(2, dtype=np.int8), "i"), np.array([0, 4], np.int8))
        return x.reshape(1) * np.ones(ad.psum(1, "i"))

    near(ad.vmap(f, axis_name="i")(X), np.outer(X, np.ones(4)))


SHARED = {
    "psum": (lambda c: ad.psum(c, "i"), lambda c: 4 * c),
    "pmean": (lambda c: ad.pmean(c, "i"), lambda c: c),
    "pmax": (lambda c: ad.pmax(c, "i"), lambda c: c),
    "pmin": (lambda c: ad.pmin(c, "i"), lambda c: c),
    "all_gather": (lambda c: ad.all_gather(c, "i", axis=1), lambda c: np.stack([c] * 4, 1)),
    "ppermute": (
        lambda c: ad.ppermute(c, "i", [(0, 1)]),
        lambda c: np.stack([np.zeros(4), c, np.zeros(4), np.zeros(4)]),
    ),
    "psum_scatter": (lambda c: ad.psum_scatter(c, "i"), lambda c: 4 * c),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_value_counts_once_for_each_example(name):
    collective, by_hand = SHARED[name]
    expected = by_hand(X)
    if name not in ("ppermute", "psum_scatter"):
        expected = np.stack([expected] * 4)
    shared = ad.vmap(collective, in_axes=None, axis_size=4, axis_name="i")
    closed_over = ad.jit(lambda c: ad.vmap(lambda x: collective(c), axis_name="i")(X))
    near(shared(X), expected)
    near(closed_over(X), expected)
    # The outer derivative sees c through what each example does with it: differences of a linear
    # (or, for extrema of equal numbers, piecewise linear) function.
    ct = RNG.normal(size=expected.shape)
    (found,) = ad.vjp(closed_over, X)[1](ct)
    columns = [(closed_over(X + e) - closed_over(X - e)) / 2 for e in np.eye(4)]
    np.testing.assert_allclose(found, [np.sum(c * ct) for c in columns], rtol=1e-12, atol=1e-12)


def test_a_transformation_of_constants_inside_the_map():
    """Nothing of what is differentiated is mapped, yet the sum goes over the axis."""

    def f(x):
        slope = ad.grad(lambda c: ad.psum(c**2, "i") * ad.psum(x, "i"))(3.0)
        return x + slope + ad.jit(lambda c: ad.psum(ad.axis_index("i") + c, "i"))(2.0)

    # psum(c**2) is 4 c**2; its cotangent psum(x) is summed over the examples
    near(ad.vmap(f, axis_name="i")(X), X + 2 * 3.0 * 4 * X.sum() + 6 + 8)


# jit ----------------------------------------------------------------------------------------------


def test_a_jitted_function_is_traced_once_for_each_size_of_the_axes_around_it():
    sizes = []

    @ad.jit
    def f(x):
        sizes.append(ad.axis_size("i"))
        return x / ad.psum(1, "i") + ad.psum(x, "i") + ad.axis_index("i")

    def check(n):
        x = RNG.normal(size=n)
        near(ad.vmap(f, axis_name="i")(x), x / n + x.sum() + np.arange(n))

    for n in (3, 5, 3, 5, 3, 3, 3, 3, 3, 3, 3, 3):
        check(n)
    assert sizes == [3, 5]


def test_a_jitted_function_is_not_mistaken_for_itself_under_other_names():
    @ad.jit
    def f(x):
        return ad.psum(x, "i") + (ad.axis_size("j") if x.ndim == 0 else 0)

    def nested(first, second):
        return ad.vmap(ad.vmap(f, axis_name=second), axis_name=first)(M)

    for _ in range(2):
        near(nested("i", "j"), np.stack([M.sum(0)] * 3) + 4)
        near(nested("j", "i"), np.stack([M.sum(1)] * 4, 1) + 3)
    with pytest.raises(ValueError, match="axis_name must name the axis of an enclosing vmap"):
        f(X)


def test_jitted_functions_nest_inside_the_map():
    inner = ad.jit(lambda x: ad.pmax(x, "i") + x)
    middle = ad.jit(lambda x: inner(x) * ad.psum(x, "i"))
    by_hand = (X.max() + X) * X.sum()
    for _ in range(3):
        near(ad.vmap(middle, axis_name="i")(X), by_hand)
        near(ad.jit(ad.vmap(ad.jit(middle), axis_name="i"))(X), by_hand)
    by_example = ad.vmap(ad.grad(lambda x: middle(x)), axis_name="i")(X)
    whole = ad.grad(lambda X: np.sum((np.max(X) + X) * np.sum(X)))(X)
    near(by_example, whole)


def test_a_map_with_a_name_but_without_collectives_is_a_map():
    calls = []

    @ad.jit
    def f(x, y):
        calls.append(1)
        return x * y

    def at_once(x, y):
        """Nothing is traced and nothing reads an axis, so the program runs now."""
        result = f(x, y)
        assert type(result) is np.ndarray
        return result

    for _ in range(3):
        same(ad.vmap(lambda x: f(x, 2.0), axis_name="i")(X), X * 2)
        same(ad.vmap(lambda x: x + at_once(np.ones(()), 2.0), axis_name="i")(X), X + 2)
    assert len(calls) == 2


# Kinds of values ----------------------------------------------------------------------------------

DTYPES = [np.int8, np.uint32, np.int64, np.float16, ml_dtypes.bfloat16, np.float32, np.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_element_types_stay(dtype):
    x = np.arange(1, 5).astype(dtype)

    def f(x):
        return (
            ad.psum(x, "i"),
            ad.pmax(x, "i"),
            ad.pmin(x, "i"),
            ad.all_gather(x, "i"),
            ad.ppermute(x, "i", [(3, 0)]),
        )

    total, largest, smallest, gathered, sent = ad.vmap(f, axis_name="i")(x)
    same(total, np.full(4, 10).astype(dtype))
    same(largest, np.full(4, 4).astype(dtype))
    same(smallest, np.full(4, 1).astype(dtype))
    same(gathered, np.stack([x] * 4))
    same(sent, np.array([4, 0, 0, 0]).astype(dtype))


def test_bools_are_counted_and_integers_have_a_mean():
    flags = np.array([True, False, True])
    same(ad.vmap(lambda x: ad.psum(x, "i"), axis_name="i")(flags), np.full(3, 2))
    same(ad.vmap(lambda x: ad.pmax(x, "i"), axis_name="i")(flags), np.full(3, True))
    mean = ad.vmap(lambda x: ad.pmean(x, "i"), axis_name="i")
    same(mean(np.array([1, 2], np.int32)), np.full(2, 1.5))
    same(mean(np.array([1, 2], np.float32)), np.full(2, 1.5, np.float32))


def test_integer_leaves_beside_floating_ones_have_zero_tangents():
    def f(x, n):
        return ad.psum({"x": x**2, "n": n}, "i")

    def push(x, n):
        return ad.jvp(f, (x, n), (1.0, n))

    n = np.arange(4)
    out, tangent = ad.vmap(push, axis_name="i")(X, n)
    near(out["x"], np.full(4, (X**2).sum()))
    same(out["n"], np.full(4, 6))
    near(tangent["x"], np.full(4, 2 * X.sum()))
    same(tangent["n"], np.zeros(4, int))


def test_complex_gradients_are_those_of_the_whole():
    z = RNG.normal(size=4) + 1j * RNG.normal(size=4)

    def f(z):
        return ad.psum(np.abs(z * ad.pmean(z, "i")) ** 2, "i")

    def whole(z):
        return 4 * np.sum(np.abs(z * np.mean(z)) ** 2)  # the sum of what four examples return

    found = ad.vmap(ad.grad(f), axis_name="i")(z)
    step = 1e-6
    expected = [
        (whole(z + step * e) - whole(z - step * e)) / (2 * step)
        - 1j * (whole(z + 1j * step * e) - whole(z - 1j * step * e)) / (2 * step)
        for e in np.eye(4)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-7)


def test_empty_arrays_and_empty_axes():
    empty = np.zeros((4, 0))
    for f in (
        lambda x: ad.psum(x, "i"),
        lambda x: ad.pmax(x, "i"),
        lambda x: ad.ppermute(x, "i", [(0, 1)]),
        lambda x: ad.grad(lambda y: np.sum(ad.psum(y, "i")))(x),
    ):
        same(ad.vmap(f, axis_name="i")(empty), empty)
    none = np.zeros((0, 2))
    same(ad.vmap(lambda x: ad.psum(x, "i"), axis_name="i")(none), none)
    same(ad.vmap(lambda x: ad.ppermute(x, "i", []), axis_name="i")(none), none)
    same(ad.vmap(lambda x: ad.all_gather(x, "i"), axis_name="i")(none), np.zeros((0, 0, 2)))
    total = ad.vmap(lambda x: ad.psum(x, "i"), axis_name="i", out_axes=None)(none)
    same(total, np.zeros(2))


def test_out_axes_of_none_takes_what_all_examples_share():
    total, x = ad.vmap(lambda x: (ad.psum(x, "i"), x), axis_name="i", out_axes=(None, 0))(M)
    near(total, M.sum(0))
    same(x, M)


def test_nan_and_infinity_pass_as_in_numpy():
    x = np.array([np.nan, np.inf, 1.0])
    same(ad.vmap(lambda x: ad.pmax(x, "i"), axis_name="i")(x), np.full(3, np.nan))
    same(ad.vmap(lambda x: ad.psum(x, "i"), axis_name="i")(x[1:]), np.full(2, np.inf))
    sent = ad.vmap(lambda x: ad.ppermute(x, "i", [(0, 2)]), axis_name="i")(x)
    same(sent, np.array([0.0, 0.0, np.nan]))


# Ties ---------------------------------------------------------------------------------------------


def test_examples_that_tie_share_the_derivative_equally():
    x = np.array([1.0, 3.0, 3.0, -1.0])
    for f in (lambda x: ad.pmax(x, "i"), lambda x: -ad.pmin(-x, "i")):
        mapped = ad.vmap(f, axis_name="i", out_axes=None)
        near(ad.grad(mapped)(x), np.array([0.0, 0.5, 0.5, 0.0]))
        near(ad.vmap(ad.grad(f), axis_name="i")(x), np.array([0.0, 2.0, 2.0, 0.0]))  # of four sums
        near(ad.jvp(mapped, (x,), (np.arange(4.0),))[1], 1.5)
    largest = lambda x: ad.pmax(x, "i")
    for f in (ad.grad(largest), lambda x: ad.jvp(largest, (x,), (1.0,))[1]):
        near(ad.vmap(f, axis_name="i")(x * np.nan), np.zeros(4))  # NaN has no winner


def test_ties_over_several_axes_share_equally_however_they_are_resolved():
    x = np.array([[2.0, 2.0, 0.0], [2.0, 1.0, 0.0]])
    thirds = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) / 3

    def largest(x):
        return ad.pmax(x, ("i", "j"))

    both = ad.vmap(ad.vmap(largest, axis_name="j"), axis_name="i")
    near(ad.grad(lambda x: both(x)[0, 0])(x), thirds)
    inside = ad.vmap(ad.vmap(ad.grad(largest), axis_name="j"), axis_name="i")
    near(inside(x), 6 * thirds)
    between = ad.vmap(ad.grad(lambda row: ad.vmap(largest, axis_name="j")(row)[0]), axis_name="i")
    near(between(x), 2 * thirds)


# Other transformations and loops ------------------------------------------------------------------


def test_jacobians_and_hessians_inside_the_map():
    def f(x):
        return np.array([1.0, 2.0]) * ad.psum(x**3, "i") + x

    # every example is one number, and all of them move together
    d = 3 * (X**2).sum()
    expected = np.stack([np.full(4, d + 1), np.full(4, 2 * d + 1)], 1)
    near(ad.vmap(ad.jacfwd(f), axis_name="i")(X), expected)
    gradient = np.stack([4 * 3 * X**2 + 1, 2 * 4 * 3 * X**2 + 1], 1)
    near(ad.vmap(ad.jacrev(f), axis_name="i")(X), gradient)
    near(ad.vmap(ad.hessian(lambda x: ad.psum(x**3, "i")), axis_name="i")(X), 24 * X)


def test_checkpoint_keeps_the_axis():
    def f(x):
        return ad.psum(np.sin(x), "i") ** 2 * x

    plain = ad.vmap(ad.grad(f), axis_name="i")(X)
    s = np.sin(X).sum()
    near(plain, s**2 + 2 * s * np.cos(X) * X.sum())
    near(ad.vmap(ad.grad(ad.checkpoint(f)), axis_name="i")(X), plain)
    near(ad.grad(lambda x: ad.vmap(ad.checkpoint(f), axis_name="i")(x).sum())(X), plain)


def _ring(x):
    """Three steps of diffusion on a ring, each by exchanges with both neighbours."""
    around = [(i, (i + 1) % 4) for i in range(4)]
    back = [(j, i) for i, j in around]

    def step(x, _):
        x = x + 0.2 * (ad.ppermute(x, "i", around) + ad.ppermute(x, "i", back) - 2 * x)
        return x * (1 + 0.1 * ad.psum(x**2, "i")), ad.pmax(x, "i")

    return ad.scan(step, x, length=3)


def _ring_by_numpy(X):
    rows = []
    for _ in range(3):
        X = X + 0.2 * (np.roll(X, 1) + np.roll(X, -1) - 2 * X)
        rows.append([X.max()] * 4)
        X = X * (1 + 0.1 * (X**2).sum())
    return X, np.array(rows).T


def test_collectives_in_the_body_of_a_scan():
    final, largest = ad.vmap(_ring, axis_name="i")(X)
    expected_final, expected_largest = _ring_by_numpy(X)
    near(final, expected_final)
    near(largest, expected_largest)
    jitted = ad.jit(ad.vmap(_ring, axis_name="i"))(X)
    near(jitted[0], expected_final)


def test_derivatives_through_collectives_in_a_scan():
    """Inside and outside of the map, forward and reverse, against central differences."""
    ct = np.array([1.0, -2.0, 0.5, 3.0])
    step = 1e-5

    def whole(X):
        return np.sum(_ring_by_numpy(X)[0] * ct)

    expected = [(whole(X + step * e) - whole(X - step * e)) / (2 * step) for e in np.eye(4)]

    def gradient(x, ct):
        return ad.grad(lambda y: _ring(y)[0] * ct)(x)

    inside = ad.vmap(gradient, axis_name="i")(X, ct)
    outside = ad.grad(lambda x: np.sum(ad.vmap(_ring, axis_name="i")(x)[0] * ct))(X)
    forward = ad.jacfwd(lambda x: ad.vmap(_ring, axis_name="i")(x)[0])(X)
    for found in (inside, outside, ct @ forward):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    pushed = ad.vmap(lambda x, t: ad.jvp(lambda y: _ring(y)[0], (x,), (t,))[1], axis_name="i")
    near(pushed(X, ct), forward @ ct)


def test_a_loop_that_all_examples_leave_together():
    """Every example doubles until the sum over all of them is large."""

    def f(x):
        return ad.while_loop(lambda y: ad.psum(y, "i") < 50.0, lambda y: 2 * y, x)

    x = np.array([0.5, 1.0, 2.0])
    near(ad.vmap(f, axis_name="i")(x), 16 * x)
    near(ad.vmap(ad.grad(f), axis_name="i")(x), np.full(3, 16.0))


def test_a_branch_that_all_examples_take_together():
    def f(x):
        total = ad.psum(x, "i")
        return ad.cond(total > 0, lambda y: y * ad.psum(y, "i"), lambda y: ad.pmin(y, "i"), x)

    x = np.array([1.0, 2.0, -0.5])
    near(ad.vmap(f, axis_name="i")(x), x * 2.5)
    near(ad.vmap(f, axis_name="i")(-x), np.full(3, -2.0))
    near(ad.vmap(ad.grad(f), axis_name="i")(x), 2.5 + np.full(3, 2.5))


def test_the_next_program_does_not_see_an_axis_of_a_map_that_has_ended():
    kept = []

    def f(x):
        kept.append(ad.vjp(lambda y: ad.psum(y, "i"), x)[1])
        return x

    ad.vmap(f, axis_name="i")(X)
    with pytest.raises(ad.LeakedTracerError):
        kept[0](1.0)


def test_rules_of_a_users_own_may_use_the_axis():
    def f(x):
        return ad.psum(x**2, "i") * x

    by_pull, by_push = ad.custom_vjp(f), ad.custom_jvp(f)

    def backward(x, ct):
        return (ad.psum(ct * x, "i") * 2 * x + ad.psum(x**2, "i") * ct,)

    by_pull.defvjp(lambda x: (f(x), x), backward)

    @by_push.defjvp
    def push(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), ad.psum(2 * x * t, "i") * x + ad.psum(x**2, "i") * t

    expected = 2 * X * X.sum() + (X**2).sum()  # the gradient of sum(x**2) * sum(x)
    for own in (by_pull, by_push):
        mapped = ad.vmap(own, axis_name="i")
        near(mapped(X), (X**2).sum() * X)
        near(ad.vmap(ad.grad(own), axis_name="i")(X), expected)
        near(ad.vmap(ad.jit(ad.grad(own)), axis_name="i")(X), expected)
        near(ad.grad(lambda X, mapped=mapped: np.sum(mapped(X)))(X), expected)


def test_taylor_coefficients_through_a_sum_over_examples():
    """exp of a sum along the curve x + t v, each example of which has its own x and v."""
    v = np.array([1.0, 0.5, -1.0, 2.0])

    def f(x, v):
        return ad.jet(lambda y: np.exp(ad.psum(y, "i")), (x,), ([v, 0.0],))

    value, (first, second) = ad.vmap(f, axis_name="i")(X, v)
    whole = np.exp(X.sum())
    near(value, np.full(4, whole))
    near(first, np.full(4, whole * v.sum()))
    near(second, np.full(4, whole * v.sum() ** 2))
