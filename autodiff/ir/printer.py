"""Graphs as text, by the grammar in ir/graph.py, with the user's line beside each equation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from autodiff.base.source_info import short_line
from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, is_repeated_scalar

Names = dict[Var, str]


def _letters(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ... for 0, 1, ...

    >>> _letters(0), _letters(25), _letters(26), _letters(27 * 26)
    ('a', 'z', 'aa', 'aaa')
    """
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def name_values(graph: Graph) -> Names:
    """Return a name for every value, in order of definition."""
    fresh = count()
    names: Names = {}
    for var in (*graph.inputs, *graph.constants):
        names[var] = _letters(next(fresh))
    for eqn in graph.eqns:
        for var in eqn.outputs:
            names[var] = _letters(next(fresh))
    return names


def _format_atom(atom: Atom, names: Mapping[Var, str]) -> str:
    if isinstance(atom, Literal):
        if atom.is_scalar:
            return f"{atom.value.item()!r}:{atom.aval}"
        if is_repeated_scalar(atom.value):
            return f"{np.asarray(atom.value).flat[0].item()!r}:{atom.aval}"
        flat = np.asarray(atom.value).ravel()
        shown = ",".join(repr(v.item()) for v in flat[:6])
        return f"[{shown}{',...' if flat.size > 6 else ''}]:{atom.aval}"
    return names.get(atom, "?")


def _format_param(value: Any, indent: str) -> str:
    if isinstance(value, Graph):
        return format_graph(value, indent + "  ").lstrip()
    if isinstance(value, np.dtype):
        return value.name
    return repr(value)


def format_equation(eqn: Eqn, names: Mapping[Var, str], indent: str = "") -> str:
    """Return one equation as a line of text.

    A value's text is `name: type`, an operation's `name[parameter=value ...] operands`. Where an
    operation has no outputs nothing stands before it.
    """
    outputs = ", ".join(f"{names.get(var, '?')}: {var.aval}" for var in eqn.outputs)
    params = ""
    if eqn.params:
        inside = " ".join(f"{k}={_format_param(v, indent)}" for k, v in eqn.params.items())
        params = f"[{inside}]"
    operands = " ".join(_format_atom(atom, names) for atom in eqn.inputs)
    defined = f"{outputs} = " if eqn.outputs else ""
    text = f"{indent}{defined}{eqn.primitive.name}{params} {operands}".rstrip()
    line = short_line(eqn.source)
    return f"{text:<60}  # {line}" if line else text


def format_graph(graph: Graph, indent: str = "") -> str:
    """Return a graph as text: one equation a line."""
    names = name_values(graph)

    def typed(variables: tuple[Var, ...]) -> str:
        return ", ".join(f"{names[var]}: {var.aval}" for var in variables)

    constants = f" [{typed(graph.constants)}]" if graph.constants else ""
    lines = [f"{indent}graph ({typed(graph.inputs)}){constants} {{"]
    lines += [format_equation(eqn, names, indent + "  ") for eqn in graph.eqns]
    lines.append(
        f"{indent}  return {' '.join(_format_atom(a, names) for a in graph.outputs)}".rstrip()
    )
    lines.append(f"{indent}}}")
    return "\n".join(lines)


Graph.__str__ = format_graph  # type: ignore[method-assign]
