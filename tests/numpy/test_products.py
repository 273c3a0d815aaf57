"""Products of arrays against NumPy's, through both doors, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
import autodiff.numpy as anp
from tests.numpy.doors import (
    assert_compiles,
    assert_differentiates,
    assert_equal_to_numpy,
    samples,
)

DTYPES = ["float32", "float64", "float16", "complex64", "complex128", "int32", "uint8", "bool"]

MATMUL_SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((1, 1), (1, 1)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (1, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((7, 1, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (4, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((0, 2, 3), (3, 2)),
    ((0,), (0,)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", MATMUL_SHAPES, ids=str)
def test_matmul(shapes: Any, dtype: str, random: np.random.Generator) -> None:
    x, y = [samples(random, shape, dtype) for shape in shapes]
    assert_equal_to_numpy(lambda m, x, y: m.matmul(x, y), x, y)
    assert_equal_to_numpy(lambda m, x, y: x @ y, x, y)


@pytest.mark.parametrize("shapes", MATMUL_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [float, complex])
def test_derivatives_of_matmul(shapes: Any, dtype: Any, random: np.random.Generator) -> None:
    x, y = [samples(random, shape, dtype) for shape in shapes]
    assert_differentiates(lambda m, x, y: m.matmul(x, y), x, y)


@pytest.mark.parametrize(("left", "right"), [("float32", "float64"), ("int32", "float32")])
def test_matmul_promotes_as_numpy(left: str, right: str, random: np.random.Generator) -> None:
    x, y = samples(random, (2, 3), left), samples(random, (3, 2), right)
    assert_equal_to_numpy(lambda m, x, y: m.matmul(x, y), x, y)
    assert_equal_to_numpy(lambda m, x: m.matmul(x, y), x)
    assert_equal_to_numpy(lambda m, y: m.matmul(x.tolist(), y), y)
    assert_equal_to_numpy(lambda m, y: x @ y, y)
    assert_equal_to_numpy(lambda m, x: x @ y.tolist(), x)


def test_matmul_in_place(random: np.random.Generator) -> None:
    x, y = samples(random, (3, 3)), samples(random, (3, 3))

    def function(m: Any, x: Any, y: Any) -> Any:
        x = x.copy()
        x @= y
        return x

    expected = x @ y
    np.testing.assert_allclose(ad.vjp(lambda x: function(anp, x * 1.0, y), x)[0], expected)


def test_matmul_with_named_axes(random: np.random.Generator) -> None:
    x, y = samples(random, (3, 2, 5)), samples(random, (3, 5, 4))
    for axes in (
        [(1, 2), (1, 2), (1, 2)],
        [(1, 2), (1, 2), (0, 1)],
        [(-2, -1), (-2, -1), (2, 0)],
    ):
        assert_equal_to_numpy(lambda m, x, y, axes=axes: m.matmul(x, y, axes=axes), x, y)


def test_matmul_into_a_traced_array(random: np.random.Generator) -> None:
    x, y = samples(random, (2, 3)), samples(random, (3, 2))

    def function(x: Any) -> Any:
        out = x[:, :2] * 0
        np.matmul(x, y, out=out)
        return out

    np.testing.assert_allclose(ad.vjp(function, x)[0], x @ y)


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "text"),
    [
        (
            (2, 3),
            (2, 3),
            "matmul: the last axis of the first operand must be as long as the second to last axis "
            "of the second, got shapes=(2, 3), (2, 3).",
        ),
        ((), (3,), "matmul: the operands must have at least one axis, got shapes=(), (3,)."),
        (
            (2, 2, 3),
            (3, 3, 2),
            "matmul: the stacks of matrices must broadcast together, got shapes="
            "(2, 2, 3), (3, 3, 2).",
        ),
    ],
)
def test_matmul_says_what_does_not_fit(x_shape: Any, y_shape: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ad.grad(lambda x: np.matmul(x, np.ones(y_shape)).sum())(np.ones(x_shape))
    assert str(caught.value).partition("\n")[0] == text


DOT_SHAPES = [
    ((3,), (3,)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((2, 3), (3,)),
    ((4, 2, 3), (5, 3, 2)),
    ((0, 3), (3, 0)),
    ((2, 0), (0, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", DOT_SHAPES, ids=str)
def test_dot(shapes: Any, dtype: str, random: np.random.Generator) -> None:
    x, y = [samples(random, shape, dtype) for shape in shapes]
    assert_equal_to_numpy(lambda m, x, y: m.dot(x, y), x, y)
    assert_equal_to_numpy(lambda m, x, y: x.dot(y), x, y)


def test_dot_with_a_number_is_numpys(random: np.random.Generator) -> None:
    x = samples(random, (3,), "float32")
    assert_equal_to_numpy(lambda m, x: m.dot(x, 2.0), x)
    assert_equal_to_numpy(lambda m, x: m.dot(2, x), x)


FUNCTIONS = {
    "vdot": (lambda m, x, y: m.vdot(x, y), (2, 3), (3, 2)),
    "vecdot": (lambda m, x, y: m.vecdot(x, y), (2, 3), (3,)),
    "vecdot along an axis": (lambda m, x, y: m.vecdot(x, y, axis=0), (3, 2), (3, 2)),
    "matvec": (lambda m, x, y: m.matvec(x, y), (5, 2, 3), (3,)),
    "vecmat": (lambda m, x, y: m.vecmat(x, y), (5, 2), (2, 3)),
    "inner": (lambda m, x, y: m.inner(x, y), (4, 3), (5, 2, 3)),
    "inner with a number": (lambda m, x, y: m.inner(x, y), (4, 3), ()),
    "outer": (lambda m, x, y: m.outer(x, y), (2, 2), (3,)),
    "outer of nothing": (lambda m, x, y: m.outer(x, y), (0,), ()),
    "multiply.outer": (lambda m, x, y: np.multiply.outer(x, y), (2, 2), (3,)),
    "tensordot": (lambda m, x, y: m.tensordot(x, y), (4, 2, 3), (2, 3, 5)),
    "tensordot by 0": (lambda m, x, y: m.tensordot(x, y, 0), (2,), (3,)),
    "tensordot by pairs": (
        lambda m, x, y: m.tensordot(x, y, ((0, -1), (1, 0))),
        (4, 2, 3),
        (3, 4, 5),
    ),
    "tensordot by one pair": (lambda m, x, y: m.tensordot(x, y, (1, 0)), (4, 2), (2, 5)),
    "kron": (lambda m, x, y: m.kron(x, y), (2, 3), (3,)),
    "kron with a number": (lambda m, x, y: m.kron(x, y), (), (3, 2)),
    "kron of stacks": (lambda m, x, y: m.kron(x, y), (2, 1, 2), (2, 3)),
    "cross": (lambda m, x, y: m.cross(x, y), (4, 3), (3,)),
    "cross along axis 0": (lambda m, x, y: m.cross(x, y, axis=0), (3, 4), (3, 4)),
    "cross along axes": (lambda m, x, y: m.cross(x, y, 0, 1, 0), (3, 4), (4, 3)),
    "linalg.cross": (lambda m, x, y: np.linalg.cross(x, y), (4, 3), (4, 3)),
    "linalg.outer": (lambda m, x, y: np.linalg.outer(x, y), (4,), (3,)),
    "linalg.vecdot": (lambda m, x, y: np.linalg.vecdot(x, y), (4, 3), (4, 3)),
    "multi_dot": (lambda m, x, y: np.linalg.multi_dot([x, y, x, y]), (2, 7), (7, 2)),
    "multi_dot of vectors": (lambda m, x, y: np.linalg.multi_dot([x, y, x]), (3,), (3, 3)),
    "convolve": (lambda m, x, y: m.convolve(x, y), (5,), (3,)),
    "convolve, longer kernel": (lambda m, x, y: m.convolve(x, y, "same"), (2,), (5,)),
    "convolve, one each": (lambda m, x, y: m.convolve(x, y), (1,), (1,)),
    "convolve where valid": (lambda m, x, y: m.convolve(x, y, "valid"), (5,), (2,)),
    "correlate": (lambda m, x, y: m.correlate(x, y), (5,), (3,)),
    "correlate, longer kernel": (lambda m, x, y: m.correlate(x, y, "full"), (2,), (5,)),
    "correlate, same length": (lambda m, x, y: m.correlate(x, y, "same"), (6,), (4,)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_product(name: str, dtype: str, random: np.random.Generator) -> None:
    function, *shapes = FUNCTIONS[name]
    x, y = [samples(random, shape, dtype) for shape in shapes]
    assert_equal_to_numpy(function, x, y)
    assert_compiles(function, x, y)


def test_cross_of_plane_vectors_is_refused() -> None:
    with pytest.raises(ValueError, match="cross: vectors must have 3 components"):
        ad.jit(lambda x: anp.cross(x, x))(np.ones(2))


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_product(name: str, dtype: Any, random: np.random.Generator) -> None:
    function, *shapes = FUNCTIONS[name]
    x, y = [samples(random, shape, dtype) for shape in shapes]
    assert_differentiates(function, x, y)


@pytest.mark.parametrize("name", ["matvec", "cross", "kron", "convolve", "tensordot by pairs"])
def test_mapped_product_is_a_loop(name: str, random: np.random.Generator) -> None:
    function, *shapes = FUNCTIONS[name]
    x, y = [samples(random, (4, *shape)) for shape in shapes]
    mapped = ad.vmap(lambda x, y: function(np, x, y))(x, y)
    np.testing.assert_allclose(mapped, [function(np, a, b) for a, b in zip(x, y, strict=True)])


@pytest.mark.parametrize("exponent", range(6))
def test_matrix_power(exponent: int, random: np.random.Generator) -> None:
    for dtype in ("float64", "complex64", "int32"):
        x = samples(random, (2, 3, 3), dtype)
        assert_equal_to_numpy(lambda m, x: np.linalg.matrix_power(x, exponent), x)
    x = samples(random, (3, 3))
    assert_differentiates(lambda m, x: np.linalg.matrix_power(x, exponent) + 0 * x, x)


def test_multi_dot_multiplies_in_the_cheapest_order() -> None:
    x, y, z = np.ones((10, 100)), np.ones((100, 5)), np.ones((5, 50))
    graph = ad.make_graph(lambda x, y, z: np.linalg.multi_dot([x, y, z]))(x, y, z)
    assert "float64[10,5] = dot_general" in str(graph)


# ------------------------------------------------------------------------------------------- einsum

EINSUM = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ik,kj", (2, 3), (3, 4)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iii->i", (3, 3, 3)),
    ("iji->ij", (3, 2, 3)),
    ("iijj->ij", (2, 2, 3, 3)),
    ("ba", (2, 3)),
    ("i->", (3,)),
    ("->", ()),
    (",ij->ji", (), (2, 3)),
    ("...->...", (2, 3)),
    ("i...->...", (2, 3)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...ij,...jk->...ik", (5, 1, 2, 3), (4, 3, 2)),
    ("...ij,...jk", (5, 2, 3), (3, 4)),
    ("i...,i...->...i", (2, 3), (2, 1)),
    ("i,i->i", (1,), (3,)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,kl->", (2, 3), (2, 4)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("a,b,c", (2,), (3,), (4,)),
    ("ij,ij,ij->", (2, 3), (2, 3), (2, 3)),
    ("ij,j,jk,k->i", (2, 3), (3,), (3, 4), (4,)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
    ("ii->i", (0, 0)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int32", "bool"])
@pytest.mark.parametrize("case", EINSUM, ids=str)
def test_einsum(case: Any, dtype: str, random: np.random.Generator) -> None:
    expression, *shapes = case
    arrays = [samples(random, shape, dtype) for shape in shapes]
    assert_equal_to_numpy(lambda m, *a: m.einsum(expression, *a), *arrays)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("case", EINSUM, ids=str)
def test_derivatives_of_einsum(case: Any, dtype: Any, random: np.random.Generator) -> None:
    expression, *shapes = case
    arrays = [samples(random, shape, dtype) for shape in shapes]
    assert_differentiates(lambda m, *a: m.einsum(expression, *a), *arrays)


@st.composite
def einsum_calls(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """Expressions of one to four operands, letters repeated, with ellipses and any output."""
    sizes = {letter: draw(st.integers(0, 3)) for letter in "abcdXY"}
    ellipsis = draw(st.lists(st.integers(1, 3), max_size=2))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 4))):
        letters = draw(st.lists(st.sampled_from("abcdXY"), max_size=4))
        term, shape = "".join(letters), [sizes[c] for c in letters]
        if draw(st.integers(0, 3)) == 0:
            place = draw(st.integers(0, len(letters)))
            count = draw(st.integers(0, len(ellipsis)))
            shared = [n if draw(st.booleans()) else 1 for n in ellipsis[len(ellipsis) - count :]]
            term = term[:place] + "..." + term[place:]
            shape[place:place] = shared
        terms.append(term)
        shapes.append(tuple(shape))
    expression = ",".join(terms)
    if draw(st.booleans()):
        present = sorted({c for c in expression if c.isalpha()})
        chosen = draw(st.permutations(present))[: draw(st.integers(0, len(present)))]
        dots = ["..."] if "..." in expression else []
        place = draw(st.integers(0, len(chosen)))
        expression += "->" + "".join([*chosen[:place], *dots, *chosen[place:]])
    return expression, shapes


@settings(max_examples=300, deadline=None)
@given(einsum_calls(), st.integers(0, 2**32 - 1), st.sampled_from([False, True, "greedy"]))
def test_any_einsum(call: Any, seed: int, optimize: Any) -> None:
    expression, shapes = call
    random = np.random.default_rng(seed)
    arrays = [random.integers(-3, 4, size=shape).astype(float) for shape in shapes]
    expected = np.einsum(expression, *arrays)
    found = ad.vjp(lambda *a: np.einsum(expression, *a, optimize=optimize), *arrays)[0]
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


def test_einsum_by_lists_of_axes(random: np.random.Generator) -> None:
    x, y = samples(random, (2, 3, 4)), samples(random, (4, 3))
    assert_equal_to_numpy(lambda m, x, y: m.einsum(x, [0, 1, 2], y, [2, 1], [0]), x, y)
    assert_equal_to_numpy(lambda m, x, y: m.einsum(x, [7, 1, 30], y, [30, 1]), x, y)
    assert_equal_to_numpy(
        lambda m, x, y: m.einsum(x, [Ellipsis, 0, 1], y, [1, 0], [Ellipsis]), x, y
    )


def test_einsum_promotes_and_converts(random: np.random.Generator) -> None:
    x, y = samples(random, (2, 3), "float32"), samples(random, (3,), "int32")
    assert_equal_to_numpy(lambda m, x, y: m.einsum("ij,j", x, y), x, y)
    assert_equal_to_numpy(lambda m, x: m.einsum("ij,j,->i", x, [1, 2, 3], 2.0), x)
    assert_equal_to_numpy(lambda m, y: m.einsum("i->", y, dtype="float64"), y)
    with pytest.raises(TypeError, match=r"einsum: operands must be castable to dtype=int32"):
        ad.vjp(lambda x: np.einsum("ij->", x, dtype="int32"), x)


def test_einsum_by_a_given_path(random: np.random.Generator) -> None:
    shapes = [(2, 3), (3, 4), (4, 5), (5, 2)]
    arrays = [samples(random, shape) for shape in shapes]
    expression = "ab,bc,cd,de->ae"
    for path in (["einsum_path", (0, 1), (0, 1), (0, 1)], ["einsum_path", (0, 1, 2), (0, 1)]):
        assert_equal_to_numpy(
            lambda m, *a, path=path: m.einsum(expression, *a, optimize=path), *arrays
        )


def test_einsum_contracts_in_the_cheapest_order() -> None:
    x, y, z = np.ones((50, 50)), np.ones((50, 50)), np.ones(50)
    graph = str(ad.make_graph(lambda x, y, z: np.einsum("ij,jk,k->i", x, y, z))(x, y, z))
    assert "float64[50,50] = dot_general" not in graph


def test_einsum_sums_private_axes_before_the_product() -> None:
    x, y = np.ones((5, 6)), np.ones((5, 7))
    graph = str(ad.make_graph(lambda x, y: np.einsum("ij,ik->i", x, y))(x, y))
    assert graph.count("= sum") == 2
    assert "[5,6,7]" not in graph


def test_einsum_of_one_operand_is_a_view() -> None:
    def write_into_a_view(x: Any) -> Any:
        x = x * 1.0
        diagonal = np.einsum("ii->i", x)
        x += 1
        return diagonal

    with pytest.raises(ValueError, match="share memory"):
        ad.vjp(write_into_a_view, np.eye(3))


@pytest.mark.parametrize(
    ("expression", "shapes", "text"),
    [
        ("ij->i", [(2,)], "einsum('ij->i'): the term 'ij' must name every axis of its operand, "
         "got shape=(2,)."),
        ("ij,k", [(2, 3)], "einsum('ij,k'): there must be an operand for each of 2 terms, got 1."),
        ("ij,jk", [(2, 3), (4, 5)], "einsum('ij,jk'): the axes named 'j' must be of one length, "
         "got lengths=3, 4."),
        ("ii", [(2, 3)], "einsum('ii'): the axes named 'i' of one operand must be of one length, "
         "got shape=(2, 3)."),
        ("i->k", [(2,)], "einsum('i->k'): the output's letters must occur in a term, got 'k'."),
        ("i->ii", [(2,)], "einsum('i->ii'): the output must name each axis once, got output='ii'."),
        ("i1", [(2, 3)], "einsum('i1'): subscripts must be letters, got '1'."),
        ("i..", [(2, 3, 4)], "einsum('i..'): an ellipsis must be three dots, once in a term, got "
         "term='i..'."),
        ("i...->i", [(2, 3)], "einsum('i...->i'): the output must have '...' where the operands "
         "have it."),
    ],
)  # fmt: skip
def test_einsum_says_what_is_wrong(expression: str, shapes: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ad.vjp(lambda *a: np.einsum(expression, *a), *[np.ones(shape) for shape in shapes])
    assert str(caught.value).partition("\n")[0] == text


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
