"""Pytrees: nested containers seen as a list of leaves and a structure.

A pytree is a leaf, or a node whose children are pytrees. Nodes are tuple, list, dict, OrderedDict,
defaultdict, namedtuples, None (a node without children), and instances of the classes given to
`register_node` and `register_dataclass`. Classes match exactly, not by inheritance, except that
every namedtuple class is a node class. Everything else is a leaf: arrays, numbers, strings, tracers.

Reading order: `TreeDef` holds a structure as nested plain tuples ("specs"), so that two structures
are compared and hashed in C; `_KINDS` says for each class how to take a node apart and put it
together; `flatten` and `unflatten` are one recursive walk each; the rest is written in terms of
these two and of paths.

    spec := None                              a leaf
          | (class, meta, (spec, ...))        a node; meta: hashable, whatever else rebuilds it

Order of dict keys: sorted, so that equal dicts have equal structures whatever the order of
insertion. Keys of several types are sorted by type, then by value. Keys without an order keep the
order of insertion. A dict that is put together again has its keys in the order of its leaves.
"""

import builtins
import dataclasses
import functools
import operator
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

_Class = TypeVar("_Class", bound=type)

# Paths ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """A step of a path into a tuple, list or dict: `[key]`."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Attribute:
    """A step of a path into a namedtuple or dataclass: `.name`."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """A step of a path into a registered class that names no keys: `<child index>`."""

    index: int

    def __str__(self) -> str:
        return f"<child {self.index}>"


PathEntry = Item | Attribute | Child
Path = tuple[PathEntry, ...]


def path_string(name: str, path: Path) -> str:
    """The place `path` leads to inside the variable `name`, as its user would write it.

    >>> path_string("params", (Item("w"), Item(0), Attribute("scale")))
    "params['w'][0].scale"
    """
    return name + "".join(str(entry) for entry in path)


# Node kinds -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """How nodes of one class are taken apart, put together, walked with paths and printed.

    flatten(node) -> (children, meta). unflatten(meta, children) -> node, children being a list.
    entries(meta, number of children) -> path entries. show(meta, texts of children) -> text.
    describe(meta, number of children) -> the words by which an error message calls the node.
    """

    flatten: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten: Callable[[Any, list[Any]], Any]
    entries: Callable[[Any, int], Sequence[PathEntry]]
    show: Callable[[Any, list[str]], str]
    describe: Callable[[Any, int], str]


def _index_entries(meta: Any, count: int) -> list[PathEntry]:
    return [Item(index) for index in range(count)]


def _key_entries(keys: Iterable[Any], count: int) -> list[PathEntry]:
    return [Item(key) for key in keys]


def _child_entries(meta: Any, count: int) -> list[PathEntry]:
    return [Child(index) for index in range(count)]


def _sorted_keys(mapping: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(mapping)
    except TypeError:
        pass
    try:
        return sorted(mapping, key=lambda key: (type(key).__module__, type(key).__qualname__, key))
    except TypeError:
        return list(mapping)


def _flatten_dict(node: dict[Any, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    keys = _sorted_keys(node)
    return [node[key] for key in keys], tuple(keys)


def _flatten_defaultdict(node: defaultdict[Any, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    children, keys = _flatten_dict(node)
    return children, (node.default_factory, keys)


def _show_items(keys: Iterable[Any], children: list[str]) -> str:
    items = (f"{key!r}: {child}" for key, child in zip(keys, children, strict=True))
    return "{" + ", ".join(items) + "}"


def _show_fields(names: Iterable[str], children: Iterable[str]) -> str:
    return ", ".join(f"{name}={child}" for name, child in zip(names, children, strict=True))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1] in tuple('AEIOUaeiou') else 'a'} {noun}"


def _namedtuple_kind(cls: Any) -> _Kind:
    return _Kind(
        flatten=lambda node: (node, None),
        unflatten=lambda meta, children: cls._make(children),
        entries=lambda meta, count: [Attribute(name) for name in cls._fields],
        show=lambda meta, children: f"{cls.__name__}({_show_fields(cls._fields, children)})",
        describe=lambda meta, count: _with_article(cls.__name__),
    )


_NONE_TYPE = type(None)
_BUILTIN_KINDS: dict[type, _Kind] = {
    _NONE_TYPE: _Kind(
        flatten=lambda node: ((), None),
        unflatten=lambda meta, children: None,
        entries=_index_entries,
        show=lambda meta, children: "None",
        describe=lambda meta, count: "None",
    ),
    tuple: _Kind(
        flatten=lambda node: (node, None),
        unflatten=lambda meta, children: tuple(children),
        entries=_index_entries,
        show=lambda meta, children: f"({', '.join(children)}{',' * (len(children) == 1)})",
        describe=lambda meta, count: f"a tuple of length {count}",
    ),
    list: _Kind(
        flatten=lambda node: (node, None),
        unflatten=lambda meta, children: children,
        entries=_index_entries,
        show=lambda meta, children: f"[{', '.join(children)}]",
        describe=lambda meta, count: f"a list of length {count}",
    ),
    dict: _Kind(
        flatten=_flatten_dict,
        unflatten=lambda keys, children: dict(zip(keys, children, strict=True)),
        entries=_key_entries,
        show=_show_items,
        describe=lambda keys, count: f"a dict with keys {list(keys)}",
    ),
    OrderedDict: _Kind(
        flatten=lambda node: (node.values(), tuple(node)),
        unflatten=lambda keys, children: OrderedDict(zip(keys, children, strict=True)),
        entries=_key_entries,
        show=lambda keys, children: f"OrderedDict({_show_items(keys, children)})",
        describe=lambda keys, count: f"an OrderedDict with keys {list(keys)}",
    ),
    defaultdict: _Kind(
        flatten=_flatten_defaultdict,
        unflatten=lambda meta, children: defaultdict(meta[0], zip(meta[1], children, strict=True)),
        entries=lambda meta, count: _key_entries(meta[1], count),
        show=lambda meta, children: (
            f"defaultdict({_callable_name(meta[0])}, {_show_items(meta[1], children)})"
        ),
        describe=lambda meta, count: (
            f"a defaultdict of {_callable_name(meta[0])} with keys {list(meta[1])}"
        ),
    ),
}


def _callable_name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


class _Kinds(dict[type, _Kind | None]):
    """The kind of every class met so far, None for a class whose instances are leaves.

    Classes are looked up by `_KINDS[cls]`, which answers for classes never seen before, too. Node
    classes that were registered stay for good; how many others are remembered is bounded, so that
    a program which keeps making classes does not keep them all alive.
    """

    remembered = 4096

    def __missing__(self, cls: type) -> _Kind | None:
        is_namedtuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
        kind = _namedtuple_kind(cls) if is_namedtuple else None
        # setdefault is atomic, so a class registered by another thread meanwhile stays registered.
        return self.setdefault(cls, kind) if len(self) < self.remembered else kind


_KINDS = _Kinds(_BUILTIN_KINDS)
_registered: set[type] = set(_BUILTIN_KINDS)
_register_lock = threading.Lock()


def _kind_of_node_class(cls: type) -> _Kind:
    kind = _KINDS[cls]
    assert kind is not None, f"{cls} stands in a structure but is not a node class"
    return kind


# Structures -------------------------------------------------------------------------------------


class TreeDef:
    """The structure of a pytree: immutable, hashable, comparable. Made by `structure`.

    Two structures are equal when the classes, the keys and the static data of all nodes are equal.

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
        return isinstance(other, TreeDef) and self.spec == other.spec

    def __hash__(self) -> int:
        if self._hash is None:
            try:
                self._hash = hash(self.spec)
            except TypeError as error:
                raise TypeError(
                    f"structure: the static data of a tree must be hashable, got {self} ({error})."
                    " To fix: make arrays data fields, lists tuples."
                ) from None
        return self._hash

    def __repr__(self) -> str:
        return f"TreeDef({_show(self.spec)})"

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
    return _kind_of_node_class(cls).show(meta, [_show(child) for child in children])


def _describe(spec: Any) -> str:
    if spec is None:
        return "a leaf"
    cls, meta, children = spec
    return _kind_of_node_class(cls).describe(meta, len(children))


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
        is_leaf: called with every subtree, the whole one first; where it returns True the subtree
            is a leaf. By default only what is not a node is a leaf.

    Returns:
        A new list of leaves and a `TreeDef`, from which `unflatten` rebuilds the tree.

    >>> flatten({"b": 2, "a": [1, None]})
    ([1, 2], TreeDef({'a': [*, None], 'b': *}))
    """
    found: list[Any] = []
    if is_leaf is not None:
        return found, TreeDef(_walk_until(tree, found.append, is_leaf), len(found))
    kind = _KINDS[type(tree)]
    if kind is None:
        return [tree], _LEAF
    spec = _walk(tree, kind, found.append)
    return found, TreeDef(spec, len(found))


def _walk(tree: Any, kind: _Kind, append: Callable[[Any], None]) -> Any:
    """Spec of `tree`, a node of the given kind; appends its leaves."""
    children, meta = kind.flatten(tree)
    specs = []
    for child in children:
        child_kind = _KINDS[type(child)]
        if child_kind is None:
            append(child)
            specs.append(None)
        else:
            specs.append(_walk(child, child_kind, append))
    return (type(tree), meta, tuple(specs))


def _walk_until(tree: Any, append: Callable[[Any], None], is_leaf: Callable[[Any], bool]) -> Any:
    """Spec of `tree`, of which subtrees with is_leaf(subtree) are leaves; appends its leaves."""
    kind = _KINDS[type(tree)]
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
            f"unflatten: the structure has {_plural(treedef.num_leaves, 'leaf', 'leaves')}, "
            f"got {_plural(len(leaves), 'leaf', 'leaves')} for {treedef}."
        )
    if treedef.spec is None:
        return leaves[0]
    return _build(treedef.spec, iter(leaves))


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _build(spec: Any, leaves: Iterator[Any]) -> Any:
    cls, meta, specs = spec
    children = [next(leaves) if child is None else _build(child, leaves) for child in specs]
    return _kind_of_node_class(cls).unflatten(meta, children)


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
    entries = _kind_of_node_class(cls).entries(meta, len(children))
    if len(entries) != len(children):
        raise ValueError(
            f"register_node: keys must return one path entry per child of {cls.__qualname__}, "
            f"got {len(entries)} for {_plural(len(children), 'child', 'children')}."
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
    columns = _columns(treedef, rest, "map")
    return unflatten(treedef, [f(*row) for row in zip(found, *columns, strict=True)])


def map_with_path(
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """As `map`, but `f` is called with the path of the leaf first: `f(path, leaf, *others)`.

    >>> map_with_path(lambda path, x: path_string("p", path), {"w": [1, 2], "b": 3})
    {'b': "p['b']", 'w': ["p['w'][0]", "p['w'][1]"]}
    """
    found, treedef = flatten(tree, is_leaf)
    columns = _columns(treedef, rest, "map_with_path")
    rows = zip(paths(treedef), found, *columns, strict=True)
    return unflatten(treedef, [f(*row) for row in rows])


def _columns(treedef: TreeDef, rest: Sequence[Any], function: str) -> list[list[Any]]:
    """For each tree of `rest`, its subtrees at the leaves of `treedef`."""
    return [
        _flatten_up_to(treedef, other, f"{function}: the trees must have the same structure", name)
        for name, other in ((f"rest[{index}]", other) for index, other in enumerate(rest))
    ]


def _flatten_up_to(treedef: TreeDef, tree: Any, requirement: str, name: str) -> list[Any]:
    """The subtrees of `tree` at the leaves of `treedef`, which must be a prefix of `tree`."""
    found: list[Any] = []

    def visit(spec: Any, subtree: Any, path: Path) -> None:
        if spec is None:
            found.append(subtree)
            return
        for entry, child_spec, child in _matched_children(spec, subtree, path, requirement, name):
            visit(child_spec, child, (*path, entry))

    visit(treedef.spec, tree, ())
    return found


def _matched_children(
    spec: Any, node: Any, path: Path, requirement: str, name: str
) -> Iterable[tuple[PathEntry, Any, Any]]:
    """(path entry, spec, child) for the children of `node`, which must be such a node as `spec`."""
    kind = _KINDS[type(node)]
    if kind is not None and spec is not None:
        children, meta = kind.flatten(node)
        children = list(children)
        if (type(node), meta, len(children)) == (spec[0], spec[1], len(spec[2])):
            return zip(_entries(spec), spec[2], children, strict=True)
    raise ValueError(f"{requirement}, {_mismatch(_node_spec(node), spec, path, name)}.")


def _node_spec(tree: Any) -> Any:
    """Spec of the root of `tree` alone, its children taken to be leaves."""
    return structure(tree, is_leaf=lambda subtree: subtree is not tree).spec


def _mismatch(got: Any, expected: Any, path: Path, name: str) -> str:
    return (
        f"got {_describe(got)} where {_describe(expected)} was expected at "
        f"{path_string(name, path)}"
    )


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
        if got is None or expected is None or got[:2] != expected[:2]:
            return _mismatch(got, expected, path, name)
        if len(got[2]) != len(expected[2]):
            return _mismatch(got, expected, path, name)
        rows = zip(_entries(got), got[2], expected[2], strict=True)
        clauses = (visit(a, b, (*path, entry)) for entry, a, b in rows)
        return next(filter(None, clauses))

    return visit(_as_treedef(got).spec, _as_treedef(expected).spec, ())


def flatten_prefix(prefix: Any, tree: Any, *, name: str = "prefix") -> list[Any]:
    """The leaves of `prefix`, each repeated for all leaves of `tree` that it stands above.

    In a prefix None is a value like any other, not an empty node.

    Args:
        prefix: a leaf for the whole tree, or a tree whose leaves stand for whole subtrees.
        tree: a tree or a TreeDef.
        name: of the variable that holds `prefix`, for the error.

    Returns:
        One value for each leaf of `tree`.

    Raises:
        ValueError: `prefix` has a node where `tree` has a different one, or a leaf.

    >>> flatten_prefix((0, None), ([1, 2], {"a": 3, "b": 4}))
    [0, 0, None, None]
    """
    found: list[Any] = []
    requirement = f"{name} must be a tree prefix of the values it applies to"

    def visit(prefix: Any, spec: Any, path: Path) -> None:
        if prefix is None or _KINDS[type(prefix)] is None:
            found.extend([prefix] * _count(spec))
            return
        for entry, child_spec, child in _matched_children(spec, prefix, path, requirement, name):
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
        raise TypeError(
            "reduce: a tree without leaves needs an initial value, got initial=nothing."
        )
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
            raise TypeError(
                f"transpose: {name} must be a TreeDef, got {name}={value!r}. "
                f"To fix: pass tree.structure({name})."
            )
    requirement = "transpose: tree must have the structure outer with trees of structure inner"
    rows = [
        _flatten_up_to(inner, subtree, requirement, path_string("tree", path))
        for path, subtree in zip(
            paths(outer), _flatten_up_to(outer, tree, requirement, "tree"), strict=True
        )
    ]
    columns = ([row[index] for row in rows] for index in range(inner.num_leaves))
    return unflatten(inner, [unflatten(outer, column) for column in columns])


# Registration -----------------------------------------------------------------------------------


def register_node(
    cls: type,
    flatten: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten: Callable[[Any, list[Any]], Any],
    keys: Callable[[Any], Sequence[PathEntry]] | None = None,
) -> None:
    """Make instances of `cls` nodes of pytrees.

    Args:
        cls: the class; its subclasses are not registered with it.
        flatten: `node -> (children, meta)`. `meta` is the static data: hashable, compared by `==`.
        unflatten: `(meta, children) -> node`; `children` is a list. It must accept any objects as
            children, not just those which the constructor allows.
        keys: `meta -> path entries`, one `Item` or `Attribute` per child, for error messages and
            `map_with_path`. Without it the children are called `<child 0>`, `<child 1>`, ...

    Raises:
        TypeError: `cls` is not a class.
        ValueError: `cls` is a node class already.

    >>> class Pair:
    ...     def __init__(self, left, right):
    ...         self.left, self.right = left, right
    >>> register_node(
    ...     Pair,
    ...     lambda pair: ((pair.left, pair.right), None),
    ...     lambda meta, children: Pair(*children),
    ...     lambda meta: (Attribute("left"), Attribute("right")),
    ... )
    >>> [path_string("p", path) for path, _ in flatten_with_path(Pair(1, [2]))[0]]
    ['p.left', 'p.right[0]']
    """
    name = getattr(cls, "__name__", "")
    of_meta = lambda meta: "" if meta is None else f" with static data {meta!r}"  # noqa: E731
    _register(
        "register_node",
        cls,
        _Kind(
            flatten=flatten,
            unflatten=unflatten,
            entries=_child_entries if keys is None else lambda meta, count: keys(meta),
            show=lambda meta, children: (
                f"{name}({', '.join(children if meta is None else [repr(meta), *children])})"
            ),
            describe=lambda meta, count: f"{_with_article(name)}{of_meta(meta)}",
        ),
    )


def _register(function: str, cls: Any, kind: _Kind) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"{function}: cls must be a class, got cls={cls!r}.")
    with _register_lock:
        if cls in _registered:
            raise ValueError(
                f"{function}: a class can be registered once, got cls={cls.__qualname__} "
                f"(module {cls.__module__}), which is a node class already."
            )
        _registered.add(cls)
        _KINDS[cls] = kind


@overload
def register_dataclass(cls: _Class, /) -> _Class: ...
@overload
def register_dataclass(
    cls: _Class,
    /,
    *,
    data_fields: Iterable[str] | None = None,
    meta_fields: Iterable[str] | None = None,
) -> _Class: ...
@overload
def register_dataclass(
    *, data_fields: Iterable[str] | None = None, meta_fields: Iterable[str] | None = None
) -> Callable[[_Class], _Class]: ...
def register_dataclass(
    cls: Any = None,
    /,
    *,
    data_fields: Iterable[str] | None = None,
    meta_fields: Iterable[str] | None = None,
) -> Any:
    """Make instances of a dataclass nodes of pytrees; a function, a decorator or its factory.

    The fields are divided into data, which are children, and meta, which are static: hashable, part
    of the structure, equal when both value and type are equal. If one of the two arguments is left
    out it is all the other fields; if both are, all fields are data.

    Instances are rebuilt without calling `__init__` or `__post_init__`, so frozen and slotted
    classes and fields with `init=False` work, and leaves may be anything. Attributes which are not
    fields are not carried over.

    Args:
        cls: the dataclass; its subclasses are not registered with it.
        data_fields: names of the fields that are children.
        meta_fields: names of the fields that are static.

    Returns:
        `cls`; without `cls`, a decorator.

    Raises:
        TypeError: `cls` is not a dataclass.
        ValueError: a name is not a field, or is in both or neither of the two arguments; or `cls` is
            a node class already.

    >>> @register_dataclass(meta_fields=["activation"])
    ... @dataclasses.dataclass(frozen=True)
    ... class Layer:
    ...     weight: float
    ...     activation: str = "tanh"
    >>> map(lambda x: 2 * x, Layer(3.0))
    Layer(weight=6.0, activation='tanh')
    >>> structure(Layer(3.0))
    TreeDef(Layer(weight=*, activation='tanh'))
    """
    if cls is None:
        return functools.partial(
            register_dataclass, data_fields=data_fields, meta_fields=meta_fields
        )
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(
            f"register_dataclass: cls must be a dataclass, got cls={cls!r}. "
            "To fix: write @register_dataclass above @dataclass."
        )
    data, meta = _divide_fields(cls, data_fields, meta_fields)
    _register("register_dataclass", cls, _dataclass_kind(cls, data, meta))
    return cls


def _divide_fields(
    cls: Any, data_fields: Iterable[str] | None, meta_fields: Iterable[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the data fields and of the meta fields of the dataclass `cls`."""
    names = tuple(field.name for field in dataclasses.fields(cls))
    data = None if data_fields is None else tuple(data_fields)
    meta = None if meta_fields is None else tuple(meta_fields)
    if meta is None:
        meta = () if data is None else tuple(name for name in names if name not in data)
    if data is None:
        data = tuple(name for name in names if name not in meta)
    if sorted(data + meta) != sorted(names):
        raise ValueError(
            f"register_dataclass: each field of {cls.__qualname__} must be named once, "
            f"got data_fields={list(data)}, meta_fields={list(meta)} "
            f"for a class with fields {list(names)}."
        )
    return data, meta


def _dataclass_kind(cls: Any, data: tuple[str, ...], meta: tuple[str, ...]) -> _Kind:
    get_data, get_meta = _getter(data), _getter(meta)
    set_attribute = object.__setattr__  # frozen classes refuse the ordinary way

    def flatten(node: Any) -> tuple[tuple[Any, ...], Any]:
        values = get_meta(node)
        # With the types, since 1 == 1.0 == True, of which the results differ in dtype.
        return get_data(node), (values, tuple([type(value) for value in values]))

    def unflatten(static: Any, children: list[Any]) -> Any:
        node = object.__new__(cls)
        for name, value in zip(data, children, strict=True):
            set_attribute(node, name, value)
        for name, value in zip(meta, static[0], strict=True):
            set_attribute(node, name, value)
        return node

    def show(static: Any, children: list[str]) -> str:
        return f"{cls.__name__}({_show_fields(data + meta, [*children, *builtins.map(repr, static[0])])})"

    def describe(static: Any, count: int) -> str:
        fields = _show_fields(meta, builtins.map(repr, static[0]))
        return _with_article(cls.__name__) + (f" with {fields}" if meta else "")

    entries = [Attribute(name) for name in data]
    return _Kind(flatten, unflatten, lambda static, count: entries, show, describe)


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an object to the tuple of its attributes `names`."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    if names:
        get = operator.attrgetter(*names)
        return lambda node: (get(node),)
    return lambda node: ()


# Functions as trees -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _StaticPartial:
    """A functools.partial whose arguments are static data, comparable by value."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*self.arguments, *arguments, **{**dict(self.keywords), **keywords})


class Partial(functools.partial):
    """`functools.partial` that is a pytree: its arguments are children, its function is static.

    So a function with arrays bound to it can be passed to, and returned from, transformed functions.
    The arguments of an ordinary functools.partial that is passed as the function are static.

    >>> leaves(Partial(max, 3, key=abs)) == [3, abs]
    True
    """

    def __new__(
        cls, function: Callable[..., Any], /, *arguments: Any, **keywords: Any
    ) -> "Partial":
        if isinstance(function, functools.partial) and not isinstance(function, Partial):
            # functools.partial would merge the inner arguments with the outer, making them leaves.
            function = _StaticPartial(
                function.func, function.args, tuple(sorted(function.keywords.items()))
            )
        return super().__new__(cls, function, *arguments, **keywords)


register_node(
    Partial,
    lambda partial: ((partial.args, partial.keywords), partial.func),
    lambda function, children: Partial(function, *children[0], **children[1]),
    lambda function: (Attribute("args"), Attribute("keywords")),
)
