"""einsum: sums of products named by letters, planned once per expression and set of shapes.

A plan is a list of steps, each the contraction of two operands by `dot_general`. Before a product,
axes that only one operand has and nobody needs later are summed, repeated letters become diagonals,
and axes of size 1 that broadcast are dropped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import bind_primitive
from autodiff.numpy.arguments import view_of
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, permuted, reshaped, sliced, sum_axes, written_into
from autodiff.primitives.contraction import dot_general
from autodiff.primitives.families import broadcast_to, convert

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def contract_pair(x: Any, x_letters: str, y: Any, y_letters: str, out: str) -> Any:
    """Return the sum of products of two arrays over the letters that `out` lacks, as `out` orders.

    No letter is repeated within an operand. Axes of size 1 broadcast against the other operand's.
    """
    x, x_letters = _without_stretched(x, x_letters, y, y_letters)
    y, y_letters = _without_stretched(y, y_letters, x, x_letters)
    x, x_letters = _sum_private(x, x_letters, y_letters + out)
    y, y_letters = _sum_private(y, y_letters, x_letters + out)
    batch = [c for c in x_letters if c in y_letters and c in out]
    summed = [c for c in x_letters if c in y_letters and c not in out]
    taken = {*batch, *summed}
    dimensions = (
        (tuple(map(x_letters.index, summed)), tuple(map(y_letters.index, summed))),
        (tuple(map(x_letters.index, batch)), tuple(map(y_letters.index, batch))),
    )
    result = bind_primitive(dot_general, (x, y), {"dimensions": dimensions})
    order = [*batch, *(c for c in x_letters if c not in taken)]
    order += [c for c in y_letters if c not in taken]
    return permuted(result, tuple(map(order.index, out)))


def _without_stretched(x: Any, x_letters: str, y: Any, y_letters: str) -> tuple[Any, str]:
    """Drop the axes of size 1 that the other operand has at another size."""
    dropped = [
        c
        for c, n in zip(x_letters, x.shape, strict=True)
        if n == 1 and c in y_letters and y.shape[y_letters.index(c)] != 1
    ]
    if not dropped:
        return x, x_letters
    kept = "".join(c for c in x_letters if c not in dropped)
    return reshaped(x, tuple(x.shape[x_letters.index(c)] for c in kept)), kept


def _sum_private(x: Any, letters: str, needed: str) -> tuple[Any, str]:
    """Sum over the axes whose letters nobody else has."""
    axes = tuple(i for i, c in enumerate(letters) if c not in needed)
    if not axes:
        return x, letters
    return _sum(x, axes), "".join(c for c in letters if c in needed)


def _sum(x: Any, axes: tuple[int, ...]) -> Any:
    return x.any(axis=axes) if x.dtype == bool else sum_axes(x, axes)


def _diagonals(x: Any, letters: str) -> tuple[Any, str]:
    """Return the operand with each repeated letter's axes replaced by their common diagonal."""
    if len(set(letters)) == len(letters):
        return x, letters
    for letter in dict.fromkeys(letters):
        count = letters.count(letter)
        if count == 1:
            continue
        axes = [i for i, c in enumerate(letters) if c == letter]
        kept = [i for i, c in enumerate(letters) if c != letter]
        size = x.shape[axes[0]]
        x = permuted(x, (*kept, *axes))
        x = reshaped(x, (*x.shape[: len(kept)], size**count))
        # the diagonal's elements are 1 + n + n**2 + ... apart in row-major order
        x = sliced(x, len(kept), 0, size**count, sum(size**k for k in range(count)))
        letters = "".join(letters[i] for i in kept) + letter
    return x, letters


# --------------------------------------------------------------------------------------- the plan


def _fail(expression: str, requirement: str, got: str | None = None) -> ValueError:
    return ValueError(message(f"einsum({expression!r})", requirement, got, line=user_line()))


def _expand(term: str, letters: str, expression: str) -> str:
    """Return a term with its ellipsis replaced by letters."""
    if term.count(".") not in (0, 3) or ("." in term and "..." not in term):
        raise _fail(expression, "an ellipsis must be three dots, once in a term", f"term={term!r}")
    expanded = term.replace("...", letters)
    wrong = [c for c in term.replace("...", "") if c not in _LETTERS]
    if wrong:
        raise _fail(expression, "subscripts must be letters", f"{wrong[0]!r}")
    return expanded


def _parse(expression: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result, with neither ellipsis nor omission."""
    text = expression.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise _fail(
            expression, f"there must be an operand for each of {len(terms)} terms", str(len(shapes))
        )
    free = [c for c in reversed(_LETTERS) if c not in text]
    widths = []
    for term, shape in zip(terms, shapes, strict=True):
        named = len(term.replace("...", ""))
        width = len(shape) - named
        if width < 0 or (width > 0 and "..." not in term):
            raise _fail(
                expression,
                f"the term {term!r} must name every axis of its operand",
                f"shape={shape}",
            )
        widths.append(width if "..." in term else 0)
    if max(widths, default=0) > len(free):
        raise _fail(expression, "there must be letters enough for all axes")
    # right-aligned, as broadcasting is
    ellipsis = "".join(reversed(free[: max(widths, default=0)]))
    inputs = [
        _expand(term, ellipsis[len(ellipsis) - width :], expression)
        for term, width in zip(terms, widths, strict=True)
    ]
    if arrow:
        output = _expand(right, ellipsis, expression)
        if len(set(output)) != len(output):
            raise _fail(expression, "the output must name each axis once", f"output={right!r}")
        missing = [c for c in output if all(c not in term for term in inputs)]
        if missing:
            raise _fail(expression, "the output's letters must occur in a term", repr(missing[0]))
        lost = [c for c in ellipsis if c not in output]
        if lost:
            raise _fail(expression, "the output must have '...' where the operands have it")
    else:
        everything = "".join(terms).replace(".", "")
        single = sorted(c for c in set(everything) if everything.count(c) == 1)
        output = ellipsis + "".join(single)
    return inputs, output


def _sizes(expression: str, inputs: list[str], shapes: tuple[tuple[int, ...], ...]) -> dict:
    """Return the size of each letter; sizes must agree, 1 broadcasts across operands."""
    sizes: dict[str, int] = {}
    for letters, shape in zip(inputs, shapes, strict=True):
        within: dict[str, int] = {}
        for letter, size in zip(letters, shape, strict=True):
            if within.setdefault(letter, size) != size:
                raise _fail(
                    expression,
                    f"the axes named {letter!r} of one operand must be of one length",
                    f"shape={shape}",
                )
            known = sizes.get(letter, 1)
            if 1 not in (known, size) and known != size:
                raise _fail(
                    expression,
                    f"the axes named {letter!r} must be of one length",
                    f"lengths={known}, {size}",
                )
            sizes[letter] = size if known == 1 else known
    return sizes


Step = tuple[tuple[int, ...], str]


@lru_cache(maxsize=4096)
def _plan(
    expression: str, shapes: tuple[tuple[int, ...], ...], optimize: Any
) -> tuple[tuple[str, ...], tuple[Step, ...], tuple[int, ...]]:
    """Return each operand's letters, the steps, and the result's shape.

    A step takes the operands at its positions away and appends their product, whose letters it
    names: those that a later step or the result still needs.
    """
    inputs, output = _parse(expression, shapes)
    sizes = _sizes(expression, inputs, shapes)
    shape = tuple(sizes[c] for c in output)
    if len(inputs) <= 2:
        path: list[tuple[int, ...]] = [tuple(range(len(inputs)))]
    else:
        path = _order(inputs, output, shapes, optimize)
    remaining = list(inputs)
    steps: list[Step] = []
    for positions in path:
        if len(positions) == 1:
            remaining.pop(positions[0])
            steps.append((tuple(positions), output))
            remaining.append(output)
            continue
        group = sorted(positions, reverse=True)
        while len(group) > 1:
            pair = (group[0], group[1])
            y, x = [remaining.pop(i) for i in pair]
            result = _product_letters(x, y, output + "".join(remaining)) if remaining else output
            steps.append((pair, result))
            remaining.append(result)
            # the product went to the end; positions below it have not moved
            group = [len(remaining) - 1, *group[2:]]
    return tuple(inputs), tuple(steps), shape


def _product_letters(x: str, y: str, needed: str) -> str:
    """Return the letters of a product in the order in which `dot_general` makes them."""
    both = [c for c in x if c in y]
    names = [*both, *(c for c in x if c not in both), *(c for c in y if c not in both)]
    return "".join(c for c in dict.fromkeys(names) if c in needed)


def _order(
    inputs: list[str], output: str, shapes: tuple[tuple[int, ...], ...], optimize: Any
) -> list[tuple[int, ...]]:
    if isinstance(optimize, tuple):
        if optimize[0] == "einsum_path":
            return [tuple(positions) for positions in optimize[1:]]
        optimize = optimize[0]  # (method, memory limit): memory is not limited here
    from opt_einsum import contract_path

    method = "auto" if optimize in (False, True) else optimize
    path, _ = contract_path(",".join(inputs) + "->" + output, *shapes, shapes=True, optimize=method)
    return [tuple(positions) for positions in path]


def _from_sublists(operands: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Return the expression and operands of the form `einsum(x, [0, 1], y, [1, 2], [0, 2])`."""

    def term(sublist: Any) -> str:
        return "".join("..." if i is Ellipsis else _LETTERS[i.__index__()] for i in sublist)

    count = len(operands) // 2
    arrays = [operands[2 * i] for i in range(count)]
    expression = ",".join(term(operands[2 * i + 1]) for i in range(count))
    if len(operands) % 2:
        expression += "->" + term(operands[-1])
    return expression, arrays


# ---------------------------------------------------------------------------------------- function


@array_function(np.einsum)
def einsum(
    *operands: Any,
    out: Any = None,
    optimize: Any = False,
    dtype: Any = None,
    order: str = "K",
    casting: str = "safe",
) -> Any:
    """Return the sum of products that Einstein's notation names, as `numpy.einsum`.

    All forms are taken: implicit output, ellipses, diagonals, lists of axes in place of letters.
    Three or more operands are contracted pair by pair, in the order that opt_einsum finds cheapest
    (`optimize` names its method, or gives a path as of `numpy.einsum_path`).
    """
    if isinstance(operands[0], str):
        expression, given = operands[0], list(operands[1:])
    else:
        expression, given = _from_sublists(operands)
    arrays = _one_type([array_of(x) for x in given], dtype, casting)
    path = tuple(map(_hashable, optimize)) if isinstance(optimize, list) else optimize
    inputs, steps, shape = _plan(expression, tuple([x.shape for x in arrays]), path)
    letters = list(inputs)
    for positions, result in steps:
        taken = [_diagonals(arrays.pop(i), letters.pop(i)) for i in positions]
        if len(taken) == 2:
            # positions are last first: the operand that the user wrote first comes first
            arrays.append(contract_pair(*taken[1], *taken[0], result))
        else:
            x, name = _sum_private(*taken[0], result)
            arrays.append(permuted(x, tuple(map(name.index, result))))
        letters.append(result)
    total = broadcast_to(arrays[0], shape)
    if len(inputs) == 1 and set(inputs[0]) == set(steps[0][1]):
        total = view_of(given[0], total)  # nothing is summed: NumPy's result is a view
    return total if out is None else written_into("einsum", out, total)


def _hashable(entry: Any) -> Any:
    return tuple(entry) if isinstance(entry, list) else entry


def _one_type(arrays: list[Any], dtype: Any, casting: Any) -> list[Any]:
    """Return the operands as arrays of one type: `dtype`, or NumPy's promotion of theirs."""
    if dtype is None:
        first = arrays[0].dtype
        if all(x.dtype == first for x in arrays):
            return arrays
        dtype = np.result_type(*[x.dtype for x in arrays])
    for x in arrays:
        if not np.can_cast(x.dtype, dtype, casting):
            raise TypeError(
                message(
                    "einsum",
                    f"operands must be castable to dtype={dtype} by the rule {casting!r}",
                    f"an operand of type {x.dtype}",
                    line=user_line(),
                    fix="convert it with .astype first.",
                )
            )
    return [convert(x, dtype) for x in arrays]
