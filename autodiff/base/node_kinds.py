"""The classes whose instances are nodes of pytrees: how each is taken apart and put together.

`KINDS[cls]` is the `Kind` of a class, or None if its instances are leaves. The kinds of Python's
own containers stand here; `register_node` adds others, as does `node_classes.py` in terms of
`add_kind`. Classes match exactly, not by inheritance, except that every namedtuple class is a node
class.

`pytree.py` explains the "specs" that `Kind.walk` returns. The walks stand here, with the loop over
the children written out for tuple, list and dict, since they are on the path of every jitted call:
flattening `(x, y)` costs a third of a microsecond this way.
"""

import dataclasses
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autodiff.base.errors import message

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
class Kind:
    """How nodes of one class are taken apart, put together, walked with paths and printed.

    walk(node, append) -> spec of the node; calls `append` with each leaf below it.
    flatten(node) -> (children, meta).
    unflatten(meta, children) -> node; children is a list made for this call.
    entries(meta, number of children) -> path entries.
    show(meta, texts of the children) -> text.
    describe(meta, number of children) -> what an error message calls the node.
    """

    walk: Callable[[Any, Callable[[Any], None]], Any]
    flatten: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten: Callable[[Any, list[Any]], Any]
    entries: Callable[[Any, int], Sequence[PathEntry]]
    show: Callable[[Any, list[str]], str]
    describe: Callable[[Any, int], str]


def _walk_sequence(node: Any, append: Callable[[Any], None]) -> Any:
    specs = []
    for child in node:
        kind = KINDS[type(child)]
        if kind is None:
            append(child)
            specs.append(None)
        else:
            specs.append(kind.walk(child, append))
    return (type(node), None, tuple(specs))


def _walk_dict(node: dict[Any, Any], append: Callable[[Any], None]) -> Any:
    try:
        keys = sorted(node)
    except TypeError:
        keys = _sorted_by_type(node)
    specs = []
    for key in keys:
        child = node[key]
        kind = KINDS[type(child)]
        if kind is None:
            append(child)
            specs.append(None)
        else:
            specs.append(kind.walk(child, append))
    return (dict, tuple(keys), tuple(specs))


def walk_of(
    cls: type, flatten: Callable[[Any], tuple[Iterable[Any], Any]]
) -> Callable[[Any, Callable[[Any], None]], Any]:
    """The walk of a class, derived from its flatten function."""

    def walk(node: Any, append: Callable[[Any], None]) -> Any:
        children, meta = flatten(node)
        specs = []
        for child in children:
            kind = KINDS[type(child)]
            if kind is None:
                append(child)
                specs.append(None)
            else:
                specs.append(kind.walk(child, append))
        return (cls, meta, tuple(specs))

    return walk


def _index_entries(meta: Any, count: int) -> list[PathEntry]:
    return [Item(index) for index in range(count)]


def _key_entries(keys: Iterable[Any], count: int) -> list[PathEntry]:
    return [Item(key) for key in keys]


def _child_entries(meta: Any, count: int) -> list[PathEntry]:
    return [Child(index) for index in range(count)]


def _sorted_by_type(mapping: dict[Any, Any]) -> list[Any]:
    """Keys that cannot be compared with each other: by type, then by value, else as inserted."""
    try:
        return sorted(mapping, key=lambda key: (type(key).__module__, type(key).__qualname__, key))
    except TypeError:
        return list(mapping)


def _flatten_dict(node: dict[Any, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    try:
        keys = sorted(node)
    except TypeError:
        keys = _sorted_by_type(node)
    return [node[key] for key in keys], tuple(keys)


def _flatten_defaultdict(node: defaultdict[Any, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    children, keys = _flatten_dict(node)
    return children, (node.default_factory, keys)


def _show_items(keys: Iterable[Any], children: list[str]) -> str:
    items = (f"{key!r}: {child}" for key, child in zip(keys, children, strict=True))
    return "{" + ", ".join(items) + "}"


def show_fields(names: Iterable[str], children: Iterable[str]) -> str:
    """Texts of fields as in a call: `a=*, b=*`."""
    return ", ".join(f"{name}={child}" for name, child in zip(names, children, strict=True))


def plural(count: int, one: str, many: str) -> str:
    """The count with the noun in the right number: `1 leaf`, `2 leaves`."""
    return f"{count} {one if count == 1 else many}"


def with_article(noun: str) -> str:
    """The noun with its indefinite article, judged by the first letter."""
    return f"{'an' if noun[:1] in tuple('AEIOUaeiou') else 'a'} {noun}"


def _callable_name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _flatten_sequence(node: Any) -> tuple[Any, None]:
    return node, None


def _flatten_ordered_dict(node: OrderedDict[Any, Any]) -> tuple[Iterable[Any], tuple[Any, ...]]:
    return node.values(), tuple(node)


def _namedtuple_kind(cls: Any) -> Kind:
    return Kind(
        walk=_walk_sequence,
        flatten=_flatten_sequence,
        unflatten=lambda meta, children: cls._make(children),
        entries=lambda meta, count: [Attribute(name) for name in cls._fields],
        show=lambda meta, children: f"{cls.__name__}({show_fields(cls._fields, children)})",
        describe=lambda meta, count: with_article(cls.__name__),
    )


_NONE = Kind(
    walk=lambda node, append: (type(None), None, ()),
    flatten=lambda node: ((), None),
    unflatten=lambda meta, children: None,
    entries=_index_entries,
    show=lambda meta, children: "None",
    describe=lambda meta, count: "None",
)
_TUPLE = Kind(
    walk=_walk_sequence,
    flatten=_flatten_sequence,
    unflatten=lambda meta, children: tuple(children),
    entries=_index_entries,
    show=lambda meta, children: f"({', '.join(children)}{',' * (len(children) == 1)})",
    describe=lambda meta, count: f"a tuple of length {count}",
)
_LIST = Kind(
    walk=_walk_sequence,
    flatten=_flatten_sequence,
    unflatten=lambda meta, children: children,
    entries=_index_entries,
    show=lambda meta, children: f"[{', '.join(children)}]",
    describe=lambda meta, count: f"a list of length {count}",
)
_DICT = Kind(
    walk=_walk_dict,
    flatten=_flatten_dict,
    # As many keys as children by construction; strict=True would double the time.
    unflatten=lambda keys, children: dict(zip(keys, children)),  # noqa: B905
    entries=_key_entries,
    show=_show_items,
    describe=lambda keys, count: f"a dict with keys {list(keys)}",
)
_ORDERED_DICT = Kind(
    walk=walk_of(OrderedDict, _flatten_ordered_dict),
    flatten=_flatten_ordered_dict,
    unflatten=lambda keys, children: OrderedDict(zip(keys, children, strict=True)),
    entries=_key_entries,
    show=lambda keys, children: f"OrderedDict({_show_items(keys, children)})",
    describe=lambda keys, count: f"an OrderedDict with keys {list(keys)}",
)
_DEFAULTDICT = Kind(
    walk=walk_of(defaultdict, _flatten_defaultdict),
    flatten=_flatten_defaultdict,
    unflatten=lambda meta, children: defaultdict(meta[0], zip(meta[1], children, strict=True)),
    entries=lambda meta, count: _key_entries(meta[1], count),
    show=lambda meta, children: (
        f"defaultdict({_callable_name(meta[0])}, {_show_items(meta[1], children)})"
    ),
    describe=lambda meta, count: (
        f"a defaultdict of {_callable_name(meta[0])} with keys {list(meta[1])}"
    ),
)


class _Kinds(dict[type, Kind | None]):
    """The kind of every class met so far, None for a class whose instances are leaves.

    Classes are looked up by `KINDS[cls]`, which answers for classes never seen before, too. Of
    classes that nobody registered a bounded number is remembered, so that a program which keeps
    making classes does not keep them all alive.
    """

    remembered = 4096

    def __missing__(self, cls: type) -> Kind | None:
        is_namedtuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
        kind = _namedtuple_kind(cls) if is_namedtuple else None
        # setdefault is atomic, so a class registered by another thread meanwhile stays registered.
        return self.setdefault(cls, kind) if len(self) < self.remembered else kind


KINDS = _Kinds(
    {
        type(None): _NONE,
        tuple: _TUPLE,
        list: _LIST,
        dict: _DICT,
        OrderedDict: _ORDERED_DICT,
        defaultdict: _DEFAULTDICT,
    }
)
_registered: set[type] = set(KINDS)
_register_lock = threading.Lock()


def kind_of_node_class(cls: type) -> Kind:
    """The kind of a class that stands in a spec, and therefore is a node class."""
    kind = KINDS[cls]
    assert kind is not None, f"{cls} stands in a structure but is not a node class"
    return kind


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

    >>> from autodiff import tree
    >>> class Pair:
    ...     def __init__(self, left, right):
    ...         self.left, self.right = left, right
    >>> tree.register_node(
    ...     Pair,
    ...     lambda pair: ((pair.left, pair.right), None),
    ...     lambda meta, children: Pair(*children),
    ...     lambda meta: (tree.Attribute("left"), tree.Attribute("right")),
    ... )
    >>> tree.leaves(Pair(1, [2, 3]))
    [1, 2, 3]
    >>> [tree.path_string("p", path) for path, leaf in tree.flatten_with_path(Pair(1, [2]))[0]]
    ['p.left', 'p.right[0]']
    """
    name = getattr(cls, "__name__", "")
    of_meta = lambda meta: "" if meta is None else f" with static data {meta!r}"  # noqa: E731
    add_kind(
        "tree.register_node",
        cls,
        Kind(
            walk=walk_of(cls, flatten),
            flatten=flatten,
            unflatten=unflatten,
            entries=_child_entries if keys is None else lambda meta, count: keys(meta),
            show=lambda meta, children: (
                f"{name}({', '.join(children if meta is None else [repr(meta), *children])})"
            ),
            describe=lambda meta, count: f"{with_article(name)}{of_meta(meta)}",
        ),
    )


def add_kind(function: str, cls: Any, kind: Kind) -> None:
    """Make `cls` a node class on behalf of `function`, which its errors name."""
    if not isinstance(cls, type):
        raise TypeError(message(function, "cls must be a class", f"cls={cls!r}"))
    with _register_lock:
        if cls in _registered:
            got = f"cls={cls.__module__}.{cls.__qualname__}, which is a node class already"
            raise ValueError(message(function, "a class can be registered once", got))
        _registered.add(cls)
        KINDS[cls] = kind
