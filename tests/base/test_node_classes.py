"""Classes that become nodes of pytrees: `register_node`, `register_dataclass`, `Partial`."""

import dataclasses
import functools
import gc
import threading
import weakref
from collections import namedtuple
from typing import Any

import pytest

from autodiff.base import node_kinds, pytree


@pytree.register_dataclass(meta_fields=["activation"])
@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    weight: Any
    bias: Any = None
    activation: Any = "tanh"


@pytree.register_dataclass
@dataclasses.dataclass
class Counter:
    start: Any
    count: Any = dataclasses.field(init=False)

    def __post_init__(self):
        self.count = self.start + 1


def text_of(error: type[BaseException], call, /, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# Registration -----------------------------------------------------------------------------------


def test_dataclasses_are_rebuilt_without_their_constructor():
    doubled = pytree.map(lambda x: 2 * x, Counter(1))
    assert (doubled.start, doubled.count) == (2, 4)
    layer = pytree.map(lambda x: object, Layer(1, 2, "relu"))
    assert layer == Layer(object, object, "relu")


def test_static_fields_are_compared_with_their_types():
    assert pytree.structure(Layer(1, 2, 1)) == pytree.structure(Layer(3, 4, 1))
    assert pytree.structure(Layer(1, 2, 1)) != pytree.structure(Layer(1, 2, 1.0))
    assert pytree.structure(Layer(1, 2, 1)) != pytree.structure(Layer(1, 2, True))


@pytest.mark.parametrize(
    ("arguments", "leaves"),
    [
        ({}, [1, 2, 3]),
        ({"data_fields": ["c", "a"]}, [3, 1]),
        ({"meta_fields": ("b",)}, [1, 3]),
        ({"data_fields": ["a"], "meta_fields": ["b", "c"]}, [1]),
        ({"data_fields": []}, []),
        ({"meta_fields": iter(["a", "b"])}, [3]),
    ],
)
def test_fields_that_are_not_named_go_to_the_other_kind(arguments, leaves):
    @pytree.register_dataclass(**arguments)
    @dataclasses.dataclass
    class Three:
        a: Any
        b: Any
        c: Any

    assert pytree.leaves(Three(1, 2, 3)) == leaves
    assert pytree.map(lambda x: x, Three(1, 2, 3)) == Three(1, 2, 3)


@pytest.mark.parametrize(
    ("data", "meta"), [(["a"], ["a", "b"]), (["a"], []), (["a", "z"], None), (None, ["z"])]
)
def test_each_field_must_be_named_once(data, meta):
    @dataclasses.dataclass
    class Two:
        a: Any
        b: Any

    text = text_of(ValueError, pytree.register_dataclass, Two, data_fields=data, meta_fields=meta)
    data = {"None": ["a", "b"]}.get(str(data), data)
    meta = {"None": ["b"]}.get(str(meta), meta)
    assert text == (
        "tree.register_dataclass: each field of test_each_field_must_be_named_once.<locals>.Two "
        f"must be named once, got data_fields={data}, meta_fields={meta} "
        "for a class with fields ['a', 'b']."
    )


def test_register_dataclass_wants_a_dataclass():
    assert text_of(TypeError, pytree.register_dataclass, int) == (
        "tree.register_dataclass: cls must be a dataclass, got cls=<class 'int'>.\n"
        "To fix: write @register_dataclass above @dataclass."
    )


def test_a_class_is_registered_once():
    def flatten(node):
        return (), None

    for cls in (Layer, pytree.Partial):
        assert text_of(ValueError, pytree.register_node, cls, flatten, flatten) == (
            "tree.register_node: a class can be registered once, "
            f"got cls={cls.__module__}.{cls.__name__}, which is a node class already."
        )
    assert "cls=builtins.dict," in text_of(ValueError, pytree.register_node, dict, flatten, flatten)
    assert text_of(ValueError, pytree.register_dataclass, Layer).startswith(
        "tree.register_dataclass: a class can be registered once, got cls="
    )
    assert text_of(TypeError, pytree.register_node, "Pair", flatten, flatten) == (
        "tree.register_node: cls must be a class, got cls='Pair'."
    )


def test_a_class_may_be_registered_after_it_was_seen_as_a_leaf_or_namedtuple():
    class Late: ...

    late = Late()
    assert pytree.leaves(late) == [late]
    pytree.register_node(Late, lambda node: ((1, 2), None), lambda meta, children: Late())
    assert pytree.leaves(late) == [1, 2]

    Named = namedtuple("Named", "x y")
    assert pytree.leaves(Named(1, 2)) == [1, 2]
    pytree.register_node(Named, lambda n: ((n.x,), n.y), lambda y, x: Named(*x, y))
    assert pytree.leaves(Named(1, 2)) == [1]


def test_classes_met_as_leaves_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(type(node_kinds.KINDS), "remembered", len(node_kinds.KINDS))
    leaf = type("Leaf", (), {})
    named = namedtuple("named", "x")
    assert len(pytree.leaves([leaf(), named(1), {"a": named((2,))}])) == 3
    assert pytree.map(lambda x: x, named(1)) == named(1)
    assert pytree.structure(named(1)) == pytree.structure(named(2))
    reference = weakref.ref(leaf)
    del leaf
    gc.collect()
    assert reference() is None


def test_threads_that_register_and_flatten_do_not_disturb_each_other():
    results, failures = [], []
    classes = [type(f"Class{index}", (), {}) for index in range(200)]

    def register(barrier):
        barrier.wait()
        for cls in classes:
            try:
                pytree.register_node(cls, lambda node: ((1, 2), None), lambda meta, c: None)
                results.append(cls)
            except ValueError:
                failures.append(cls)

    def look(barrier):
        barrier.wait()
        for cls in classes:
            pytree.leaves(cls())

    barrier = threading.Barrier(4)
    threads = [
        threading.Thread(target=f, args=(barrier,)) for f in (register, register, look, look)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(id, results)) == sorted(map(id, classes))
    assert len(failures) == len(classes)
    assert all(pytree.leaves(cls()) == [1, 2] for cls in classes)


# Partial ----------------------------------------------------------------------------------------


def test_partial_binds_arguments_which_are_leaves():
    partial = pytree.Partial(divmod, 7)
    assert partial(2) == (3, 1)
    leaves, treedef = pytree.flatten(pytree.Partial(sorted, [3, 1], key=None, reverse=True))
    assert leaves == [3, 1, True]
    rebuilt = pytree.unflatten(treedef, [5, 6, False])
    assert isinstance(rebuilt, pytree.Partial) and rebuilt() == [5, 6]
    paths = [pytree.path_string("f", path) for path in pytree.paths(treedef)]
    assert paths == ["f.args[0][0]", "f.args[0][1]", "f.keywords['reverse']"]


def test_partial_of_a_partial_merges_their_arguments():
    partial = pytree.Partial(pytree.Partial(lambda *args: args, 1), 2)
    assert partial(3) == (1, 2, 3)
    assert pytree.leaves(partial) == [1, 2]


def test_arguments_of_an_ordinary_partial_stay_static():
    def f(*args, **kwargs):
        return args, kwargs

    def make():
        return pytree.Partial(functools.partial(f, 1, a=2, b=3), 4, c=5)

    partial = make()
    assert pytree.leaves(partial) == [4, 5]
    assert partial(6, a=7) == ((1, 4, 6), {"a": 7, "b": 3, "c": 5})
    assert pytree.structure(partial) == pytree.structure(make())
    assert hash(pytree.structure(partial)) == hash(pytree.structure(make()))


def test_partials_of_different_functions_have_different_structures():
    assert pytree.structure(pytree.Partial(max, 1)) != pytree.structure(pytree.Partial(min, 1))
