"""debug.print and debug.callback act once for each time the program gets there, in order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, product
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.parser import parse_graph
from autodiff.passes.pipeline import simplify

WAYS = {
    "evaluated": {"compile_after": 1_000},
    "compiled": {"compile_after": 0},
    "reference": {"reference": True},
    "checked": {"check": frozenset({"nans"})},
}
_numbers = count()


@pytest.fixture(params=WAYS)
def way(request):
    """Let graphs run in one of the ways there are."""
    with ad.override(**WAYS[request.param]):
        yield


class Recorded:
    """A function of a number with two effects, and what they were given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    def note(self, name: str, value: Any) -> None:
        assert type(value) is np.ndarray
        self.seen.append((name, value.item()))

    def __call__(self, x: Any) -> Any:
        ad.debug.callback(self.note, "before", x)
        y = x * x
        ad.debug.callback(self.note, "after", y)
        return y


def events(x: float) -> list[list[tuple[str, float]]]:
    """Return what each of the two statements of `Recorded` records, called once on a number."""
    return [[("before", x)], [("after", x * x)]]


def once(x: float) -> list[tuple[str, float]]:
    """Return what one call of `Recorded` on a number records."""
    return [event for statement in events(x) for event in statement]


# How a program is changed, by the library, and how what it records changes ------------------------


def by_scan(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: ad.scan(lambda carry, _: (carry + f(x), None), 0.0 * x, length=2)[0]


def by_while_loop(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def looped(x: Any) -> Any:
        start = (np.int64(0), 0.0 * x)
        return ad.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] + f(x)), start)[1]

    return looped


CHANGED: dict[str, Callable[[Any], Any]] = {
    "jit": ad.jit,
    "grad": ad.grad,
    "jvp": lambda f: lambda x: ad.jvp(f, (x,), (np.ones_like(x),))[1],
    "linearize": lambda f: lambda x: ad.linearize(f, x)[1](np.ones_like(x)),
    "jacrev": ad.jacrev,
    "vmap": lambda f: lambda x: ad.numpy.sum(ad.vmap(f)(ad.numpy.stack([x, 2.0 * x]))),
    "cond": lambda f: lambda x: ad.cond(x > 0.0, f, lambda x: 0.0 * x, x),
    "scan": by_scan,
    "while_loop": by_while_loop,
    "map": lambda f: lambda x: ad.numpy.sum(ad.map(f, ad.numpy.stack([x, 2.0 * x]))),
    "checkpoint": ad.checkpoint,
}
THRICE = [name for name in CHANGED if name not in ("linearize", "jacrev", "checkpoint")]


def expected(names: tuple[str, ...], x: float) -> list[list[tuple[str, float]]]:
    """Return what each statement records, in order, in a program changed by `names`, last first.

    A loop makes each statement two; a mapped axis lets each act for one example after the other.
    """
    if not names:
        return events(x)
    first, rest = names[0], names[1:]
    if first == "vmap":
        examples = zip(expected(rest, x), expected(rest, 2.0 * x), strict=True)
        return [one + other for one, other in examples]
    if first == "map":
        return expected(rest, x) + expected(rest, 2.0 * x)
    return expected(rest, x) * (2 if first in ("scan", "while_loop") else 1)


@pytest.mark.parametrize("names", list(product(CHANGED, repeat=2)), ids="-of-".join)
def test_effects_act_once_for_each_time_they_are_reached_whatever_is_done_to_the_program(
    way, names
):
    f = Recorded()
    changed: Any = f
    for name in reversed(names):
        changed = CHANGED[name](changed)
    wanted = [event for statement in expected(names, 3.0) for event in statement]
    for _ in range(2):
        f.seen.clear()
        changed(np.array(3.0))
        assert f.seen == wanted


@pytest.mark.parametrize("names", list(product(THRICE, repeat=3)), ids="-of-".join)
def test_effects_act_in_order_in_programs_changed_three_times(names):
    f = Recorded()
    changed: Any = f
    for name in reversed(names):
        changed = CHANGED[name](changed)
    changed(np.array(3.0))
    assert f.seen == [event for statement in expected(names, 3.0) for event in statement]


# One by one ---------------------------------------------------------------------------------------


def test_outside_of_traced_functions_they_act_at_once(capsys):
    ad.debug.print("{} {name} {}", 1.5, [np.ones(2)], name="text")
    assert capsys.readouterr().out == "1.5 text [array([1., 1.])]\n"


def test_they_act_in_the_forward_sweep_and_never_when_it_is_used_again(way):
    f = Recorded()
    _, pull = ad.vjp(f, 3.0)
    assert f.seen == [("before", 3.0), ("after", 9.0)]
    pull(1.0)
    ad.jit(pull)(1.0)
    _, push = ad.linearize(f, 2.0)
    push(1.0)
    assert f.seen[2:] == [("before", 2.0), ("after", 4.0)]


def test_they_act_in_every_run_of_a_jitted_function_and_not_when_it_is_traced(way):
    f = Recorded()
    jitted = ad.jit(f)
    ad.make_graph(f)(1.0)
    ad.eval_shape(f, 1.0)
    assert f.seen == []
    for x in (1.0, 2.0, 3.0):
        jitted(x)
    assert f.seen == [event for x in (1.0, 2.0, 3.0) for event in once(x)]


def test_what_nothing_uses_and_what_stands_twice_acts_as_it_is_written(way, capsys):
    mark = f"unused {next(_numbers)}"

    def f(x):
        ad.debug.print(mark + " {:.1f}", np.sin(x) * 0.0)
        ad.debug.print(mark + " {:.1f}", np.sin(x) * 0.0)
        return x

    ad.jit(f)(1.0)
    ad.grad(f)(1.0)
    assert capsys.readouterr().out == f"{mark} 0.0\n" * 4


def test_a_value_that_python_asks_for_does_not_make_them_act_twice(way):
    f = Recorded()

    @ad.jit
    def inner(x):
        return f(x) + 1.0

    def asking(x):
        y = inner(x)
        if y > 5.0 and float(f(x)) > 8.0:
            return y * x
        return x

    ad.grad(asking)(3.0)
    assert f.seen == once(3.0) * 2


def test_what_depends_on_no_traced_value_acts_when_the_function_runs(way, capsys):
    mark = f"constant {next(_numbers)}"

    @ad.jit
    def f(x):
        ad.debug.print(mark)
        ad.debug.print(mark + " {} {}", 7, np.arange(2))
        return x + 1.0

    assert capsys.readouterr().out == ""
    f(1.0)
    f(2.0)
    ad.vmap(ad.grad(f))(np.ones(3))
    assert capsys.readouterr().out == f"{mark}\n{mark} 7 [0 1]\n" * 3


def test_an_inner_derivative_at_a_constant_acts_when_the_outer_function_runs(way):
    f = Recorded()

    @ad.jit
    def outer(x):
        return ad.grad(lambda y: f(y) * x)(2.0)

    assert outer(1.0) == 4.0
    assert outer(3.0) == 12.0
    assert f.seen == once(2.0) * 2


def test_a_jitted_function_of_constants_acts_when_the_outer_function_runs(way):
    f = Recorded()
    inner = ad.jit(f)

    @ad.jit
    def outer(x):
        y = inner(2.0)
        assert float(y) == 4.0  # the value is known, and stays so in spite of the effects
        return x * y * ad.fori_loop(0, 2, lambda i, c: c * inner(3.0), 1.0)

    assert f.seen == []
    for x in (1.0, 2.0):
        assert outer(x) == x * 4.0 * 81.0
    assert f.seen == (once(2.0) + once(3.0) * 2) * 2


def test_a_loop_body_that_prints_a_value_of_outside_prints_it_in_every_iteration(capsys):
    @ad.jit
    def f(x):
        def body(carry, _):
            ad.debug.print("outside {}", x)
            return carry + 1.0, None

        return ad.scan(body, 0.0, length=3)[0] * x

    ad.grad(f)(2.0)
    assert capsys.readouterr().out == "outside 2.0\n" * 3


def test_examples_share_what_is_not_mapped_and_statements_stay_in_order(way, capsys):
    mark = f"mapped {next(_numbers)}"

    def f(x, y):
        ad.debug.print(mark + " {} {y}", x, y=y)
        ad.debug.print(mark + " shared {}", y)
        return x * y

    xs = np.array([1.0, 2.0])
    ad.vmap(f, in_axes=(0, None))(xs, 5.0)
    lines = [f"{mark} 1.0 5.0", f"{mark} 2.0 5.0", f"{mark} shared 5.0"]
    assert capsys.readouterr().out.splitlines() == lines
    ad.vmap(lambda a: ad.vmap(lambda b: f(a, b))(10 * xs))(xs)
    pairs = [f"{mark} {a} {b}" for a in xs for b in 10 * xs]
    shared = [f"{mark} shared {b}" for b in 10 * xs]
    assert capsys.readouterr().out.splitlines() == pairs + shared


def test_no_examples_are_no_effects(way):
    f = Recorded()
    ad.vmap(f)(np.zeros(0))
    assert f.seen == []


def test_a_function_of_effects_alone_acts_under_jit(way):
    f = Recorded()

    @ad.jit
    def effects_alone(x):
        f(x)

    effects_alone(2.0)
    assert ad.jit(lambda x: effects_alone(x))(2.0) is None
    assert f.seen == once(2.0) * 2


def test_arguments_are_trees_and_what_is_no_number_is_handed_on(way):
    seen = []
    thing = {"unhashable": ["text", None]}

    @ad.jit
    def f(x):
        ad.debug.callback(
            lambda *args, **kwargs: seen.append((args, kwargs)), (x, thing), k={"x": 2 * x}
        )
        return x

    f(np.array([1.0, 2.0], np.float32))
    ((first, second),), kwargs = seen[0]
    np.testing.assert_array_equal(first, np.array([1.0, 2.0], np.float32), strict=True)
    assert second == thing
    np.testing.assert_array_equal(kwargs["k"]["x"], np.array([2.0, 4.0], np.float32), strict=True)


def test_a_callback_may_write_into_what_it_is_given(way):
    def spoil(x):
        x[:] = -1.0

    def f(x):
        ad.debug.callback(spoil, x)
        return np.sum(x * x)

    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(ad.grad(f)(x), [2.0, 4.0])
    np.testing.assert_array_equal(ad.jit(f)(x), 5.0)
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_what_a_callback_raises_leaves_the_program_and_the_next_call_works():
    def refuse(x):
        if x < 0.0:
            raise LookupError("negative")

    @ad.jit
    def f(x):
        ad.debug.callback(refuse, x)
        return 2.0 * x

    with pytest.raises(LookupError, match="negative"):
        f(-1.0)
    assert f(1.0) == 2.0


def test_a_callback_may_use_the_library_even_while_something_is_traced():
    seen = []

    def inside(x):
        ad.debug.callback(seen.append, x)
        return ad.grad(np.square)(x)

    def f(x):
        y = ad.pure_callback(inside, x, ad.stop_gradient(x))
        assert float(y) == 6.0  # runs `inside` while f is traced
        assert seen == [3.0]
        return x

    ad.grad(f)(3.0)


def test_a_derivative_in_a_custom_order_still_sees_the_functions_own_values(way):
    f = Recorded()
    ad.jvp(lambda x: ad.vjp(f, x)[1](1.0)[0], (3.0,), (1.0,))
    assert f.seen == once(3.0)


def test_steps_that_a_schedule_repeats_act_once(way):
    seen = []

    def step(carry, x):
        ad.debug.callback(lambda x: seen.append(x.item()), x)
        return carry * x, None

    xs = np.arange(1.0, 8.0)
    ad.grad(lambda xs: ad.scan(step, 1.0, xs, checkpoint=2)[0])(xs)
    assert seen == list(xs)


def test_rules_of_custom_derivatives_act_where_they_run(way):
    seen = []

    @ad.custom_vjp
    def square(x):
        ad.debug.callback(lambda x: seen.append(("value", x.item())), x)
        return x * x

    def forward(x):
        ad.debug.callback(lambda x: seen.append(("forward", x.item())), x)
        return x * x, x

    def backward(x, ct):
        ad.debug.callback(lambda ct: seen.append(("backward", ct.item())), ct)
        ad.debug.callback(lambda: seen.append("reached"))
        return (2.0 * x * ct,)

    square.defvjp(forward, backward)
    square(3.0)
    assert seen == [("value", 3.0)]
    for grad in (ad.grad(lambda x: 5.0 * square(x)), ad.jit(ad.grad(lambda x: 5.0 * square(x)))):
        seen.clear()
        assert grad(3.0) == 30.0
        assert seen == [("forward", 3.0), ("backward", 5.0), "reached"]


def test_a_rule_of_forward_mode_shows_tangents_where_there_are_some(way):
    seen = []

    @ad.custom_jvp
    def square(x):
        return x * x

    @square.defjvp
    def rule(primals, tangents):
        ad.debug.callback(lambda x: seen.append(("value", x.item())), primals[0])
        ad.debug.callback(lambda t: seen.append(("tangent", t.item())), tangents[0])
        return square(primals[0]), 2.0 * primals[0] * tangents[0]

    assert ad.jvp(square, (3.0,), (5.0,))[1] == 30.0
    assert seen == [("value", 3.0), ("tangent", 5.0)]
    seen.clear()
    assert ad.grad(square)(3.0) == 6.0
    assert seen == [("value", 3.0)]


def test_taylor_series_act_once():
    f = Recorded()
    ad.jet(f, (3.0,), ([1.0, 0.0, 0.0],))
    assert f.seen == once(3.0)


def test_in_the_transpose_of_a_linear_function_there_are_no_values_to_print():
    f = Recorded()

    def linear(x):
        ad.debug.callback(f.note, "linear", x)
        return 3.0 * x

    assert ad.linear_transpose(linear, 1.0)(2.0) == (6.0,)
    assert f.seen == []


def test_equal_prints_are_one_structure_so_that_tracing_anew_finds_the_known_program():
    def f(x):
        ad.debug.print("x = {x}, {}", "text", x=[x])
        return x

    assert ad.make_graph(f)(1.0) == ad.make_graph(f)(1.0)
    assert ad.make_graph(f)(1.0) != ad.make_graph(lambda x: (ad.debug.print("{}", x), x)[1])(1.0)


def test_an_equation_without_outputs_prints_without_a_sign_of_equality():
    def named(x):
        pass

    def f(x):
        ad.debug.callback(named, x)
        ad.debug.print("x {}", x)
        return x

    lines = [line.split("#")[0].strip() for line in str(ad.make_graph(f)(1.0)).splitlines()]
    assert "debug_callback[call=named mapped=()] a" in lines
    assert "debug_print[call='x {}' mapped=()] a" in lines


def test_text_with_an_equation_without_outputs_reads_back_as_far_as_its_parameters_are_data():
    text = "graph (a: float64) {\n  debug_print[call='{}' mapped=()] a\n  return a\n}"
    graph = parse_graph(text)
    assert [eqn.outputs for eqn in graph.eqns] == [()]
    assert str(graph) == text
    with pytest.raises(
        ValueError, match="parse_graph: a parameter must be plain data or a type, got"
    ):
        parse_graph(text.replace("'{}'", "<function>"))


def test_simplifying_keeps_effects_in_their_order():
    def f(x):
        for name in "abcab":
            ad.debug.print(name + " {}", np.sin(x))
        return np.cos(x)

    graph = simplify(ad.make_graph(f)(1.0))
    printed = [str(eqn.params["call"]) for eqn in graph.eqns if eqn.primitive.effect]
    assert printed == [repr(name + " {}") for name in "abcab"]
