"""Pytrees: nested containers seen as a list of leaves and a structure.

A pytree is a leaf, or a node whose children are pytrees. Nodes are tuple, list, dict, OrderedDict,
defaultdict, namedtuples, None (a node without children), and instances of the classes given to
`register_node` and `register_dataclass`. Everything else is a leaf: arrays, numbers, strings,
tracers.

Reading order: `TreeDef` holds a structure as nested plain tuples ("specs"), so that two structures
are compared and hashed in C; `flatten` and `unflatten` are one recursive walk each; the rest is
written in terms of these two and of paths. What differs between classes of nodes stands in
`node_kinds.py` and `node_classes.py`.

    spec := None                              a leaf
          | (class, meta, (spec, ...))        a node; meta: hashable, whatever else rebuilds it

Order of dict keys: sorted, so that equal dicts have equal structures whatever the order of
insertion. Keys of several types are sorted by type, then by value. Keys without an order keep the
order of insertion. A dict that is put together again has its keys in the order of its leaves.
"""

import builtins
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autodiff.base.errors import message
from autodiff.base.node_classes import Partial, register_dataclass
from autodiff.base.node_kinds import (
    KINDS,
    Attribute,
    Child,
    Item,
    Path,
    PathEntry,
    kind_of_node_class,
    path_string,
    plural,
    register_node,
)

__all__ = [  # with what the files on node classes define, so that callers need one import
    "Attribute",
    "Child",
    "Item",
    "Partial",
    "Path",
    "PathEntry",
    "TreeDef",
    "all",
    "flatten",
    "flatten_prefix",
    "flatten_with_path",
    "leaves",
    "map",
    "map_with_path",
    "path_string",
    "paths",
    "reduce",
    "register_dataclass",
    "register_node",
    "structure",
    "structure_difference",
    "transpose",
    "unflatten",
]

# Structures -------------------------------------------------------------------------------------


class TreeDef:
    """The structure of a pytree: immutable, hashable, comparable. Made by `structure`.

    Two structures are equal when the classes, the keys and the static data of all nodes are equal.
    That is when their `spec` are equal, which are plain tuples: the faster key of a look-up.

    >>> treedef = structure({"b": (1, 2), "a": None})
    >>> treedef
    TreeDef({'a': None, 'b': (*, *)})
    >>> treedef.num_leaves
    2
    >>> treedef == structure({"a": None, "b": (3.0, "x")})
    True
    """

    __slots__ = ("_hash", "num_leaves", "spec")

    num_leaves: int
    spec: Any
    _hash: int | None

    def __init__(self, spec: Any, num_leaves: int):
        self.spec = spec
        self.num_leaves = num_leaves
        self._hash = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return type(other) is TreeDef and self.spec == other.spec

    def __hash__(self) -> int:
        if self._hash is None:
            try:
                self._hash = hash(self.spec)
            except TypeError as error:
                raise TypeError(
                    message(
                        "tree.structure",
                        "the static data of a tree must be hashable",
                        f"{self} ({error})",
                        fix="make arrays data fields, and lists tuples.",
                    )
                ) from None
        return self._hash

    def __repr__(self) -> str:
        return f"TreeDef({_show(self.spec)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeDef, (self.spec, self.num_leaves)  # without the hash: it is this process's own

    def children(self) -> tuple["TreeDef", ...]:
        """The structures of the children of the root, in order; none for a leaf."""
        if self.spec is None:
            return ()
        return tuple(TreeDef(spec, _count(spec)) for spec in self.spec[2])


_LEAF = TreeDef(None, 1)


def _show(spec: Any) -> str:
    if spec is None:
        return "*"
    cls, meta, children = spec
    return kind_of_node_class(cls).show(meta, [_show(child) for child in children])


def _describe(spec: Any) -> str:
    if spec is None:
        return "a leaf"
    cls, meta, children = spec
    return kind_of_node_class(cls).describe(meta, len(children))


def _count(spec: Any) -> int:
    """Number of leaves of `spec`."""
    return 1 if spec is None else sum(_count(child) for child in spec[2])


def _as_treedef(tree: Any) -> TreeDef:
    return tree if isinstance(tree, TreeDef) else structure(tree)


# Flattening -------------------------------------------------------------------------------------


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeDef]:
    """The leaves of `tree`, left to right, and its structure.

    Args:
        tree: any pytree.
        is_leaf: called with every node, the outermost first; a node for which it returns True is
            a leaf. By default only what is not a node is a leaf.

    Returns:
        A new list of leaves and a `TreeDef`, from which `unflatten` rebuilds the tree.

    >>> flatten({"b": 2, "a": [1, None]})
    ([1, 2], TreeDef({'a': [*, None], 'b': *}))
    """
    kind = KINDS[type(tree)]
    if kind is None:
        return [tree], _LEAF
    found: list[Any] = []
    if is_leaf is None:
        spec = kind.walk(tree, found.append)
    else:
        spec = _walk_until(tree, found.append, is_leaf)
    return found, TreeDef(spec, len(found))


def _walk_until(tree: Any, append: Callable[[Any], None], is_leaf: Callable[[Any], bool]) -> Any:
    """Spec of `tree`, of which subtrees with is_leaf(subtree) are leaves; appends its leaves."""
    kind = KINDS[type(tree)]
    if kind is None or is_leaf(tree):
        append(tree)
        return None
    children, meta = kind.flatten(tree)
    return (type(tree), meta, tuple([_walk_until(child, append, is_leaf) for child in children]))


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """The tree of structure `treedef` whose leaves, left to right, are `leaves`.

    Raises:
        ValueError: the number of leaves is not `treedef.num_leaves`.

    >>> unflatten(structure({"a": 0, "b": (0, 0)}), [1, 2, 3])
    {'a': 1, 'b': (2, 3)}
    """
    leaves = list(leaves)
    if len(leaves) != treedef.num_leaves:
        raise ValueError(
            message(
                "tree.unflatten",
                f"the structure has {plural(treedef.num_leaves, 'leaf', 'leaves')}",
                f"{plural(len(leaves), 'leaf', 'leaves')} for {treedef}",
            )
        )
    if treedef.spec is None:
        return leaves[0]
    return _build(treedef.spec, iter(leaves).__next__)


def _build(spec: Any, take: Callable[[], Any]) -> Any:
    """The node of the given spec; `take` returns the next leaf."""
    cls, meta, specs = spec
    children = []
    for child in specs:
        children.append(take() if child is None else _build(child, take))
    if cls is tuple:  # by far the most frequent, so it skips the look-up
        return tuple(children)
    kind = KINDS[cls]
    assert kind is not None
    return kind.unflatten(meta, children)


def leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of `tree`, left to right.

    >>> leaves({"b": 2, "a": [1, None]})
    [1, 2]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> TreeDef:
    """The structure of `tree`: its containers, keys and static data without its leaves.

    >>> structure([1, (2, 3)])
    TreeDef([*, (*, *)])
    """
    return flatten(tree, is_leaf)[1]


# Paths of leaves --------------------------------------------------------------------------------


def paths(treedef: TreeDef) -> list[Path]:
    """The path of every leaf of `treedef`, in the order of the leaves.

    >>> [path_string("x", path) for path in paths(structure({"w": [0, 0], "b": 0}))]
    ["x['b']", "x['w'][0]", "x['w'][1]"]
    """
    found: list[Path] = []
    _append_paths(treedef.spec, (), found)
    return found


def _append_paths(spec: Any, path: Path, found: list[Path]) -> None:
    if spec is None:
        found.append(path)
        return
    for entry, child in zip(_entries(spec), spec[2], strict=True):
        _append_paths(child, (*path, entry), found)


def _entries(spec: Any) -> Sequence[PathEntry]:
    cls, meta, children = spec
    entries = kind_of_node_class(cls).entries(meta, len(children))
    if len(entries) != len(children):
        raise ValueError(
            message(
                "tree.register_node",
                f"keys must return one path entry per child of {cls.__qualname__}",
                f"{len(entries)} for {plural(len(children), 'child', 'children')}",
            )
        )
    return entries


def flatten_with_path(
    tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[tuple[Path, Any]], TreeDef]:
    """The leaves of `tree`, each with its path, and the structure of `tree`.

    >>> flatten_with_path({"w": [1, 2]})[0]
    [((Item(key='w'), Item(key=0)), 1), ((Item(key='w'), Item(key=1)), 2)]
    """
    found, treedef = flatten(tree, is_leaf)
    return list(zip(paths(treedef), found, strict=True)), treedef


# Maps and folds ---------------------------------------------------------------------------------


def map(
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """The tree of `f(leaf, *leaves of rest at the same place)` with the structure of `tree`.

    Args:
        f: called once per leaf of `tree`, left to right.
        tree: decides the structure.
        rest: trees of which `tree` is a prefix: equal in structure, or with subtrees where `tree`
            has leaves; `f` then gets the subtrees.
        is_leaf: see `flatten`; applies to `tree`.

    Raises:
        ValueError: a tree of `rest` differs in structure from `tree`; the first place is named.

    >>> map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    found, treedef = flatten(tree, is_leaf)
    columns = _columns(treedef, rest, "tree.map") if rest else ()
    return unflatten(treedef, builtins.map(f, found, *columns))


def map_with_path(
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """As `map`, but `f` is called with the path of the leaf first: `f(path, leaf, *others)`.

    >>> map_with_path(lambda path, x: path_string("p", path), {"w": [1, 2], "b": 3})
    {'b': "p['b']", 'w': ["p['w'][0]", "p['w'][1]"]}
    """
    found, treedef = flatten(tree, is_leaf)
    columns = _columns(treedef, rest, "tree.map_with_path")
    return unflatten(treedef, builtins.map(f, paths(treedef), found, *columns))


def _columns(treedef: TreeDef, rest: Sequence[Any], function: str) -> list[list[Any]]:
    """For each tree of `rest`, its subtrees at the leaves of `treedef`."""
    requirement = "the trees must have the same structure"
    columns = []
    for index, other in enumerate(rest):
        found, other_treedef = flatten(other)
        if other_treedef != treedef:
            found = _flatten_up_to(treedef, other, function, requirement, f"rest[{index}]")
        columns.append(found)
    return columns


def _flatten_up_to(
    treedef: TreeDef, tree: Any, function: str, requirement: str, name: str
) -> list[Any]:
    """The subtrees of `tree` at the leaves of `treedef`, which must be a prefix of `tree`."""
    found: list[Any] = []

    def visit(spec: Any, subtree: Any, path: Path) -> None:
        if spec is None:
            found.append(subtree)
            return
        children = _children_as(spec, subtree)
        if children is None:
            got = _mismatch(_node_spec(subtree), spec, path, name)
            raise ValueError(message(function, requirement, got))
        for entry, child_spec, child in zip(_entries(spec), spec[2], children, strict=True):
            visit(child_spec, child, (*path, entry))

    visit(treedef.spec, tree, ())
    return found


def _children_as(spec: Any, tree: Any) -> list[Any] | None:
    """The children of `tree` if its root is the same node as the root of `spec`, else None."""
    kind = KINDS[type(tree)]
    if kind is None or spec is None:
        return None
    found, meta = kind.flatten(tree)
    children = list(found)
    return children if (type(tree), meta, len(children)) == (*spec[:2], len(spec[2])) else None


def _node_spec(tree: Any) -> Any:
    """Spec of the root of `tree` alone, its children taken to be leaves."""
    return structure(tree, is_leaf=lambda subtree: subtree is not tree).spec


def _mismatch(got: Any, expected: Any, path: Path, name: str) -> str:
    got_text, expected_text = _describe(got), _describe(expected)
    if got_text == expected_text:  # two classes of one name, or data of which the texts are equal
        expected_text = f"a different {expected_text.split(' ', 1)[1]}"
    return f"{got_text} where {expected_text} was expected at {path_string(name, path)}"


def structure_difference(got: Any, expected: Any, name: str) -> str:
    """The first place where two structures differ, as a clause for an error message.

    Args:
        got: a tree or a TreeDef: what came.
        expected: a tree or a TreeDef: what should have come.
        name: of the variable that holds `got`, for the path.

    Returns:
        The clause, without a full stop; "" when the structures are equal.

    >>> structure_difference({"x": [1]}, {"x": [1, 2]}, "params")
    "got a list of length 1 where a list of length 2 was expected at params['x']"
    """

    def visit(got: Any, expected: Any, path: Path) -> str:
        if got == expected:
            return ""
        if not (got and expected and got[:2] == expected[:2] and len(got[2]) == len(expected[2])):
            return f"got {_mismatch(got, expected, path, name)}"
        rows = zip(_entries(got), got[2], expected[2], strict=True)
        clauses = (visit(a, b, (*path, entry)) for entry, a, b in rows)
        return next(filter(None, clauses))

    return visit(_as_treedef(got).spec, _as_treedef(expected).spec, ())


def flatten_prefix(
    prefix: Any,
    tree: Any,
    *,
    name: str = "prefix",
    function: str = "flatten_prefix",
    of: str = "the tree",
) -> list[Any]:
    """The leaves of `prefix`, each repeated for all leaves of `tree` that it stands above.

    In a prefix None is a value like any other, not an empty node.

    Args:
        prefix: a leaf for the whole tree, or a tree whose leaves stand for whole subtrees.
        tree: a tree or a TreeDef.
        name: of the variable that holds `prefix`, for the error.
        function: which the user called, for the error.
        of: what `tree` is, for the error.

    Returns:
        One value for each leaf of `tree`.

    Raises:
        ValueError: `prefix` has a node where `tree` has a different one, or a leaf.

    >>> flatten_prefix((0, None), ([1, 2], {"a": 3, "b": 4}))
    [0, 0, None, None]
    """
    found: list[Any] = []

    def visit(prefix: Any, spec: Any, path: Path) -> None:
        if prefix is None or KINDS[type(prefix)] is None:
            found.extend([prefix] * _count(spec))
            return
        children = _children_as(spec, prefix)
        if children is None:
            got = _mismatch(_node_spec(prefix), spec, path, name)
            raise ValueError(message(function, f"{name} must be a tree prefix of {of}", got))
        for entry, child_spec, child in zip(_entries(spec), spec[2], children, strict=True):
            visit(child, child_spec, (*path, entry))

    visit(prefix, _as_treedef(tree).spec, ())
    return found


_NO_INITIAL: Any = object()


def reduce(
    f: Callable[[Any, Any], Any],
    tree: Any,
    initial: Any = _NO_INITIAL,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """`f(... f(f(initial, leaf 0), leaf 1) ..., leaf n)`; without `initial`, leaf 0 starts.

    Raises:
        TypeError: `tree` has no leaves and there is no `initial`.

    >>> reduce(lambda total, x: total + x, {"a": 1, "b": (2, 3)})
    6
    """
    found = leaves(tree, is_leaf)
    if initial is not _NO_INITIAL:
        return functools.reduce(f, found, initial)
    if not found:
        requirement = "a tree without leaves needs an initial value"
        raise TypeError(message("tree.reduce", requirement, f"tree={tree!r}"))
    return functools.reduce(f, found)


def all(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether every leaf of `tree` is true; True for a tree without leaves.

    >>> all({"a": True, "b": (1, 0)})
    False
    """
    return builtins.all(leaves(tree, is_leaf))


def transpose(outer: TreeDef, inner: TreeDef, tree: Any) -> Any:
    """Turn a tree of structure `outer`, with trees of structure `inner` as its leaves, inside out.

    Raises:
        TypeError: `outer` or `inner` is not a TreeDef.
        ValueError: `tree` is not such a tree.

    >>> transpose(
    ...     structure([0, 0]), structure({"a": 0, "b": 0}), [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    ... )
    {'a': [1, 3], 'b': [2, 4]}
    """
    for name, value in (("outer", outer), ("inner", inner)):
        if not isinstance(value, TreeDef):
            requirement, fix = f"{name} must be a TreeDef", f"pass tree.structure({name})."
            raise TypeError(message("tree.transpose", requirement, f"{name}={value!r}", fix=fix))
    where = ("tree.transpose", "tree must be of structure outer with leaves of structure inner")
    rows = [
        _flatten_up_to(inner, subtree, *where, path_string("tree", path))
        for path, subtree in zip(
            paths(outer), _flatten_up_to(outer, tree, *where, "tree"), strict=True
        )
    ]
    columns = ([row[index] for row in rows] for index in range(inner.num_leaves))
    return unflatten(inner, [unflatten(outer, column) for column in columns])
