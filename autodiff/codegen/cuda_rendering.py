"""From recorded expressions, statements and blocks to lines of CUDA C++.

An expression that is used once, in the same loop, and is short is written where it is used; others
become variables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autodiff.codegen.scalar_types import F32, F64, I1, I8, I16, I32, I64, ScalarType, Value

#: Names of the types of values, unsigned and signed; the prelude defines the short ones.
NAMES = {F32: "float", F64: "double", I1: "bool", I8: "u8", I16: "u16", I32: "u32", I64: "u64"}
SIGNED = {I8: "i8", I16: "i16", I32: "i32", I64: "i64"}

#: How strongly an expression binds, as C++ orders its operators: what is an operand of something
#: that binds more strongly is put in parentheses.
ATOM, UNARY, PRODUCT, SUM, COMPARED, BITS, AND, OR, CHOICE = range(9)

#: Characters beyond which an expression becomes a variable.
LONGEST = 64


@dataclass(slots=True)
class Node:
    """An expression: `form` with its operands, each put in parentheses beyond its level."""

    value: Value
    form: str
    operands: tuple[str, ...]
    levels: tuple[int, ...]
    level: int
    name: str | None = None
    is_product: bool = False


@dataclass(slots=True)
class Statement:
    """A line: `form` with its operands."""

    form: str
    operands: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """Lines in braces, after a head."""

    head: str
    operands: tuple[str, ...] = ()
    items: list[Any] = field(default_factory=list)


def type_name(type: ScalarType) -> str:
    """Return how values of a type are declared.

    >>> type_name(F32), type_name(I1), type_name(I64)
    ('float', 'bool', 'u64')
    """
    return NAMES[type]


class Rendering:
    """Lines of items: which expressions are written in place, and which become variables."""

    def __init__(self, fresh: Callable[[str], str]) -> None:
        self.fresh = fresh
        self.uses: Counter[str] = Counter()
        self.loops: dict[str, int] = {}  # the deepest loop that an expression is used in
        self.written: dict[str, tuple[str, int]] = {}
        self.variables = 0

    def count(self, items: Sequence[Any], loop: int = 0) -> None:
        """Count the uses of expressions by what is needed, last ones first."""
        for item in reversed(items):
            if isinstance(item, Block):
                self.count(item.items, loop + item.head.startswith("for"))
            if isinstance(item, Node) and not self.uses[item.value.text]:
                continue
            form = item.head if isinstance(item, Block) else item.form
            for i, operand in enumerate(item.operands):
                self.uses[operand] += form.count(f"{{{i}}}")
                self.loops[operand] = max(loop, self.loops.get(operand, 0))

    def lines(self, items: Sequence[Any], indent: int, loop: int = 0) -> list[str]:
        """Return the lines of items."""
        space, found = "  " * indent, []
        for item in items:
            if isinstance(item, Block):
                head = self._filled(item.head, item.operands)
                if head == "else":
                    found[-1] = f"{space}}} else {{"
                else:
                    found.append(f"{space}{head} {{")
                inside = loop + item.head.startswith("for")
                found += self.lines(item.items, indent + 1, inside)
                found.append(f"{space}}}")
            elif isinstance(item, Statement):
                found.append(f"{space}{self._filled(item.form, item.operands)}")
            elif self.uses[item.value.text]:
                found += self._node(item, space, loop)
        return found

    def _filled(self, form: str, operands: Sequence[str], levels: Sequence[int] = ()) -> str:
        levels = levels or (CHOICE,) * len(operands)
        texts = [self._operand(x, level) for x, level in zip(operands, levels, strict=True)]
        return form.format(*texts)

    def _operand(self, handle: str, weakest: int) -> str:
        text, level = self.written.get(handle, (handle, UNARY if handle[0] == "-" else ATOM))
        return f"({text})" if level > weakest else text

    def _node(self, node: Node, space: str, loop: int) -> list[str]:
        text = self._filled(node.form, node.operands, node.levels)
        handle = node.value.text
        is_near = self.uses[handle] == 1 and self.loops[handle] == loop
        if node.name is None and is_near and len(text) <= LONGEST:
            self.written[handle] = text, node.level
            return []
        name = node.name
        if name is None:
            name = self.fresh(f"t{self.variables}")
            self.variables += 1
        self.written[handle] = name, ATOM
        return [f"{space}const {NAMES[node.value.type]} {name} = {text};"]
