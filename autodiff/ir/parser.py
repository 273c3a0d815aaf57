"""Graphs from the text that the printer writes, so that a printed graph can become a test."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np

from autodiff.ir.avals import UNKNOWN, ArrayType, array_type
from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, make_graph
from autodiff.ir.primitive import primitives

_COMMENT = re.compile(r"[ ]{2,}# [^\n]*:\d+$", re.MULTILINE)
_TYPED = re.compile(r"\s*,?\s*([a-z]+): ([a-z]+\d*)(?:\[([\d,?]+)\])?(\*?)")
_OPERATION = re.compile(r"\s*=\s*(\w+)")
_EFFECT = re.compile(r"\s*(\w+)")
_ATOM = re.compile(
    r"[ \t]+(?:(\([^)\s]*\)|[-+\w.]+):([a-z]+\d*)(?:\[([\d,]+)\])?(?!\w)|([a-z]+)\b)"
)
_KEY = re.compile(r"\s*(\w+)=")


class _Reader:
    """The text and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text = _COMMENT.sub("", text)
        self.position = 0

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def take(self, word: str) -> bool:
        found = re.compile(r"\s*" + re.escape(word)).match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        return found is not None

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise ValueError(
                f"parse_graph: {word!r} must follow, got "
                f"{self.text[self.position : self.position + 40]!r}."
            )


def _sizes(text: str | None) -> tuple[int, ...]:
    sizes = text.split(",") if text else ()
    return tuple(UNKNOWN if size == "?" else int(size) for size in sizes)


def _typed(reader: _Reader) -> list[tuple[str, ArrayType]]:
    found = []
    while (match := reader.match(_TYPED)) is not None:
        name, dtype, shape, weak = match.groups()
        found.append((name, array_type(_sizes(shape), np.dtype(dtype), bool(weak))))
    return found


def _parameter(reader: _Reader) -> Any:
    if re.compile(r"\s*graph \(").match(reader.text, reader.position):
        return _graph(reader)
    depth = 0
    quote = ""
    start = end = reader.position
    while end < len(reader.text):
        letter = reader.text[end]
        if quote:
            quote = "" if letter == quote and reader.text[end - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}" and depth:
            depth -= 1
        elif not depth and (letter == "]" or letter.isspace()):
            break
        end += 1
    reader.position = end
    text = reader.text[start:end]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return np.dtype(text)
    except TypeError:
        raise ValueError(
            f"parse_graph: a parameter must be plain data or a type, got {text!r}."
        ) from None


def _atoms(reader: _Reader, known: dict[str, Var]) -> list[Atom]:
    found: list[Atom] = []
    while (match := reader.match(_ATOM)) is not None:
        number, dtype, shape, name = match.groups()
        if name is not None:
            found.append(known[name])
            continue
        special = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "-nan": np.nan}
        value = special[number] if number in special else ast.literal_eval(number)
        scalar = np.dtype(dtype).type(value)
        found.append(Literal(np.broadcast_to(scalar, _sizes(shape)) if shape else scalar))
    return found


def _graph(reader: _Reader) -> Graph:
    known: dict[str, Var] = {}

    def define(typed: list[tuple[str, ArrayType]]) -> tuple[Var, ...]:
        variables = []
        for name, aval in typed:
            known[name] = Var(aval, len(known))
            variables.append(known[name])
        return tuple(variables)

    reader.expect("graph (")
    inputs = define(_typed(reader))
    reader.expect(")")
    constants: tuple[Var, ...] = ()
    if reader.take("["):
        constants = define(_typed(reader))
        reader.expect("]")
    reader.expect("{")
    eqns = []
    while not reader.take("return"):
        outputs = _typed(reader)
        operation = reader.match(_OPERATION if outputs else _EFFECT)
        if operation is None or operation[1] not in primitives:
            reader.expect("= <an operation>")
        assert operation is not None
        params = {}
        if reader.text[reader.position : reader.position + 1] == "[":
            reader.position += 1
            while (key := reader.match(_KEY)) is not None:
                params[key[1]] = _parameter(reader)
            reader.expect("]")
        operands = tuple(_atoms(reader, known))
        eqns.append(Eqn(primitives[operation[1]], operands, params, define(outputs), None))
    results = _atoms(reader, known)
    reader.expect("}")
    return make_graph(inputs, constants, eqns, results)


def parse_graph(text: str) -> Graph:
    """Return the graph that the printer wrote as `text`; the users' lines are lost.

    Raises:
        ValueError: the text is not of the printer's grammar, or holds an array literal
            whose elements differ.
        KeyError: a value is used before its definition.

    >>> import numpy as np
    >>> from autodiff.api.inspection import make_graph
    >>> graph = make_graph(lambda x: np.sin(x) * 2.0)(np.zeros(3))
    >>> parse_graph(str(graph)) == graph
    True
    """
    return _graph(_Reader(text))
