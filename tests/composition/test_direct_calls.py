"""Later calls of a jitted function, which go to its kernels directly, are as its first one."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref

import numpy as np
import pytest

import autodiff as ad
from autodiff.api.jit import MOST_ENTRIES, JittedFunction
from autodiff.base.settings import settings
from autodiff.runtime.kernel_calls import layout_fault

#: Numbers whose products are exact: kernels may round `x * y + z` once.
X = np.arange(-8.0, 16.0) / 8.0

PROGRAMS = {
    "one array": lambda x: np.sin(x) * 2.0 + x,
    "a number": lambda x: np.sum(x * x + 1.0),
    "a tree": lambda x: {"a": np.cos(x) + x, "b": (np.exp(x) - 1.0,)},
    "a tree of one": lambda x: (x * x + x,),
    "the same twice": lambda x: [x * x + x] * 2,
    "an argument too": lambda x: (x, x * x + x),
    "nothing": lambda x: (),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_later_calls_give_what_the_first_gave_as_fresh_arrays(name):
    function = PROGRAMS[name]
    jitted = ad.jit(function)
    first = jitted(X)
    for x in (X, X[::-1], np.repeat(X, 2)[::2], X * 3.0):
        found, expected = jitted(x), function(x)
        assert ad.tree.structure(found) == ad.tree.structure(expected) == ad.tree.structure(first)
        leaves = ad.tree.leaves(found)
        for ours, exact in zip(leaves, ad.tree.leaves(expected), strict=True):
            assert type(ours) is np.ndarray
            np.testing.assert_allclose(ours, exact, rtol=1e-14, atol=1e-15)
            assert not np.shares_memory(ours, x)
        assert sum(np.shares_memory(a, b) for a in leaves for b in leaves) == len(leaves)


def test_settings_effects_and_transformations_still_count_after_direct_calls():
    log = ad.jit(lambda x: np.log(x) * 2.0)
    for _ in range(3):
        np.testing.assert_array_equal(log(np.ones(4)), np.zeros(4))
    with ad.override(check="nans"), pytest.raises(FloatingPointError):
        log(-np.ones(4))
    assert np.isnan(log(-np.ones(4))).all()
    np.testing.assert_array_equal(ad.grad(lambda x: np.sum(log(x)))(np.ones(4)), np.full(4, 2.0))
    np.testing.assert_array_equal(ad.vmap(log)(np.ones((2, 4))), np.zeros((2, 4)))
    assert log(np.float32(1.0)).dtype == np.float32

    seen = []

    @ad.jit
    def told(x):
        ad.debug.callback(seen.append, x)
        return x * x + x

    for _ in range(3):
        told(X)
    assert len(seen) == 3


@pytest.fixture
def kernels_are_on():
    """Let the process compile kernels, whatever the environment says: entries are made of them."""
    before = settings()
    ad.configure(reference=False, kernels=True)
    yield
    ad.configure(reference=before.reference, kernels=before.kernels)


def has_entries(jitted):
    return type(jitted) is not JittedFunction


def entered(function, *arguments):
    jitted = ad.jit(function)
    for _ in range(2):
        jitted(*arguments)
    assert has_entries(jitted) or layout_fault() is not None
    return jitted


def chain(x, y):
    return x * y + x


@pytest.mark.usefixtures("kernels_are_on")
def test_a_function_of_one_small_kernel_gets_an_entry_and_others_do_not():
    entered(chain, X, X)
    entered(ad.value_and_grad(lambda x: np.sum(x * x + x)), X)
    for function in (lambda x: {"a": x * x + x}, lambda x: np.sort(x), lambda x: (x, x + 1.0)):
        jitted = ad.jit(function)
        for _ in range(3):
            jitted(X)
        assert not has_entries(jitted)


@pytest.mark.usefixtures("kernels_are_on")
def test_entries_take_the_arguments_in_their_order_whatever_the_kernel_reads_first():
    jitted = entered(lambda x, y, z: (z - y * 2.0, x / z), X, X + 1.0, X + 2.0)
    first, second = jitted(X, X * 3.0, X + 4.0)
    np.testing.assert_array_equal(first, (X + 4.0) - X * 3.0 * 2.0)
    np.testing.assert_array_equal(second, X / (X + 4.0))


@pytest.mark.usefixtures("kernels_are_on")
def test_entries_pass_on_what_is_not_theirs():
    jitted = entered(chain, X, X)
    expected = X * X + X
    np.testing.assert_array_equal(jitted(X, y=X), expected)
    np.testing.assert_array_equal(jitted(y=X, x=X), expected)
    np.testing.assert_array_equal(jitted(2.0, X), 2.0 * X + 2.0)
    np.testing.assert_array_equal(jitted(X.astype(np.float32), X), X.astype(np.float32) * X + X)
    np.testing.assert_array_equal(jitted(X.reshape(4, 6), X.reshape(4, 6)), expected.reshape(4, 6))
    np.testing.assert_array_equal(jitted(np.ma.masked_array(X), X), expected)
    np.testing.assert_array_equal(jitted(X[:0], X[:0]), X[:0])
    with pytest.raises(TypeError, match="argument"):
        jitted(X)
    with pytest.raises(TypeError, match="argument"):
        jitted(X, X, X)


@pytest.mark.usefixtures("kernels_are_on")
def test_a_function_with_entries_is_transformed_as_before():
    jitted = entered(chain, X, X)
    dx, dy = ad.grad(lambda x, y: np.sum(jitted(x, y)), (0, 1))(X, X)
    np.testing.assert_array_equal(dx, X + 1.0)
    np.testing.assert_array_equal(dy, X)


@pytest.mark.usefixtures("kernels_are_on")
def test_each_combination_of_types_has_an_entry_up_to_a_number():
    jitted = ad.jit(chain)
    with ad.override(retrace_notice=100):
        for n in range(1, MOST_ENTRIES + 4):
            jitted(np.ones(n), np.ones(n))
    for _ in range(3):
        for n in range(1, MOST_ENTRIES + 4):
            x = np.arange(float(n))
            np.testing.assert_array_equal(jitted(x, x), x * x + x)
    assert len(jitted._entered) == MOST_ENTRIES


@pytest.mark.usefixtures("kernels_are_on")
def test_entries_see_settings_and_named_axes():
    jitted = entered(lambda x: np.log(x) + x, np.ones(3))
    with ad.override(check="nans"), pytest.raises(FloatingPointError):
        jitted(-np.ones(3))
    captured = []
    with ad.override(check="nans"):
        captured.append(contextvars.copy_context())
    with pytest.raises(FloatingPointError):
        captured[0].run(jitted, -np.ones(3))
    ad.configure(check="nans")
    try:
        with pytest.raises(FloatingPointError):
            jitted(-np.ones(3))
    finally:
        ad.configure(check="")
    for _ in range(2):  # the settings are other objects now: entries are made again
        assert np.isnan(jitted(-np.ones(3))).all()

    total = ad.jit(lambda x: ad.psum(x * x, "i") + x)
    for _ in range(3):
        out = ad.vmap(lambda row: total(row) * 1.0, axis_name="i")(np.ones((4, 3)))
        np.testing.assert_array_equal(out, np.full((4, 3), 5.0))


@pytest.mark.usefixtures("kernels_are_on")
def test_entries_follow_a_change_of_the_settings_of_the_process():
    jitted = entered(chain, X, X)
    ad.configure(contract=False)
    try:
        for _ in range(3):
            np.testing.assert_array_equal(jitted(X, X), X * X + X)
        assert jitted._entered[0].entered_for is settings()
    finally:
        ad.configure(contract=True)


@pytest.mark.usefixtures("kernels_are_on")
def test_a_function_with_entries_is_still_a_jitted_function():
    class Model:
        @ad.jit
        def scaled(self, x):
            return x * 2.0 + x

    jitted = entered(chain, X, X)
    assert isinstance(jitted, JittedFunction)
    assert jitted.__name__ == "chain"
    assert jitted.__wrapped__ is chain
    with pytest.raises(TypeError):
        Model().scaled(X)  # an object is no array
    jitted.clear_cache()
    assert not has_entries(jitted)
    np.testing.assert_array_equal(jitted(X, X), X * X + X)


@pytest.mark.usefixtures("kernels_are_on")
def test_a_function_with_entries_is_freed():
    jitted = entered(lambda x: x * 3.0 + x, X)
    gone = weakref.ref(jitted)
    del jitted
    gc.collect()
    assert gone() is None


@pytest.mark.usefixtures("kernels_are_on")
def test_entries_are_called_from_several_threads_while_others_are_made():
    jitted, wrong = entered(chain, X, X), []

    def work(n):
        x = np.arange(float(n))
        for _ in range(300):
            if not np.array_equal(jitted(x, x), x * x + x):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
