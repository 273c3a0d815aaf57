"""Pytrees: structures, order of leaves, paths, registration, and the whole text of every error."""

import copy
import dataclasses
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodiff.base import pytree


class Point(NamedTuple):
    x: Any
    y: Any


class Line(Point):
    """A subclass of a namedtuple that is not created by its fields alone."""

    def __new__(cls, x):
        return super().__new__(cls, x, x)


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


class Pair:
    def __init__(self, left, right, label=None):
        self.left, self.right, self.label = left, right, label

    def __eq__(self, other):
        return (self.left, self.right, self.label) == (other.left, other.right, other.label)

    def __repr__(self):
        return f"Pair({self.left}, {self.right}, {self.label})"


pytree.register_node(
    Pair,
    lambda pair: ((pair.left, pair.right), pair.label),
    lambda label, children: Pair(*children, label),
    lambda label: (pytree.Attribute("left"), pytree.Item("right")),
)


class Bag:
    def __init__(self, *items):
        self.items = items


pytree.register_node(Bag, lambda bag: (bag.items, None), lambda meta, items: Bag(*items))


def text_of(error: type[BaseException], call, /, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# Leaves and structure ---------------------------------------------------------------------------

EXAMPLES = [
    # tree, leaves, text of the structure
    (1.5, [1.5], "*"),
    ("text", ["text"], "*"),
    (None, [], "None"),
    ((), [], "()"),
    ([], [], "[]"),
    ({}, [], "{}"),
    ((1,), [1], "(*,)"),
    ((1, [2, (3,)]), [1, 2, 3], "(*, [*, (*,)])"),
    ({"b": 1, "a": 2}, [2, 1], "{'a': *, 'b': *}"),
    ({2: 1, 10: 2}, [1, 2], "{2: *, 10: *}"),
    ({"b": 1, 3: 2, "a": 3, 1: 4}, [4, 2, 3, 1], "{1: *, 3: *, 'a': *, 'b': *}"),
    ({1j: 1, 0j: 2}, [1, 2], "{1j: *, 0j: *}"),
    (OrderedDict([("b", 1), ("a", 2)]), [1, 2], "OrderedDict({'b': *, 'a': *})"),
    (defaultdict(list, {"b": 1, "a": 2}), [2, 1], "defaultdict(list, {'a': *, 'b': *})"),
    (defaultdict(None, {"a": 2}), [2], "defaultdict(None, {'a': *})"),
    (Point(1, (2, None)), [1, 2], "Point(x=*, y=(*, None))"),
    (Line(1), [1, 1], "Line(x=*, y=*)"),
    (Layer([1, 2]), [1, 2], "Layer(weight=[*, *], bias=None, activation='tanh')"),
    (Counter(1), [1, 2], "Counter(start=*, count=*)"),
    (Pair(1, (2, 3), "p"), [1, 2, 3], "Pair('p', *, (*, *))"),
    (Bag(1, 2), [1, 2], "Bag(*, *)"),
    ({1, 2}, [{1, 2}], "*"),
]


@pytest.mark.parametrize(("tree", "leaves", "text"), EXAMPLES, ids=[e[2] for e in EXAMPLES])
def test_leaves_structure_and_its_text(tree, leaves, text):
    found, treedef = pytree.flatten(tree)
    assert found == leaves
    assert pytree.leaves(tree) == leaves
    assert pytree.structure(tree) == treedef
    assert treedef.num_leaves == len(leaves)
    assert repr(treedef) == str(treedef) == f"TreeDef({text})"
    assert len(pytree.paths(treedef)) == len(leaves)


@pytest.mark.parametrize("tree", [e[0] for e in EXAMPLES if not isinstance(e[0], Bag)], ids=repr)
def test_unflatten_undoes_flatten(tree):
    leaves, treedef = pytree.flatten(tree)
    rebuilt = pytree.unflatten(treedef, leaves)
    assert type(rebuilt) is type(tree)
    assert rebuilt == tree


def test_arrays_and_array_scalars_are_leaves_and_keep_their_identity():
    x, y = np.zeros(3), np.float32(1)
    leaves, treedef = pytree.flatten({"x": x, "y": y})
    assert leaves[0] is x and leaves[1] is y
    assert pytree.unflatten(treedef, leaves)["x"] is x


def test_dicts_are_rebuilt_in_sorted_order_and_equal_dicts_have_equal_structures():
    one, other = {"b": 1, "a": 2}, {"a": 2, "b": 1}
    assert pytree.structure(one) == pytree.structure(other)
    assert list(pytree.map(lambda x: x, one)) == ["a", "b"]


def test_ordered_dicts_keep_their_order_which_is_part_of_the_structure():
    one, other = OrderedDict(b=1, a=2), OrderedDict(a=2, b=1)
    assert list(pytree.map(lambda x: x, one)) == ["b", "a"]
    assert pytree.structure(one) != pytree.structure(other)


def test_defaultdicts_keep_their_factory_which_is_part_of_the_structure():
    rebuilt = pytree.map(lambda x: x, defaultdict(list, a=1))
    assert rebuilt["missing"] == []
    assert pytree.structure(defaultdict(list, a=1)) != pytree.structure(defaultdict(int, a=1))
    assert pytree.structure(defaultdict(list, a=1)) != pytree.structure({"a": 1})


def test_subclasses_of_containers_are_leaves_and_those_of_namedtuples_are_nodes():
    class Sub(dict): ...

    class SubLayer(Layer): ...

    for tree in (Sub(a=1), SubLayer(1)):
        assert pytree.leaves(tree) == [tree]
    assert isinstance(pytree.map(lambda x: x, Line(1)), Line)


def test_structures_of_different_containers_differ():
    trees = [1, None, (), [], {}, (1,), [1], {"a": 1}, {"b": 1}, OrderedDict(a=1), Point(1, 2)]
    trees += [(1, 2), [1, 2], Line(1), Pair(1, 2), Pair(1, 2, "p"), Bag(1, 2), Layer(1), ((1,),)]
    treedefs = [pytree.structure(tree) for tree in trees]
    assert len(set(treedefs)) == len(trees)
    assert treedefs[0] != "*"


def test_namedtuple_classes_of_one_name_are_told_apart():
    assert pytree.structure(namedtuple("P", "x")(1)) != pytree.structure(namedtuple("P", "x")(1))


def test_is_leaf_is_asked_about_every_node_and_stops_there():
    asked = []
    tree = {"a": [1, None], "b": (2, 3)}
    leaves = pytree.leaves(tree, lambda x: asked.append(x) or isinstance(x, tuple) or x is None)
    assert leaves == [1, None, (2, 3)]
    assert asked == [tree, [1, None], None, (2, 3)]
    assert pytree.leaves(1, lambda x: True) == [1]


def test_children_are_the_structures_of_the_parts():
    first, second = {"a": 1, "b": (2, 3)}, [4]
    treedef = pytree.structure((first, second, 5, None))
    assert treedef.children() == tuple(pytree.structure(part) for part in (first, second, 5, None))
    assert [child.num_leaves for child in treedef.children()] == [3, 1, 1, 0]
    assert pytree.structure(1).children() == ()


def test_structures_survive_copies():
    treedef = pytree.structure({"a": [1, Point(2, None)], "b": Layer(1)})
    hash(treedef)
    for other in (copy.copy(treedef), copy.deepcopy(treedef)):
        assert other == treedef and hash(other) == hash(treedef)
        assert other.num_leaves == 3


def test_unflatten_takes_any_iterable_and_returns_new_containers():
    treedef = pytree.structure([1, [2]])
    leaves = [1, 2]
    assert pytree.unflatten(treedef, iter(leaves)) == [1, [2]]
    rebuilt = pytree.unflatten(pytree.structure([1, 2]), leaves)
    assert rebuilt == leaves and rebuilt is not leaves


def test_unflatten_with_the_wrong_number_of_leaves():
    treedef = pytree.structure({"a": 1, "b": 2})
    assert text_of(ValueError, pytree.unflatten, treedef, [1]) == (
        "tree.unflatten: the structure has 2 leaves, got 1 leaf for TreeDef({'a': *, 'b': *})."
    )
    assert text_of(ValueError, pytree.unflatten, pytree.structure(1), []) == (
        "tree.unflatten: the structure has 1 leaf, got 0 leaves for TreeDef(*)."
    )


def test_static_data_that_cannot_be_hashed():
    treedef = pytree.structure(Layer(1, 2, [3]))
    assert treedef == pytree.structure(Layer(4, 5, [3]))
    assert text_of(TypeError, hash, treedef) == (
        "tree.structure: the static data of a tree must be hashable, "
        "got TreeDef(Layer(weight=*, bias=*, activation=[3])) (unhashable type: 'list').\n"
        "To fix: make arrays data fields, and lists tuples."
    )


# Any tree ---------------------------------------------------------------------------------------

KEYS = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.none(), st.booleans())
TREES = st.recursive(
    st.one_of(st.floats(allow_nan=False), st.text(max_size=2), st.none()),
    lambda child: st.one_of(
        st.lists(child, max_size=4),
        st.lists(child, max_size=4).map(tuple),
        st.dictionaries(KEYS, child, max_size=4),
        st.dictionaries(KEYS, child, max_size=4).map(OrderedDict),
        st.dictionaries(KEYS, child, max_size=4).map(lambda d: defaultdict(int, d)),
        st.builds(Point, child, child),
        st.builds(Layer, child, child, st.sampled_from(["tanh", "relu"])),
        st.builds(Pair, child, child, st.integers(0, 1)),
    ),
    max_leaves=20,
)


@given(TREES)
def test_any_tree_is_rebuilt_and_mapped_by_the_identity_to_itself(tree):
    leaves, treedef = pytree.flatten(tree)
    assert pytree.unflatten(treedef, leaves) == tree
    assert pytree.map(lambda x: x, tree) == tree
    assert pytree.map(lambda x, y: y, tree, tree) == tree
    again = pytree.structure(pytree.map(lambda x: 0, tree))
    assert again == treedef and hash(again) == hash(treedef)


def follow(tree: Any, path: pytree.Path) -> Any:
    """The subtree at `path`, got as the user would: by indexing and attribute access."""
    for entry in path:
        if isinstance(entry, pytree.Attribute):
            tree = getattr(tree, entry.name)
        elif isinstance(tree, Pair):
            tree = getattr(tree, entry.key)
        else:
            tree = tree[entry.key]
    return tree


@given(TREES)
def test_the_path_of_any_leaf_leads_to_it(tree):
    for path, leaf in pytree.flatten_with_path(tree)[0]:
        assert follow(tree, path) is leaf


@given(TREES, TREES)
def test_two_structures_are_equal_or_their_difference_is_named(one, other):
    clause = pytree.structure_difference(one, other, "x")
    equal = pytree.structure(one) == pytree.structure(other)
    assert (clause == "") == equal
    assert equal or (clause.startswith("got ") and " was expected at x" in clause)


@given(TREES)
def test_a_leaf_is_a_prefix_of_any_tree_and_any_tree_of_itself(tree):
    leaves, treedef = pytree.flatten(tree)
    assert pytree.flatten_prefix(7, tree) == [7] * len(leaves)
    assert pytree.flatten_prefix(None, treedef) == [None] * len(leaves)
    assert pytree.flatten_prefix(pytree.map(lambda x: 7, tree), tree) == [7] * len(leaves)


@given(TREES, st.integers(1, 3))
def test_transposing_twice_gives_the_tree_back(inner_tree, length):
    inner, outer = pytree.structure(inner_tree), pytree.structure((0,) * length)
    n = inner.num_leaves
    tree = tuple(pytree.unflatten(inner, range(n * i, n * (i + 1))) for i in range(length))
    turned = pytree.transpose(outer, inner, tree)
    assert pytree.leaves(turned) == [n * i + k for k in range(n) for i in range(length)]
    assert pytree.transpose(inner, outer, turned) == tree


# Paths ------------------------------------------------------------------------------------------


def test_paths_read_as_the_user_writes_them():
    tree = {"w": [Layer(Point(1, 2)), (Pair(3, 4),)], 5: Bag(6), "o": OrderedDict(z=7)}
    texts = [pytree.path_string("p", path) for path, _ in pytree.flatten_with_path(tree)[0]]
    assert texts == [
        "p[5]<child 0>",
        "p['o']['z']",
        "p['w'][0].weight.x",
        "p['w'][0].weight.y",
        "p['w'][1][0].left",
        "p['w'][1][0]['right']",
    ]
    assert pytree.path_string("p", ()) == "p"


def test_keys_that_do_not_fit_the_children_are_an_error():
    class Triple: ...

    pytree.register_node(
        Triple, lambda t: ((1, 2, 3), None), lambda m, c: Triple(), lambda m: (pytree.Item(0),)
    )
    assert text_of(ValueError, pytree.flatten_with_path, Triple()) == (
        "tree.register_node: keys must return one path entry per child of "
        "test_keys_that_do_not_fit_the_children_are_an_error.<locals>.Triple, "
        "got 1 for 3 children."
    )


def test_map_with_path_gives_the_path_and_all_leaves():
    result = pytree.map_with_path(
        lambda path, x, y: (pytree.path_string("t", path), x + y), {"a": [1]}, {"a": [10]}
    )
    assert result == {"a": [("t['a'][0]", 11)]}


# Maps and folds ---------------------------------------------------------------------------------


def test_map_passes_subtrees_of_the_others_where_the_first_has_leaves():
    assert pytree.map(lambda x, y: (x, y), (1, [2]), ({"a": 3}, [None])) == (
        (1, {"a": 3}),
        [(2, None)],
    )
    assert pytree.map(
        lambda x, y: (x, y), [(1,), 2], [[3, 4], 5], is_leaf=lambda x: type(x) is tuple
    ) == [((1,), [3, 4]), (2, 5)]


def test_map_leaves_none_alone_unless_told_otherwise():
    assert pytree.map(lambda x: x + 1, (1, None)) == (2, None)
    assert pytree.map(lambda x: x is None, (1, None), is_leaf=lambda x: x is None) == (False, True)


MISMATCHES = [
    ([1, 2], [1], "got a list of length 1 where a list of length 2 was expected at rest[0]"),
    ([1, 2], (1, 2), "got a tuple of length 2 where a list of length 2 was expected at rest[0]"),
    (
        {"a": {"x": 1}},
        {"a": {"y": 1}},
        "got a dict with keys ['y'] where a dict with keys ['x'] was expected at rest[0]['a']",
    ),
    (None, 1, "got a leaf where None was expected at rest[0]"),
    (Point(1, (2,)), Point(1, 2), "got a leaf where a tuple of length 1 was expected at rest[0].y"),
    (
        Layer(1),
        Layer(1, None, "relu"),
        "got a Layer with activation='relu' where a Layer with activation='tanh' was expected "
        "at rest[0]",
    ),
    (
        Layer(1, 2, 1),
        Layer(1, 2, 1.0),
        "got a Layer with activation=1.0 where a Layer with activation=1 was expected at rest[0]",
    ),
    (
        OrderedDict(a=1, b=2),
        OrderedDict(b=1, a=2),
        "got an OrderedDict with keys ['b', 'a'] where an OrderedDict with keys ['a', 'b'] was "
        "expected at rest[0]",
    ),
    (
        defaultdict(int, a=1),
        defaultdict(list, a=1),
        "got a defaultdict of list with keys ['a'] where a defaultdict of int with keys ['a'] was "
        "expected at rest[0]",
    ),
    (
        Pair(1, 2, "p"),
        Pair(1, 2),
        "got a Pair where a Pair with static data 'p' was expected at rest[0]",
    ),
    (
        namedtuple("Item", "x")(1),
        namedtuple("Item", "x")(1),
        "got an Item where a different Item was expected at rest[0]",
    ),
]


@pytest.mark.parametrize(("tree", "other", "clause"), MISMATCHES, ids=[m[2] for m in MISMATCHES])
def test_map_over_trees_that_differ_names_the_first_place(tree, other, clause):
    expected = f"tree.map: the trees must have the same structure, {clause}."
    assert text_of(ValueError, pytree.map, max, tree, other) == expected


@pytest.mark.parametrize(("tree", "other", "clause"), MISMATCHES, ids=[m[2] for m in MISMATCHES])
def test_structure_difference_names_the_first_place(tree, other, clause):
    assert pytree.structure_difference(other, tree, "rest[0]") == clause
    treedefs = pytree.structure(other), pytree.structure(tree)
    assert pytree.structure_difference(*treedefs, "rest[0]") == clause


def test_reduce_and_all():
    assert pytree.reduce(lambda a, b: a - b, [10, (1, 2)]) == 7
    assert pytree.reduce(lambda a, b: a - b, [10, (1, 2)], 0) == -13
    assert pytree.reduce(max, None, 5) == 5
    assert pytree.all({"a": 1, "b": [True]}) is True
    assert pytree.all([1, 0]) is False
    assert pytree.all(()) is True
    assert text_of(TypeError, pytree.reduce, max, (None,)) == (
        "tree.reduce: a tree without leaves needs an initial value, got tree=(None,)."
    )


def test_transpose_turns_a_list_of_dicts_into_a_dict_of_lists():
    outer, inner = pytree.structure([0, 0, 0]), pytree.structure({"a": 0, "b": (0, None)})
    tree = [{"a": i, "b": (10 * i, None)} for i in range(3)]
    assert pytree.transpose(outer, inner, tree) == {"a": [0, 1, 2], "b": ([0, 10, 20], None)}
    assert pytree.transpose(pytree.structure(()), inner, ()) == {"a": (), "b": ((), None)}


def test_transpose_of_a_tree_of_another_structure():
    outer, inner = pytree.structure([0, 0]), pytree.structure({"a": 0})
    assert text_of(ValueError, pytree.transpose, outer, inner, [{"a": 1}, {"b": 1}]) == (
        "tree.transpose: tree must be of structure outer with leaves of structure inner, "
        "got a dict with keys ['b'] where a dict with keys ['a'] was expected at tree[1]."
    )
    assert text_of(ValueError, pytree.transpose, outer, inner, [{"a": 1}]) == (
        "tree.transpose: tree must be of structure outer with leaves of structure inner, "
        "got a list of length 1 where a list of length 2 was expected at tree."
    )
    assert text_of(TypeError, pytree.transpose, outer, {"a": 0}, []) == (
        "tree.transpose: inner must be a TreeDef, got inner={'a': 0}.\n"
        "To fix: pass tree.structure(inner)."
    )


# Prefixes ---------------------------------------------------------------------------------------


def test_a_prefix_is_repeated_over_the_leaves_below_it():
    tree = ([1, 2], {"a": 3, "b": (4, 5)}, None, 6)
    assert pytree.flatten_prefix(0, tree) == [0] * 6
    assert pytree.flatten_prefix((0, None, 1, None), tree) == [0, 0, None, None, None, None]
    assert pytree.flatten_prefix(([0, 1], {"b": None, "a": 2}, 3, -1), tree) == [
        *(0, 1, 2, None, None, -1)
    ]
    assert pytree.flatten_prefix(Layer(0, 1), Layer([1, 2], 3)) == [0, 0, 1]
    assert pytree.flatten_prefix((), ()) == []


@pytest.mark.parametrize(
    ("prefix", "clause"),
    [
        ((0, 0), "got a tuple of length 2 where a tuple of length 1 was expected at in_axes"),
        ([0], "got a list of length 1 where a tuple of length 1 was expected at in_axes"),
        (
            ({"a": 0},),
            "got a dict with keys ['a'] where a dict with keys ['a', 'b'] was expected at "
            "in_axes[0]",
        ),
        (
            ({"a": 0, "b": (0,)},),
            "got a tuple of length 1 where a leaf was expected at in_axes[0]['b']",
        ),
    ],
)
def test_a_prefix_that_does_not_match_is_named_by_its_path(prefix, clause):
    tree = ({"a": [1, 2], "b": 3},)
    text = text_of(
        ValueError,
        pytree.flatten_prefix,
        prefix,
        tree,
        name="in_axes",
        function="vmap",
        of="the arguments",
    )
    assert text == f"vmap: in_axes must be a tree prefix of the arguments, {clause}."
