"""checkpoint: the same values and derivatives, fewer values kept, operations repeated instead."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import checkpoint_policies as policies
from autodiff.api.transforms import Linearization
from tests.checkpoint.counting import count, residual_bytes, simplified
from tests.composition.transformations import COMPUTED, TRANSFORMED, as_arrays

X = np.array([0.3, -0.7, 1.1])
POLICIES = {
    "nothing": None,
    "everything": policies.everything_saveable,
    "matmuls": policies.matmuls_saveable,
    "names": policies.save_only_these_names("inner"),
    "all but names": policies.save_anything_except_these_names("inner"),
    "own": lambda primitive, avals, params: primitive.name == "cos",
}


def chain(x):
    inner = ad.checkpoint_name(np.sin(x), "inner")
    return np.exp(np.sin(inner))


def total(x):
    return np.sum(chain(x))


def network(params, x):
    for w in params:
        x = np.tanh(x @ w)
    return np.sum(x * x)


def weights():
    random = np.random.default_rng(3)
    return [random.standard_normal((4, 4)) / 2 for _ in range(3)], random.standard_normal((5, 4))


def agree(found, expected, rtol=1e-13):
    assert ad.tree.structure(found) == ad.tree.structure(expected)
    for one, other in zip(ad.tree.leaves(found), ad.tree.leaves(expected), strict=True):
        assert type(one) is np.ndarray
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-14)


# ------------------------------------------------------------------------ values and derivatives


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_derivatives_are_those_of_the_closed_form(policy):
    f = ad.checkpoint(total, policy=policy)
    s, t = np.sin(X), np.sin(np.sin(X))
    first = np.exp(t) * np.cos(s) * np.cos(X)
    du = np.cos(s) * np.cos(X)
    ddu = -np.sin(s) * np.cos(X) ** 2 - np.cos(s) * np.sin(X)
    agree(f(X), np.asarray(np.sum(np.exp(t))))
    agree(ad.grad(f)(X), first)
    agree(ad.jvp(f, (X,), (np.ones(3),))[1], np.asarray(np.sum(first)))
    agree(ad.hessian(f)(X), np.diag(np.exp(t) * (du**2 + ddu)))
    agree(ad.jacrev(ad.grad(f))(X), np.diag(np.exp(t) * (du**2 + ddu)))


NAMES = ["grad", "jvp", "vjp", "vmap", "jit", "linearize", "vmap_of_closure"]
CHAINS = [(a,) for a in NAMES] + [(a, b) for a in NAMES for b in NAMES]
CHAINS += [("grad", "vmap", "grad"), ("vmap", "grad", "vjp"), ("jit", "grad", "jvp")]
CHAINS += [("vjp", "vjp", "vjp"), ("jvp", "vjp", "vmap"), ("linearize", "linearize", "jit")]


@pytest.mark.parametrize("names", CHAINS, ids="-".join)
@pytest.mark.parametrize("policy", ["nothing", "names"])
def test_transformations_agree_with_differences_and_loops(names, policy):
    def plain(x):
        return {"y": np.sin(x["a"] * np.cos(x["b"])), "z": x["a"] ** 2}

    def named(x):
        return plain({"a": ad.checkpoint_name(np.sinh(x["a"]), "inner"), "b": x["b"]})

    argument = {"a": np.array([0.3, -0.5]), "b": np.array(0.4)}
    found = ad.checkpoint(named, policy=POLICIES[policy])
    expected = as_arrays(lambda x: plain({"a": np.sinh(x["a"]), "b": x["b"]}))
    for name in reversed(names):
        found, expected = TRANSFORMED[name](found), COMPUTED[name](expected)
    result, wanted = found(argument), expected(argument)
    assert ad.tree.structure(result) == ad.tree.structure(wanted)
    for leaf, other in zip(ad.tree.leaves(result), ad.tree.leaves(wanted), strict=True):
        scale = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(leaf, other, rtol=0.0, atol=2e-8 * scale)


def test_gradients_keep_every_bit():
    """By NumPy's functions: kernels are divided otherwise where something is computed again."""
    params, x = weights()
    for policy in POLICIES.values():
        with ad.override(kernels=False):
            found = ad.grad(ad.checkpoint(network, policy=policy))(params, x)
            expected = ad.grad(network)(params, x)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_types_stay_what_they_are():
    for dtype in (np.float32, np.float16, np.complex64, np.complex128):
        z = np.array([0.5, 0.25], dtype)
        gradient = ad.grad(ad.checkpoint(lambda z: np.sum(np.real(np.sin(z) * z))))(z)
        assert gradient.dtype == dtype
        np.testing.assert_array_equal(
            gradient, ad.grad(lambda z: np.sum(np.real(np.sin(z) * z)))(z)
        )


def test_integer_and_boolean_leaves_pass_through():
    @ad.checkpoint
    def f(values):
        x = np.where(values["mask"], values["x"], 0.0)
        return np.sum(x[values["i"]] ** 2), values["i"] + 1

    values = {"x": X, "mask": np.array([True, False, True]), "i": np.array([0, 0, 2])}

    def loss(x):
        return f({**values, "x": x})[0]

    agree(ad.grad(loss)(X), np.array([4 * 0.3, 0.0, 2 * 1.1]))
    np.testing.assert_array_equal(ad.jit(f)(values)[1], [1, 1, 3])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0)])
def test_small_and_empty_arrays(shape):
    x = np.full(shape, 0.5)
    agree(ad.grad(ad.checkpoint(total))(x), np.asarray(ad.grad(total)(x)))


# --------------------------------------------------------------------------------- repeats, memory


@pytest.mark.parametrize(
    ("policy", "repeated"),
    [
        ("nothing", {"sin": 2, "exp": 1, "cos": 0}),
        ("everything", {"sin": 0, "exp": 0, "cos": 0}),
        ("matmuls", {"sin": 2, "exp": 1, "cos": 0}),
        ("names", {"sin": 1, "exp": 1, "cos": 0}),
        ("all but names", {"sin": 0, "exp": 0, "cos": 0}),
        ("own", {"sin": 2, "exp": 1, "cos": 0}),
    ],
)
def test_operations_are_repeated_as_the_policy_says_also_under_jit(policy, repeated):
    f = ad.checkpoint(total, policy=POLICIES[policy])
    for make in (simplified, lambda fun, x: ad.make_graph(fun)(x)):
        plain = make(ad.value_and_grad(total), X)
        graph = make(ad.value_and_grad(f), X)
        found = {name: count(graph, name) - count(plain, name) for name in repeated}
        assert found == repeated
    traced_by_jit = simplified(ad.jit(ad.value_and_grad(f)), X)
    assert count(traced_by_jit, "sin") == 2 + repeated["sin"]


def test_forward_evaluation_alone_repeats_nothing():
    f = ad.checkpoint(total)
    assert count(simplified(f, X), "sin") == 2
    assert count(simplified(lambda x: ad.jvp(f, (x,), (x,)), X), "sin") == 2


@pytest.mark.parametrize(
    ("policy", "arrays"),
    [("nothing", 1), ("everything", 3), ("matmuls", 1), ("names", 2), ("own", 3)],
)
def test_what_is_kept_is_what_the_policy_saves(policy, arrays):
    """Without checkpoint: cos x, cos(sin x) and exp(...)."""
    f = ad.checkpoint(total, policy=POLICIES[policy])
    assert residual_bytes(total, X) == 3 * 24
    assert residual_bytes(f, X) == arrays * 24


def test_memory_of_layers_is_that_of_their_arguments():
    def layers(x, wrap):
        for _ in range(6):
            x = wrap(lambda y: np.sin(np.exp(np.sin(y))))(x)
        return np.sum(x)

    assert residual_bytes(lambda x: layers(x, lambda f: f), X) == 6 * 3 * 24
    assert residual_bytes(lambda x: layers(x, ad.checkpoint), X) == 6 * 24


def test_products_are_saved_and_what_lies_between_is_repeated():
    params, x = weights()
    f = ad.checkpoint(network, policy=policies.dots_saveable)
    plain = simplified(ad.grad(network), params, x)
    assert count(simplified(ad.grad(f), params, x), "dot_general") == count(plain, "dot_general")
    # Where the value is wanted too, the three products of the forward sweep are repeated.
    nothing = simplified(ad.value_and_grad(ad.checkpoint(network)), params, x)
    assert count(nothing, "dot_general") == count(plain, "dot_general") + 3


def test_a_policy_is_asked_with_operation_types_and_parameters():
    asked = []

    def policy(primitive, avals, params):
        asked.append((primitive.name, avals, dict(params)))
        return False

    ad.grad(ad.checkpoint(lambda x: np.sum(np.sin(x)), policy=policy))(X)
    assert ("sin", (ad.eval_shape(np.sin, X),), {}) in asked
    assert any(name == "sum" and params["axes"] == (0,) for name, _, params in asked)


def test_a_saved_name_serves_the_value_itself():
    """The derivative of exp is exp: it uses the value, not what checkpoint_name returned."""

    def f(x):
        return np.sum(np.sin(ad.checkpoint_name(np.exp(x), "e")))

    saved = ad.checkpoint(f, policy=policies.save_only_these_names("e"))
    assert count(simplified(ad.value_and_grad(saved), X), "exp") == 1
    assert residual_bytes(saved, X) == 24
    agree(ad.grad(saved)(X), np.cos(np.exp(X)) * np.exp(X))


def test_a_value_whose_name_is_excluded_is_computed_again():
    """Both sines are needed; the operand of the second is the excluded value."""

    def f(x):
        y = ad.checkpoint_name(np.exp(x), "big")
        return np.sum(np.sin(y) * np.exp(y))

    kept = policies.save_anything_except_these_names("small")
    without = policies.save_anything_except_these_names("big")
    assert count(simplified(ad.value_and_grad(ad.checkpoint(f, policy=kept)), X), "exp") == 2
    assert count(simplified(ad.value_and_grad(ad.checkpoint(f, policy=without)), X), "exp") == 3
    expected = np.exp(X) * np.exp(np.exp(X)) * (np.cos(np.exp(X)) + np.sin(np.exp(X)))
    agree(ad.grad(ad.checkpoint(f, policy=without))(X), expected)


def test_names_are_transparent():
    tree = {"a": X, "n": None, "s": 2.0}
    assert ad.checkpoint_name(tree, "t") is not None
    agree(ad.grad(lambda x: np.sum(ad.checkpoint_name({"x": x}, "t")["x"] ** 2))(X), 2 * X)
    assert count(simplified(lambda x: ad.checkpoint_name(x, "t"), X), "checkpoint_name") == 0
    agree(ad.vmap(lambda x: ad.checkpoint_name(x, "t"))(X), X)


def test_calls_inside_are_seen_through_by_policies():
    inner = ad.jit(lambda x: np.sin(ad.checkpoint_name(np.exp(x), "e")))
    f = ad.checkpoint(lambda x: np.sum(inner(x)), policy=policies.save_only_these_names("e"))
    assert count(simplified(ad.value_and_grad(f), X), "exp") == 1
    agree(ad.grad(f)(X), np.cos(np.exp(X)) * np.exp(X))


def test_vjp_keeps_what_the_linear_graph_reads():
    f = ad.checkpoint(lambda x: np.sum(np.sin(np.sin(x))))
    assert [x.shape for x in Linearization("vjp", f, (X,), False).residuals] == [(3,)]
    plain = Linearization("vjp", lambda x: np.sum(np.sin(np.sin(x))), (X,), False)
    assert [x.shape for x in plain.residuals] == [(3,), (3,)]


# ------------------------------------------------------------------------------------ composition


def test_nested_checkpoints_keep_the_outer_arguments():
    def inner(x):
        return np.sin(np.exp(np.sin(x)))

    def nested(x):
        for _ in range(3):
            x = ad.checkpoint(inner)(x)
        return np.sum(x)

    def plain(x):
        for _ in range(3):
            x = inner(x)
        return np.sum(x)

    f = ad.checkpoint(nested)
    assert residual_bytes(f, X) == X.nbytes
    np.testing.assert_array_equal(ad.grad(f)(X), ad.grad(plain)(X))
    agree(ad.hessian(f)(X), ad.hessian(plain)(X))
    # Once forward (9 exp and sin), the outer recomputation (what leads to the last inner call's
    # argument), and each inner one.
    graph = simplified(ad.value_and_grad(f), X)
    assert count(graph, "exp") == 3 + 2 + 3


def test_second_order_keeps_arguments_too():
    f = ad.checkpoint(total)
    gradient = ad.grad(f)
    assert residual_bytes(lambda x: np.sum(gradient(x)), X) <= 2 * X.nbytes + 8
    assert residual_bytes(lambda x: np.sum(ad.grad(total)(x)), X) > 3 * X.nbytes


def test_closures_over_traced_values_are_differentiated():
    def loss(w, x):
        return np.sum(ad.checkpoint(lambda y: np.sin(w * y))(x))

    agree(ad.grad(loss)(2.0, X), np.asarray(np.sum(X * np.cos(2 * X))))
    agree(ad.jit(ad.grad(loss))(2.0, X), np.asarray(np.sum(X * np.cos(2 * X))))
    mixed = ad.grad(lambda x: ad.grad(loss)(x[0], x))(X)
    expected = ad.grad(lambda x: ad.grad(lambda w: np.sum(np.sin(w * x)))(x[0]))(X)
    agree(mixed, expected)
    assert residual_bytes(lambda w: loss(w, X), np.array(2.0)) == 8 + X.nbytes


def test_python_control_flow_on_values_works_outside_jit():
    @ad.checkpoint
    def f(x):
        while x < 10.0:
            x = x * x
        return x if x > 20.0 else -x

    agree(ad.grad(f)(2.0), np.asarray(-32.0))
    agree(ad.grad(f)(5.0), np.asarray(10.0))
    with pytest.raises(ad.ConcretizationError):
        ad.jit(ad.grad(f))(2.0)
    agree(ad.grad(f)(2.0), np.asarray(-32.0))


def test_arguments_that_are_not_arrays_are_passed_as_they_are():
    @ad.checkpoint
    def f(x, mode, n, *, flag, scale=None):
        assert type(n) is int and type(flag) is bool and scale is None
        for _ in range(n):
            x = np.sin(x) if mode == "sin" and flag else np.cos(x)
        return np.sum(x)

    agree(ad.grad(f)(X, "sin", 2, flag=True), np.cos(np.sin(X)) * np.cos(X))
    agree(ad.jit(lambda x: ad.grad(f)(x, "cos", 1, flag=False))(X), -np.sin(X))


def test_pytrees_with_none_come_and_go():
    @ad.checkpoint
    def f(tree):
        return {"s": np.sin(tree["x"]), "n": None, "t": (tree["x"], [2.0])}

    out = f({"x": X, "none": None})
    assert out["n"] is None
    agree(out["s"], np.sin(X))
    agree(ad.grad(lambda x: np.sum(f({"x": x})["s"]))(X), np.cos(X))


def test_decorator_forms_and_the_name():
    @ad.remat(policy=policies.everything_saveable)
    def f(x):
        """Doc."""
        return np.sin(x)

    assert (f.__name__, f.__doc__) == ("f", "Doc.")
    assert ad.remat is ad.checkpoint
    agree(f(1.0), np.asarray(np.sin(1.0)))
    assert count(ad.make_graph(ad.grad(f))(1.0), "sin") == 1


def test_methods_can_be_decorated():
    class Layer:
        def __init__(self, w):
            self.w = w

        @ad.checkpoint
        def __call__(self, x):
            return np.sin(self.w * x)

    agree(ad.grad(lambda w: np.sum(Layer(w)(X)))(2.0), np.asarray(np.sum(X * np.cos(2 * X))))


def test_results_are_fresh_arrays():
    x = X.copy()
    result = ad.checkpoint(lambda x: x)(x)
    assert not np.shares_memory(result, x)
    _, gradient = ad.vjp(ad.checkpoint(lambda x: x), x)
    ct = np.ones(3)
    (found,) = gradient(ct)
    assert not np.shares_memory(found, ct)


def test_the_transpose_of_a_linear_function_is_checkpointed_too():
    matrix = np.arange(6.0).reshape(2, 3)
    f = ad.checkpoint(lambda x: np.exp(matrix) @ x)
    agree(ad.linear_transpose(f, X)(np.ones(2))[0], np.exp(matrix).T @ np.ones(2))


def test_outputs_that_do_not_depend_on_the_linear_argument_are_values():
    """Outside, the checkpoint's first output is a factor; only the second is linear."""

    def f(t):
        scale, y = ad.checkpoint(lambda w, t: (np.exp(w), np.sin(w) * t))(X, t)
        return scale * y

    agree(ad.linear_transpose(f, X)(np.ones(3))[0], np.exp(X) * np.sin(X))
    # The same inside a recomputation: the tangent's own derivative is linear in the last tangent.
    g = ad.checkpoint(np.sin)

    def twice(v):
        return ad.jvp(lambda x: ad.jvp(g, (x,), (X,))[1], (X,), (v,))[1]

    agree(ad.linear_transpose(twice, X)(np.ones(3))[0], -np.sin(X) * X)


def test_an_output_nobody_uses_is_not_computed_again():
    f = ad.checkpoint(lambda x: (np.sin(x), np.exp(np.exp(x))))
    graph = simplified(ad.grad(lambda x: np.sum(f(x)[0])), X)
    assert count(graph, "exp") == 0


def test_inside_loops_and_around_them():
    def loop(wrap, inside):
        def step(x, w):
            return inside(lambda x: np.sin(w * x))(x), x

        def f(x, ws):
            last, before = ad.scan(step, x, ws)
            return np.sum(last) + np.sum(before**2)

        return wrap(f)

    def unrolled(x, ws):
        total = 0.0
        for i in range(4):
            total = total + np.sum(x**2)
            x = np.sin(ws[i] * x)
        return total + np.sum(x)

    def same(f):
        return f

    ws = np.array([0.5, 1.5, -1.0, 2.0])
    expected = ad.grad(unrolled, (0, 1))(X, ws)
    for wrap, inside in [(same, ad.checkpoint), (ad.checkpoint, same), (ad.checkpoint,) * 2]:
        f = loop(wrap, inside)
        agree(ad.grad(f, (0, 1))(X, ws), expected)
        agree(ad.jit(ad.grad(f, (0, 1)))(X, ws), expected)
        agree(ad.hessian(f)(X, ws), ad.hessian(unrolled)(X, ws), rtol=1e-12)
    kept = residual_bytes(loop(ad.checkpoint, same), X, ws)
    assert kept == X.nbytes + ws.nbytes


def test_branches_and_while_loops_inside():
    @ad.checkpoint
    def f(x):
        y = ad.cond(x > 0.0, np.sin, np.cos, x)
        return ad.while_loop(lambda c: c[1] < 3, lambda c: (np.sin(c[0]), c[1] + 1), (y, 0))[0]

    def plain(x):
        y = np.sin(x) if x > 0 else np.cos(x)
        for _ in range(3):
            y = np.sin(y)
        return y

    for x in (0.7, -0.4):
        agree(ad.grad(f)(x), ad.grad(plain)(x))
    agree(ad.vmap(ad.grad(f))(X), np.stack([ad.grad(plain)(x) for x in X]))


def test_named_axes_are_seen_inside():
    @ad.checkpoint
    def f(x):
        return np.sin(x - ad.pmean(x, "i"))

    def loss(x):
        return np.sum(ad.vmap(f, axis_name="i")(x) ** 2)

    agree(ad.grad(loss)(X), ad.grad(lambda x: np.sum(np.sin(x - np.mean(x)) ** 2))(X), rtol=1e-12)


def test_prints_are_not_repeated(capsys):
    @ad.checkpoint
    def f(x):
        ad.debug.print("x={}", x)
        return np.sin(np.sin(x))

    for g in (ad.grad(f), ad.jit(ad.grad(f)), ad.grad(ad.checkpoint(f))):
        g(1.0)
        assert capsys.readouterr().out.count("x=") == 1


def test_derivatives_along_curves():
    (_, found) = ad.jet(ad.checkpoint(lambda x: np.exp(np.sin(x))), (0.0,), ([1.0, 0.0, 0.0],))
    agree(found, [np.asarray(1.0), np.asarray(1.0), np.asarray(0.0)])


def test_rules_of_their_own_are_kept_also_in_second_derivatives():
    @ad.custom_jvp
    def f(x):
        return x * 0.0

    @f.defjvp
    def _(primals, tangents):
        return f(primals[0]), 3.0 * tangents[0] * g(primals[0])

    @ad.custom_vjp
    def g(x):
        return x + 0.0

    g.defvjp(lambda x: (x, None), lambda residuals, ct: (5.0 * ct,))

    for policy in (None, policies.everything_saveable):
        h = ad.checkpoint(lambda x: f(np.sin(x)), policy=policy)
        agree(ad.grad(h)(0.5), np.asarray(3.0 * np.sin(0.5) * np.cos(0.5)))
        second = 3.0 * (5.0 * np.cos(0.5) ** 2 - np.sin(0.5) ** 2)
        agree(ad.grad(ad.grad(h))(0.5), np.asarray(second))


def test_a_checkpointed_scan_inside_stays_one():
    def f(a):
        return np.sum(ad.scan(lambda a, _: (np.sin(a), None), a, None, 40, checkpoint=3)[0])

    graph = simplified(ad.grad(ad.checkpoint(f)), X)
    assert count(graph, "revolve") == 1
    expected, slope = X, np.ones(3)
    for _ in range(40):
        expected, slope = np.sin(expected), slope * np.cos(expected)
    agree(ad.grad(ad.checkpoint(f))(X), slope)


def test_prints_in_a_loop_inside_are_not_repeated_either(capsys):
    @ad.checkpoint
    def f(x):
        def body(c, _):
            ad.debug.print("c={}", c)
            return np.sin(c), None

        return np.sin(ad.scan(body, x, None, 3)[0])

    for g in (ad.grad(f), ad.jit(ad.grad(f))):
        agree(g(1.0), ad.grad(lambda x: np.sin(np.sin(np.sin(np.sin(x)))))(1.0))
        assert capsys.readouterr().out.count("c=") == 3
