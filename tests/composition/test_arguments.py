"""What is differentiated and mapped, and how it comes back: trees, positions, keywords."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree

Pair = namedtuple("Pair", "left right")


@tree.register_dataclass(meta_fields=["power"])
@dataclass(frozen=True)
class Model:
    weight: object
    bias: object
    power: int = 2

    def __call__(self, x):
        return np.sum((self.weight * x + self.bias) ** self.power)


def equal(found, expected):
    assert tree.structure(found) == tree.structure(expected)
    for leaf, wanted in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-13, atol=1e-15)


TREES = [
    {"w": [np.array([1.0, 2.0]), np.array(3.0)], "b": None},
    (np.array([1.0]), (), [np.array([[2.0]])]),
    OrderedDict(z=np.array(1.0), a=np.array([2.0, 4.0])),
    Pair(np.array([1.0, -1.0]), {"x": np.array(0.5)}),
    Model(np.array([1.0, 2.0]), np.array(0.5), 3),
    tree.Partial(np.multiply, np.array([1.0, 2.0])),
    {2: np.array(1.0), 1: np.array(2.0)},
    np.array([[1.0, 2.0]]),
]


def squares(x):
    return sum(np.sum(leaf**2) for leaf in tree.leaves(x))


@pytest.mark.parametrize("x", TREES, ids=lambda x: type(x).__name__)
def test_a_gradient_has_the_structure_of_its_argument(x):
    expected = tree.map(lambda leaf: 2 * leaf, x)
    equal(ad.grad(squares)(x), expected)
    equal(ad.jit(ad.grad(squares))(x), expected)
    equal(ad.vjp(squares, x)[1](1.0)[0], expected)
    equal(ad.jacrev(squares)(x), expected)
    equal(ad.jacfwd(squares)(x), expected)
    batch = tree.map(lambda leaf: np.stack([leaf, 3 * leaf]), x)
    equal(ad.vmap(ad.grad(squares))(batch), tree.map(lambda leaf: 2 * leaf, batch))


@pytest.mark.parametrize("x", TREES, ids=lambda x: type(x).__name__)
def test_tangents_and_outputs_have_the_structure_of_the_trees(x):
    def cubes(x):
        return tree.map(lambda leaf: leaf**3, x)

    tangents = tree.map(lambda leaf: 0.5 * leaf, x)
    out, out_tangents = ad.jvp(cubes, (x,), (tangents,))
    equal(out, cubes(x))
    equal(out_tangents, tree.map(lambda leaf: 1.5 * leaf**3, x))
    equal(ad.linearize(cubes, x)[1](tangents), out_tangents)
    equal(ad.vjp(cubes, x)[1](tangents)[0], out_tangents)


def test_jacobians_of_trees_have_the_output_tree_outside_and_the_input_tree_inside():
    def f(p):
        return {"sum": p["x"] + p["y"], "product": np.array([2.0, 3.0]) * p["y"]}

    p = {"x": np.array([1.0, 2.0]), "y": np.array(3.0)}
    expected = {
        "sum": {"x": np.eye(2), "y": np.ones(2)},
        "product": {"x": np.zeros((2, 2)), "y": np.array([2.0, 3.0])},
    }
    equal(ad.jacfwd(f)(p), expected)
    equal(ad.jacrev(f)(p), expected)


def test_a_hessian_of_a_tree_has_the_tree_twice():
    def f(p):
        return np.sum(p["x"] ** 2) * p["y"]

    x, y = np.array([1.0, 2.0]), np.array(3.0)
    expected = {
        "x": {"x": 2 * y * np.eye(2), "y": 2 * x},
        "y": {"x": 2 * x, "y": np.array(0.0)},
    }
    equal(ad.hessian(f)({"x": x, "y": y}), expected)


def three(a, b, c):
    return np.sum(a * b**2) + np.sum(np.exp(c))


A, B, C = np.array([1.0, 2.0]), np.array([3.0, -1.0]), np.array(0.5)
BY_ARGUMENT = (B**2, 2 * A * B, np.exp(C))


@pytest.mark.parametrize(
    "argnums", [0, 1, 2, -1, (0,), (0, 1), (2, 0), (1, 2, 0), [0, 2], (-1, 0)], ids=str
)
@pytest.mark.parametrize("transformation", [ad.grad, ad.jacfwd, ad.jacrev])
def test_argnums_give_a_bare_gradient_or_a_tuple_in_the_order_asked(transformation, argnums):
    found = transformation(three, argnums)(A, B, C)
    if isinstance(argnums, int):
        equal(found, BY_ARGUMENT[argnums])
    else:
        equal(found, tuple(BY_ARGUMENT[i] for i in argnums))


def test_value_and_grad_gives_both():
    value, (first, last) = ad.value_and_grad(three, (0, 2))(A, B, C)
    equal(value, three(A, B, C))
    equal((first, last), (BY_ARGUMENT[0], BY_ARGUMENT[2]))


def test_hessian_with_several_argnums_has_a_tuple_of_tuples():
    def f(a, b):
        return a**2 * b**3

    found = ad.hessian(f, (0, 1))(2.0, 3.0)
    equal(found, ((np.array(54.0), np.array(108.0)), (np.array(108.0), np.array(72.0))))


def test_keywords_are_passed_and_not_differentiated():
    def f(x, *, scale, shift=0.0, name="f"):
        assert name == "g"
        return np.sum(scale * x) + shift

    scale = np.array([2.0, 5.0])
    equal(ad.grad(f)(A, scale=scale, name="g"), scale)
    equal(ad.jacfwd(f)(A, scale=scale, name="g"), scale)
    value, _ = ad.value_and_grad(f)(A, scale=scale, shift=1.0, name="g")
    equal(value, np.array(13.0))
    jitted = ad.jit(f, static_argnames="name")
    equal(jitted(A, scale=scale, name="g"), np.array(12.0))
    equal(ad.grad(jitted)(A, scale=scale, name="g"), scale)


def test_keywords_of_a_mapped_function_are_mapped_over_their_first_axis():
    found = ad.vmap(lambda x, *, y: x * y)(A, y=B)
    equal(found, A * B)


def test_arguments_that_are_no_arrays_pass_through_grad():
    def f(x, mode, options):
        return np.sum(x ** options["power"]) if mode == "sum" else np.prod(x)

    equal(ad.grad(f)(A, "sum", {"power": 3}), 3 * A**2)
    equal(ad.grad(f)(A, "product", {"power": None}), A[::-1].copy())


def test_unused_arguments_get_zeros_of_their_type():
    unused = {"a": np.ones((2, 3), np.float32), "b": np.array(1.0 + 2j)}
    found = ad.grad(lambda x, y: np.sum(x), 1)(A, unused)
    equal(found, {"a": np.zeros((2, 3), np.float32), "b": np.array(0j)})
    assert (found["a"].dtype, found["b"].dtype) == (np.float32, np.complex128)
    equal(ad.vjp(lambda x, y: x, A, unused)[1](A), (A, found))
    equal(ad.jacrev(lambda x, y: x, 1)(A, np.ones(3)), np.zeros((2, 3)))
    equal(ad.jacfwd(lambda x, y: x, 1)(A, np.ones(3)), np.zeros((2, 3)))


def test_functions_that_return_constants_have_zero_derivatives():
    constant = np.array([5.0, 6.0])
    equal(ad.grad(lambda x: 3.0)(A), np.zeros(2))
    equal(ad.jvp(lambda x: constant, (A,), (B,)), (constant, np.zeros(2)))
    equal(ad.vjp(lambda x: constant, A)[1](B), (np.zeros(2),))
    equal(ad.linearize(lambda x: constant, A)[1](B), np.zeros(2))
    equal(ad.jacfwd(lambda x: constant)(A), np.zeros((2, 2)))
    equal(ad.jacrev(lambda x: constant)(A), np.zeros((2, 2)))
    equal(ad.hessian(lambda x: 3.0)(A), np.zeros((2, 2)))
    equal(ad.vmap(lambda x: constant)(A), np.stack([constant, constant]))
    equal(ad.vmap(lambda x: constant, out_axes=None)(A), constant)
    equal(ad.jit(lambda x: (constant, 1.5))(A), (constant, np.array(1.5)))
    equal(ad.jit(lambda: constant)(), constant)


def test_functions_that_return_their_argument_are_the_identity():
    for transformation in (lambda f: f, ad.jit, ad.vmap):
        same = transformation(lambda x: x)
        equal(ad.jvp(same, (A,), (B,)), (A, B))
        equal(ad.vjp(same, A)[1](B), (B,))
        equal(ad.linearize(same, A)[1](B), B)
        equal(ad.jacfwd(same)(A), np.eye(2))
        equal(ad.jacrev(same)(A), np.eye(2))
    equal(ad.grad(lambda x: x)(3.0), np.array(1.0))
    equal(ad.hessian(lambda x: x)(3.0), np.array(0.0))


def test_an_output_returned_twice_collects_both_cotangents():
    def twice(x):
        y = 3.0 * x
        return y, {"again": y}, x

    _, pull = ad.vjp(twice, A)
    equal(pull((A, {"again": B}, A))[0], 3 * (A + B) + A)
    _, tangents = ad.jvp(twice, (A,), (B,))
    equal(tangents, (3 * B, {"again": 3 * B}, B))
    equal(ad.jit(twice)(A), twice(A))
    equal(ad.vmap(twice)(A), twice(A))


def test_outputs_without_leaves_are_passed_through():
    equal(ad.jit(lambda x: None)(A), None)
    equal(ad.jvp(lambda x: (None, ()), (A,), (B,)), ((None, ()), (None, ())))
    equal(ad.vjp(lambda x: (None, []), A)[1]((None, [])), (np.zeros(2),))
    equal(ad.vmap(lambda x: ())(A), ())


def test_none_arguments_stay_none():
    def f(x, y):
        assert y is None
        return np.sum(x["a"] ** 2)

    x = {"a": A, "b": None}
    equal(ad.grad(f, (0, 1))(x, None), ({"a": 2 * A, "b": None}, None))
    equal(ad.jit(f)(x, None), np.array(5.0))
    equal(ad.vmap(f, in_axes=(0, None))(x, None), A**2)
    equal(ad.vjp(f, x, None)[1](1.0), ({"a": 2 * A, "b": None}, None))


def test_aux_passes_any_values_and_is_not_differentiated():
    def f(x):
        return np.sum(x**2), {"cubes": x**3, "name": "f", "none": None, "count": 2}

    gradient, aux = ad.grad(f, has_aux=True)(A)
    equal(gradient, 2 * A)
    assert (aux["name"], aux["none"], aux["count"]) == ("f", None, 2)
    equal(aux["cubes"], A**3)
    (value, aux), gradient = ad.value_and_grad(f, has_aux=True)(A)
    equal((value, aux["cubes"], gradient), (np.array(5.0), A**3, 2 * A))
    out, tangent, aux = ad.jvp(f, (A,), (B,), has_aux=True)
    equal((out, tangent, aux["cubes"]), (np.array(5.0), np.sum(2 * A * B), A**3))
    out, pull, aux = ad.vjp(f, A, has_aux=True)
    equal((pull(1.0), aux["cubes"]), ((2 * A,), A**3))
    out, push, aux = ad.linearize(f, A, has_aux=True)
    equal((push(B), aux["cubes"]), (np.sum(2 * A * B), A**3))
    jacobian, aux = ad.jacrev(f, has_aux=True)(A)
    equal((jacobian, aux["cubes"]), (2 * A, A**3))
    jacobian, aux = ad.jacfwd(f, has_aux=True)(A)
    equal((jacobian, aux["cubes"]), (2 * A, A**3))
    hessian, aux = ad.hessian(f, has_aux=True)(A)
    equal((hessian, aux["cubes"]), (2 * np.eye(2), A**3))


def test_aux_of_a_nested_gradient_reaches_the_outside():
    def outer(x):
        inner, aux = ad.grad(lambda y: (y**3, y * x), has_aux=True)(x)
        return inner, aux

    gradient, aux = ad.grad(outer, has_aux=True)(2.0)
    equal((gradient, aux), (np.array(12.0), np.array(4.0)))


def test_integer_and_boolean_arguments_are_carried_along():
    indices, mask = np.array([1, 1, 0]), np.array([True, False])

    def f(x, indices, mask):
        return np.sum(x[indices] * np.array([1.0, 10.0, 100.0])) + np.sum(np.where(mask, x, 0.0))

    expected = np.array([101.0, 11.0])
    equal(ad.grad(f)(A, indices, mask), expected)
    equal(ad.jit(ad.grad(f))(A, indices, mask), expected)
    first, second, third = ad.grad(f, (0, 1, 2), allow_int=True)(A, indices, mask)
    equal((first, second, third), (expected, np.zeros(3, np.int64), np.zeros(2, bool)))
    assert (second.dtype, third.dtype) == (np.int64, np.bool_)
    tangents = (B, np.zeros(3), np.zeros(2))
    equal(ad.jvp(f, (A, indices, mask), tangents)[1], expected @ B)


def test_integer_outputs_have_zero_tangents_and_take_no_cotangents():
    def f(x):
        return x * 2.0, np.argsort(x)

    (_, order), (_, order_tangent) = ad.jvp(f, (B,), (A,))
    equal((order, order_tangent), (np.array([1, 0]), np.zeros(2, np.int64)))
    _, pull = ad.vjp(f, B)
    equal(pull((A, np.zeros(2)))[0], 2 * A)


def test_vmap_takes_axes_of_every_form():
    x, y = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    equal(ad.vmap(np.sum, in_axes=1)(x), x.sum(0))
    equal(ad.vmap(np.sum, in_axes=-1)(x), x.sum(0))
    equal(ad.vmap(np.sum, in_axes=[0])(x), x.sum(1))
    by_key = ad.vmap(lambda p: p["x"].sum() * p["s"], in_axes=({"x": 1, "s": None},))
    equal(by_key({"x": x, "s": 2.0}), 2 * x.sum(0))
    equal(ad.vmap(lambda p, q: p[0] * q + p[1], in_axes=((0, None), 0))((x, 1.0), x), x * x + 1)
    equal(ad.vmap(lambda v: (v, v * 2), out_axes=(0, 1))(x), (x, 2 * x.T))
    equal(ad.vmap(lambda v: v, out_axes=-1)(x), x.T)
    equal(ad.vmap(lambda v, m: v @ m, in_axes=(0, None))(x, y), x @ y)
    equal(ad.vmap(lambda: np.array(1.0), axis_size=3)(), np.ones(3))
    equal(ad.vmap(lambda v, s: v * s, in_axes=(0, None))(x, 3.0), 3 * x)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 7, 100])
def test_chunks_change_nothing(chunk_size):
    x = np.arange(14.0).reshape(7, 2)
    mapped = ad.vmap(
        lambda v, s: (v * s, np.sum(v)),
        in_axes=(0, None),
        out_axes=(1, 0),
        chunk_size=chunk_size,
    )
    equal(mapped(x, 2.0), (2 * x.T, x.sum(1)))
    f = lambda v: np.sin(v) * np.sum(v)
    equal(ad.jacfwd(f, chunk_size=chunk_size)(x[1]), ad.jacfwd(f)(x[1]))
    equal(ad.jacrev(f, chunk_size=chunk_size)(x[1]), ad.jacrev(f)(x[1]))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)], ids=str)
def test_empty_arrays_pass_through_every_transformation(shape):
    x = np.zeros(shape)
    equal(ad.grad(squares)(x), x)
    equal(ad.jvp(np.sin, (x,), (x,)), (x, x))
    equal(ad.vjp(np.sin, x)[1](x), (x,))
    equal(ad.jacfwd(np.sin)(x), np.zeros(shape + shape))
    equal(ad.jacrev(np.sin)(x), np.zeros(shape + shape))
    equal(ad.jit(np.sin)(x), x)
    equal(ad.vmap(np.sin)(x), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[::2],
        lambda x: x[::-1],
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: np.stack([x, x], 1)[:, 0],
        lambda x: np.frombuffer(x.tobytes()),
    ],
    ids=["strided", "reversed", "broadcast", "column", "read_only"],
)
def test_arrays_of_every_layout_are_taken(make):
    x = make(np.array([0.1, 0.7, -0.3, 0.9]))
    equal(ad.grad(lambda x: np.sum(np.sin(x)))(x), np.cos(x))
    equal(ad.jit(np.sin)(x), np.sin(x))
    equal(ad.vmap(np.sin)(x), np.sin(x))


def test_python_and_numpy_scalars_are_arguments():
    for x in (2.0, np.float64(2.0), np.array(2.0)):
        found = ad.grad(lambda x: x**3)(x)
        assert type(found) is np.ndarray
        equal(found, np.array(12.0))
    equal(ad.grad(lambda x: np.real(x * np.conj(x)))(1 + 2j), np.array(2 - 4j))
    assert type(ad.jit(lambda x: x)(3)) is np.ndarray


def test_methods_and_callable_objects_are_transformed():
    class Owner:
        scale = 3.0

        def cubed(self, x):
            return self.scale * x**3

    owner = Owner()
    equal(ad.grad(owner.cubed)(2.0), np.array(36.0))
    equal(ad.grad(ad.jit(owner.cubed))(2.0), np.array(36.0))
    model = Model(2.0, 1.0, 3)
    equal(ad.grad(model)(1.0), np.array(54.0))
    equal(ad.grad(lambda model: model(1.0))(model), Model(np.array(27.0), np.array(27.0), 3))


def test_a_jitted_method_with_a_registered_self():
    @tree.register_dataclass
    @dataclass(frozen=True)
    class Line:
        slope: object

        @ad.jit
        def at(self, x):
            return self.slope * x

    equal(Line(np.array(3.0)).at(2.0), np.array(6.0))
    equal(ad.grad(lambda line: line.at(2.0))(Line(3.0)), Line(np.array(2.0)))
