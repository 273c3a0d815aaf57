"""Nodes made from dataclasses, and functions that are nodes: `register_dataclass`, `Partial`."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from autodiff.base.errors import message
from autodiff.base.node_kinds import (
    Attribute,
    Kind,
    add_kind,
    register_node,
    show_fields,
    walk_of,
    with_article,
)

_Class = TypeVar("_Class", bound=type)


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
        ValueError: a name is not a field, or is in both or neither of the two arguments; or `cls`
            is a node class already.

    >>> from dataclasses import dataclass
    >>> from autodiff import tree
    >>> @tree.register_dataclass(meta_fields=["activation"])
    ... @dataclass(frozen=True)
    ... class Layer:
    ...     weight: float
    ...     activation: str = "tanh"
    >>> tree.map(lambda x: 2 * x, Layer(3.0))
    Layer(weight=6.0, activation='tanh')
    >>> tree.structure(Layer(3.0))
    TreeDef(Layer(weight=*, activation='tanh'))
    """
    if cls is None:
        return functools.partial(
            register_dataclass, data_fields=data_fields, meta_fields=meta_fields
        )
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(
            message(
                "tree.register_dataclass",
                "cls must be a dataclass",
                f"cls={cls!r}",
                fix="write @register_dataclass above @dataclass.",
            )
        )
    data, meta = _divide_fields(cls, data_fields, meta_fields)
    add_kind("tree.register_dataclass", cls, _dataclass_kind(cls, data, meta))
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
            message(
                "tree.register_dataclass",
                f"each field of {cls.__qualname__} must be named once",
                f"data_fields={list(data)}, meta_fields={list(meta)} "
                f"for a class with fields {list(names)}",
            )
        )
    return data, meta


def _dataclass_kind(cls: Any, data: tuple[str, ...], meta: tuple[str, ...]) -> Kind:
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
        return f"{cls.__name__}({show_fields(data + meta, [*children, *map(repr, static[0])])})"

    def describe(static: Any, count: int) -> str:
        fields = show_fields(meta, map(repr, static[0]))
        return with_article(cls.__name__) + (f" with {fields}" if meta else "")

    entries = [Attribute(name) for name in data]
    return Kind(
        walk_of(cls, flatten), flatten, unflatten, lambda static, count: entries, show, describe
    )


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an object to the tuple of its attributes `names`."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    if names:
        get = operator.attrgetter(*names)
        return lambda node: (get(node),)
    return lambda node: ()


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

    So a function with arrays bound to it can be passed to and returned from transformed functions.
    The arguments of an ordinary functools.partial that is passed as the function are static.

    >>> from autodiff import tree
    >>> scale = tree.Partial(lambda a, x: a * x, 3.0)
    >>> scale(2.0), tree.leaves(scale)
    (6.0, [3.0])
    """

    def __new__(
        cls, function: Callable[..., Any], /, *arguments: Any, **keywords: Any
    ) -> "Partial":
        """Bind arguments to `function`, as `functools.partial` does."""
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
