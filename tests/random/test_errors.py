"""Every error text of `autodiff.random`, whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autodiff import random
from autodiff.base.settings import override

KEY = np.array([0, 1], np.uint32)
KEY_FIX = "make it by autodiff.random.key(seed), split or fold_in."
BOUNDS_FIX = "leave out shape, or give one that ends in the parameters' axes."

CASES: dict[str, tuple[Callable[[], Any], type[Exception], str, str]] = {
    "a key of another type": (
        lambda: random.normal(np.array([0, 1])),
        TypeError,
        "random.normal: key must be an array uint32[2], got key=int64[2].",
        KEY_FIX,
    ),
    "a number for a key": (
        lambda: random.split(0),
        TypeError,
        "random.split: key must be an array uint32[2], got key=0.",
        KEY_FIX,
    ),
    "a key of another shape": (
        lambda: random.bits(np.zeros(3, np.uint32)),
        TypeError,
        "random.bits: key must be an array uint32[2], got key=uint32[3].",
        KEY_FIX,
    ),
    "several keys": (
        lambda: random.uniform(random.split(KEY)),
        ValueError,
        "random.uniform: key must be one key, of shape (2,), got key=uint32[2,2].",
        "map over the keys with autodiff.vmap, or take one of them (keys[0]).",
    ),
    "a seed that is not an integer": (
        lambda: random.key(1.5),
        TypeError,
        "random.key: seed must be an integer, got seed=1.5.",
        "pass an int, for example key(0).",
    ),
    "a seed of floats": (
        lambda: random.key(np.float32(2)),
        TypeError,
        "random.key: seed must be an integer, got seed=float32.",
        "pass an int, for example key(0).",
    ),
    "several seeds": (
        lambda: random.key(np.arange(3)),
        ValueError,
        "random.key: seed must be one integer, got seed=int64[3].",
        "map over the seeds with autodiff.vmap.",
    ),
    "a seed of more than 64 bits": (
        lambda: random.key(2**64),
        ValueError,
        "random.key: seed must fit into 64 bits, got seed=18446744073709551616.",
        "take the seed modulo 2**64.",
    ),
    "a negative number of keys": (
        lambda: random.split(KEY, -1),
        ValueError,
        "random.split: num must have no negative size, got num=(-1,).",
        "give the number of elements along each axis.",
    ),
    "a float to fold in": (
        lambda: random.fold_in(KEY, 0.5),
        TypeError,
        "random.fold_in: data must be an integer, got data=0.5.",
        "pass an int, for example the number of the step.",
    ),
    "several numbers to fold in": (
        lambda: random.fold_in(KEY, np.arange(2)),
        ValueError,
        "random.fold_in: data must be one integer, got data=int64[2].",
        "map over the numbers with autodiff.vmap.",
    ),
    "a negative number to fold in": (
        lambda: random.fold_in(KEY, -1),
        ValueError,
        "random.fold_in: data must be from 0 to 2**32 - 1, got data=-1.",
        "take it modulo 2**32.",
    ),
    "a negative size": (
        lambda: random.normal(KEY, (2, -3)),
        ValueError,
        "random.normal: shape must have no negative size, got shape=(2, -3).",
        "give the number of elements along each axis.",
    ),
    "a number for a shape": (
        lambda: random.gumbel(KEY, 3),
        TypeError,
        "random.gumbel: shape must be a tuple of integers, got shape=3.",
        "write shape=(n,) for n numbers; a traced size cannot determine a shape.",
    ),
    "a float in a shape": (
        lambda: random.exponential(KEY, (2.0,)),
        TypeError,
        "random.exponential: shape must be a tuple of integers, got shape=(2.0,).",
        "write shape=(n,) for n numbers; a traced size cannot determine a shape.",
    ),
    "integers from uniform": (
        lambda: random.uniform(KEY, (), "int32"),
        TypeError,
        "random.uniform: dtype must be a real floating type, got dtype=int32.",
        "pass dtype='float64', for example, or convert the result with .astype.",
    ),
    "integers from normal": (
        lambda: random.normal(KEY, (), "int32"),
        TypeError,
        "random.normal: dtype must be a floating or complex type, got dtype=int32.",
        "pass dtype='float64', for example, or convert the result with .astype.",
    ),
    "signed bits": (
        lambda: random.bits(KEY, (), "int32"),
        TypeError,
        "random.bits: dtype must be an unsigned integer type, got dtype=int32.",
        "pass dtype='uint64', for example, or convert the result with .astype.",
    ),
    "floats from randint": (
        lambda: random.randint(KEY, (), 0, 5, "float32"),
        TypeError,
        "random.randint: dtype must be an integer type, got dtype=float32.",
        "pass dtype='int64', for example, or convert the result with .astype.",
    ),
    "a complex bound": (
        lambda: random.uniform(KEY, (), None, 0.0, 1j),
        TypeError,
        "random.uniform: maxval must be a real number or an array of them, got maxval=1j.",
        "pass a real number, or an array converted with .astype.",
    ),
    "a float bound of integers": (
        lambda: random.randint(KEY, (), 0.5, 5),
        TypeError,
        "random.randint: minval must be an integer or an array of them, got minval=0.5.",
        "pass an integer, or an array converted with .astype.",
    ),
    "float bounds of integers": (
        lambda: random.randint(KEY, (2,), 0, np.ones(2)),
        TypeError,
        "random.randint: maxval must be an integer or an array of them, got maxval=float64[2].",
        "pass an integer, or an array converted with .astype.",
    ),
    "bounds that do not fit the shape": (
        lambda: random.uniform(KEY, (2,), None, np.zeros(3)),
        ValueError,
        "random.uniform: the parameters must broadcast to the shape of the result, got "
        "shape=(2,), minval.shape=(3,), maxval.shape=().",
        BOUNDS_FIX,
    ),
    "bounds that do not fit each other": (
        lambda: random.truncated_normal(KEY, np.zeros(2), np.ones(3)),
        ValueError,
        "random.truncated_normal: the parameters must broadcast to the shape of the result, got "
        "lower.shape=(2,), upper.shape=(3,).",
        BOUNDS_FIX,
    ),
    "a larger parameter than the shape": (
        lambda: random.bernoulli(KEY, np.full((4, 3), 0.5), (3,)),
        ValueError,
        "random.bernoulli: the parameters must broadcast to the shape of the result, got "
        "shape=(3,), p.shape=(4, 3).",
        BOUNDS_FIX,
    ),
    "a probability that is an integer": (
        lambda: random.bernoulli(KEY, 1),
        TypeError,
        "random.bernoulli: p must be a float or an array of them, got p=1.",
        "pass a float, or an array converted with .astype.",
    ),
    "an unknown mode": (
        lambda: random.bernoulli(KEY, 0.5, (), "medium"),
        ValueError,
        "random.bernoulli: mode must be one of 'low', 'high', got mode='medium'.",
        "leave mode out for the first of them.",
    ),
    "integer logits": (
        lambda: random.categorical(KEY, np.arange(3)),
        TypeError,
        "random.categorical: logits must be a float or an array of them, got logits=int64[3].",
        "pass a float, or an array converted with .astype.",
    ),
    "a shape that does not end in the logits'": (
        lambda: random.categorical(KEY, np.zeros((2, 3)), shape=(2, 5)),
        ValueError,
        "random.categorical: shape must end in the shape of logits without axis, got "
        "shape=(2, 5), logits=float64[2,3], axis=1.",
        "give a shape that ends in (2,), or leave shape out.",
    ),
    "more distinct categories than there are": (
        lambda: random.categorical(KEY, np.zeros(3), shape=(4,), replace=False),
        ValueError,
        "random.categorical: without replacement there must be at least as many categories as "
        "draws, got draws=4, categories=3.",
        "draw fewer, or pass replace=True.",
    ),
    "a missing axis": (
        lambda: random.permutation(KEY, np.zeros((2, 3)), 2),
        ValueError,
        "random.permutation: axis must be one of the 2 axes of the array, got axis=2.",
        "give a number from -2 to 1.",
    ),
    "a permutation of a float": (
        lambda: random.permutation(KEY, 2.5),
        TypeError,
        "random.permutation: x must be an integer or an array with an axis, got x=2.5.",
        "pass an int, or convert the value with numpy.asarray.",
    ),
    "a permutation of fewer than none": (
        lambda: random.permutation(KEY, -3),
        ValueError,
        "random.permutation: x must not be negative, got x=-3.",
        "give the number of elements.",
    ),
    "probabilities of the wrong length": (
        lambda: random.choice(KEY, 4, (), True, np.ones(3)),
        ValueError,
        "random.choice: p must have one probability for each entry, got p=float64[3], entries=4.",
        "give 4 numbers, of shape (4,).",
    ),
    "more draws than entries": (
        lambda: random.choice(KEY, 4, (5,), replace=False),
        ValueError,
        "random.choice: there must be at least as many entries as draws without replacement, and "
        "at least one, got entries=4, draws=5.",
        "draw fewer, or pass replace=True.",
    ),
}


def too_many_words() -> None:
    with override(threefry_partitionable=False):
        random.bits(KEY, (2**33,), "uint16")


CASES["more words than the older layout has"] = (
    too_many_words,
    ValueError,
    "random.bits: in the older layout a draw must take fewer than 2**32 words, got "
    "words=4294967296.",
    "split the key and draw in parts, or use the setting threefry_partitionable=True.",
)


@pytest.mark.parametrize("case", CASES)
def test_error_says_what_is_wrong_and_what_to_do(case: str) -> None:
    call, error, sentence, fix = CASES[case]
    with pytest.raises(error) as caught:
        call()
    first, line, *rest = str(caught.value).split("\n")
    assert type(caught.value) is error
    assert first == sentence
    assert line.startswith(f"At {__file__}:")
    assert rest == [f"To fix: {fix}"]
