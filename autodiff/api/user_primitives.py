"""primitive: a user's function as an operation, declared once, as the library's own are.

An elementwise expression is handed to the family that our elementwise operations come from. A host
function becomes a `_HostOperation`, whose methods are the rules of its primitive. Mapped
sequentially, it stays the same operation with a `_Level` among its parameters: what the mapped
operation does, and what its derivative is, then follow from the operation of one example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

import numpy as np

from autodiff.api.trace import array_leaf, is_traced, with_imported
from autodiff.api.transforms import result_array
from autodiff.base import dtypes as element_types
from autodiff.base.array_modules import common_module, module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, array_type, type_of
from autodiff.ir.builder import bind_primitive, replay
from autodiff.ir.primitive import (
    LinearOperand,
    Primitive,
    Samples,
    array_functions,
    primitives,
)
from autodiff.primitives.families import (
    batch_to,
    elementwise,
    inexact_type,
    is_linear,
    library_op,
    same_type,
)
from autodiff.primitives.higher_order import build_graph, filled, stacked_type

#: The operations that users declared, by name: only these can be replaced.
_declared: dict[str, Primitive] = {}

#: The parameter that holds the levels at which an operation is mapped sequentially.
_MAPPED = "mapped"


def primitive(
    name: str,
    function: Callable[..., Any],
    *,
    doc: str,
    jvp: Any = None,
    transpose: Any = None,
    dtypes: str | None = None,
    not_differentiable: str | None = None,
    type_rule: Callable[..., Any] | None = None,
    outputs: int = 1,
    batch: str | Callable[..., Any] = "sequential",
    replace: bool = False,
) -> Callable[..., Any]:
    """Declare an operation of your own and return the function that applies it.

    Without `type_rule` the function is elementwise: a NumPy ufunc, or an expression of NumPy
    functions of its positional arguments. Operands are then promoted to one type and broadcast. A
    ufunc that the library does not know can afterwards be called on traced values itself.

    With `type_rule` it is a host function: it is given (read-only) NumPy arrays and returns one, or
    a tuple of several; it is called when the program runs, as often as that wants, so it must
    depend on its arguments alone. Keyword arguments of a call are passed on, and must be hashable.

    Args:
        name: a name not yet in use, an identifier of ASCII letters, digits and underscores.
        doc: a sentence that says what it computes.
        jvp: its derivative: one rule `(t, out, *operands, **keywords) -> tangent_out` per operand,
            in a tuple if there are several; None in place of one: zero. Rules are written with
            NumPy functions and operations, and are differentiated in turn. With several outputs
            `out` and the result are tuples.
        transpose: for an operation that is linear in operands: one rule `(ct, *operands,
            **keywords) -> ct` per operand, None where it is not linear. An operand in which it is
            linear is only a type there (`operand.aval`).
        dtypes: the kinds of element type it takes, of b, i, u, f, c. Default: "f" for elementwise
            expressions (integers are converted), all kinds for host functions.
        not_differentiable: why it has no derivative, in place of `jvp`.
        type_rule: `(*types, **keywords) -> type of the output`, or a tuple of types: anything with
            `shape` and `dtype`, or a pair `(shape, dtype)`. Operand types have both.
        outputs: how many arrays it returns.
        batch: of a host function under `vmap`: "sequential" calls it once per example;
            "vectorized" calls it once, all operands with the mapped axis first, where `type_rule`
            and `jvp` must allow for leading axes; or a rule `(axis_size, in_batched, *operands,
            **keywords) -> (out, out_batched)`.
        replace: whether an operation that you declared under that name before is to be replaced.

    Raises:
        ValueError: the name is in use or is no identifier.
        TypeError: a field is missing or does not fit the function.

    >>> from autodiff import grad, vmap
    >>> square_plus = primitive(
    ...     "square_plus",
    ...     lambda x: x * x + 1.0,
    ...     doc="One more than the square.",
    ...     jvp=lambda t, out, x: 2.0 * t * x,
    ...     replace=True,
    ... )
    >>> vmap(grad(square_plus))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    _check_name(name, replace)
    _check(callable(function), name, "needs a function", f"function={function!r}")
    _check(bool(doc.strip()), name, "needs doc, a sentence that says what it computes", "doc=''")
    _check(
        jvp is None or not_differentiable is None,
        name,
        "has either jvp or not_differentiable",
        "both",
    )
    kinds = dtypes if dtypes is not None else ("f" if type_rule is None else "biufc")
    _check(
        bool(kinds) and set(kinds) <= set("biufc"),
        name,
        "needs dtypes of the letters b, i, u, f, c",
        f"dtypes={dtypes!r}",
    )
    before = primitives.pop(name, None)
    stood_for = [key for key, recorded in array_functions.items() if recorded is before]
    for key in stood_for:
        del array_functions[key]
    try:
        if type_rule is None:
            applied = _elementwise(name, function, doc, jvp, transpose, kinds, not_differentiable)
        else:
            operation = _HostOperation(name, function, type_rule, jvp, transpose, batch, outputs)
            applied = operation.declare(doc, kinds, not_differentiable)
    except BaseException:
        if before is not None:
            primitives[name] = before
            array_functions.update((key, before) for key in stood_for)
        raise
    _declared[name] = primitives[name]
    return _named(applied, name, doc)


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _check(condition: bool, name: Any, requirement: str, got: str) -> None:
    if not condition:
        raise TypeError(
            message(
                "primitive",
                f"the declaration of {name} {requirement}",
                got,
                line=user_line(),
                fix="correct the declaration; nothing of it has been kept.",
            )
        )


def _check_name(name: Any, replace: bool) -> None:
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()) or iskeyword(name):
        raise ValueError(
            message(
                "primitive",
                "the name must be an identifier of ASCII letters, digits and underscores",
                f"name={name!r}",
                line=user_line(),
                fix="choose a name as of a Python function.",
            )
        )
    if name in primitives and not (replace and name in _declared):
        own = name in _declared
        raise ValueError(
            message(
                "primitive",
                "the name must be new",
                f"name={name!r}, {'which you declared before' if own else 'an operation of ours'}",
                line=user_line(),
                fix="pass replace=True to declare it anew." if own else "choose another name.",
            )
        )


def _rules(name: str, field: str, given: Any, count: int) -> tuple[Any, ...] | None:
    """Return one rule per operand, None if none is given."""
    if given is None:
        return None
    rules = given if isinstance(given, tuple) else (given,)
    _check(
        len(rules) == count and all(rule is None or callable(rule) for rule in rules),
        name,
        f"needs {field} with one rule (or None) for each of its {count} operands",
        f"{field}={given!r}",
    )
    return rules


def _operand_count(name: str, function: Any) -> int:
    """Return the number of operands: the positional parameters without a default."""
    if isinstance(function, np.ufunc):
        return function.nin
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    kinds = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    count = sum(p.default is p.empty for p in kinds)
    _check(
        count > 0 and not any(p.kind == p.VAR_POSITIONAL for p in parameters),
        name,
        "needs a function with a fixed number of operands, at least one",
        f"function={function!r}",
    )
    return count


# ------------------------------------------------------------------------------------ elementwise


def _elementwise(
    name: str,
    function: Any,
    doc: str,
    jvp: Any,
    transpose: Any,
    kinds: str,
    not_differentiable: str | None,
) -> Any:
    count = _operand_count(name, function)
    has_type = [d for d in element_types.SUPPORTED if element_types.kind(d) in kinds]
    is_exact = not set(kinds) & set("fc")
    _check(
        jvp is not None or not_differentiable is not None or is_exact,
        name,
        "needs jvp, or not_differentiable with the reason",
        "neither",
    )
    rules = _rules(name, "jvp", jvp, count)
    transposes = _rules(name, "transpose", transpose, count)
    promote: Any = None
    reference = function
    if isinstance(function, np.ufunc):
        _check(
            function.signature is None and function.nout == 1,
            name,
            "needs a ufunc that is elementwise and has one result",
            f"function={function!r}",
        )
    else:
        promote = _promotion(name, function, kinds)
        sample = np.ones((2, 3), np.float64 if np.dtype(float) in has_type else has_type[0])
        shape = np.shape(_computed(function, (sample,) * count))
        _check(
            shape == (2, 3),
            name,
            "needs an expression that acts on each element by itself",
            f"a result of shape {shape} for operands of shape (2, 3)",
        )
        reference = _named(lambda *operands: function(*operands), name, doc)
    is_new = isinstance(function, np.ufunc) and function not in array_functions
    declared = elementwise(
        name,
        reference,
        doc=doc,
        jvp=rules,
        transpose=transposes,
        promote=promote,
        dtypes=kinds,
        not_differentiable=not_differentiable,
        public=False,
        numpy=(function,) if is_new else (),
    )

    def applied(*operands: Any) -> Any:
        operands = with_imported(name, operands)
        operands = tuple(
            [array_functions["asarray"](x) if isinstance(x, list | tuple) else x for x in operands]
        )
        if is_traced(operands):
            return declared(*operands)
        if promote is None:
            return result_array(function(*operands))
        return result_array(_on_plain(promote, function, operands))

    return applied


def _computed(function: Any, operands: Sequence[Any]) -> Any:
    with np.errstate(all="ignore"):
        return function(*operands)


def _promotion(name: str, function: Any, kinds: str) -> Any:
    """Return the promotion of an expression: operands to one type, the result as it comes out."""
    common = same_type if set(kinds) - set("fc") else inexact_type
    results: dict[Any, Any] = {}

    def promote(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        wanted, _ = common(operands)
        if element_types.kind(wanted[0]) not in kinds:
            raise TypeError(f"{name} is not defined for {wanted[0]}")
        if wanted not in results:
            sample = [np.ones(1, dtype) for dtype in wanted]
            results[wanted] = np.asarray(_computed(function, sample)).dtype
        return wanted, (results[wanted],)

    return promote


def _on_plain(promote: Any, function: Any, operands: Sequence[Any]) -> Any:
    """Return an expression of plain operands, promoted as traced ones are."""
    kinds = tuple(
        [type(x) if module_of(x) is None else np.dtype(x.dtype) for x in operands],
    )
    if not any(isinstance(kind, np.dtype) for kind in kinds):
        kinds = tuple([element_types.default_dtype(type(x)) for x in operands])
    else:
        kinds = tuple([np.dtype(bool) if kind is bool else kind for kind in kinds])
    wanted, _ = promote(kinds)
    module = common_module(operands)
    arrays = [module.asarray(x).astype(d) for x, d in zip(operands, wanted, strict=True)]
    return _computed(function, arrays)


# --------------------------------------------------------------------------------- host functions


@dataclass(frozen=True, slots=True)
class _Level:
    """One mapped axis: its size, the operands that have it (first), and the pass that maps."""

    size: int
    flags: tuple[bool, ...]
    mode: Any


def _example(x: Any, flag: bool) -> ArrayType:
    """Return the type of one example."""
    aval = type_of(x)
    return array_type(aval.shape[1:] if flag else aval.shape, aval.dtype)


def _split(params: Any) -> tuple[tuple[_Level, ...], dict[str, Any]]:
    """Return the levels at which the operation is mapped, the outermost first, and the keywords."""
    keywords = dict(params)
    return keywords.pop(_MAPPED, ()), keywords


class _HostOperation:
    """The rules of an operation that calls a user's function on NumPy arrays."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        type_rule: Callable[..., Any],
        jvp: Any,
        transpose: Any,
        batch: Any,
        outputs: int,
    ) -> None:
        _check(callable(type_rule), name, "needs a function as type_rule", f"{type_rule!r}")
        _check(
            isinstance(outputs, int) and outputs > 0,
            name,
            "needs outputs of at least 1",
            f"outputs={outputs!r}",
        )
        _check(
            callable(batch) or batch in ("sequential", "vectorized"),
            name,
            'needs batch of "sequential", "vectorized" or a rule',
            f"batch={batch!r}",
        )
        self.count = _operand_count(name, function)
        self.name = name
        self.function = function
        self.type_rule = type_rule
        self.jvps = _rules(name, "jvp", jvp, self.count)
        self.transposes = _rules(name, "transpose", transpose, self.count)
        self.batching = batch
        self.outputs = outputs

    def declare(self, doc: str, kinds: str, not_differentiable: str | None) -> Any:
        """Enter the operation into the registry; return the function that applies it."""
        self.kinds = kinds
        if self.jvps is None and not_differentiable is None:
            not_differentiable = "its declaration gives no jvp"
        declared = library_op(
            self.name,
            self.compute,
            doc=doc,
            type_rule=self.types,
            differentiate=None if self.jvps is None else self.differentiate,
            transpose=None if self.transposes is None else self.transpose,
            batch=self.batch,
            not_differentiable=not_differentiable,
            multiple_outputs=self.outputs > 1,
            dtypes=kinds,
            samples=Samples(params=()),
        )
        self.primitive = declared
        return self.applied

    @property
    def applied(self) -> Any:
        """The function that applies the operation."""

        def applied(*operands: Any, **keywords: Any) -> Any:
            return self.apply(operands, keywords)

        return applied

    def apply(self, operands: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """Apply the operation to arrays, numbers, lists and traced values."""
        if len(operands) != self.count:
            raise TypeError(
                self._said(
                    f"it takes {self.count} operands", f"{len(operands)}", "pass one array for each"
                )
            )
        for key, value in keywords.items():
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    self._said(
                        "keyword arguments must be hashable",
                        f"{key}={value!r}",
                        "pass a tuple in place of a list, and arrays as operands",
                    )
                ) from None
        arrays = [
            array_functions["asarray"](x) if isinstance(x, list | tuple) else array_leaf(x)
            for x in with_imported(self.primitive.name, operands)
        ]
        results = bind_primitive(self.primitive, arrays, keywords)
        if self.outputs > 1:
            return tuple(map(result_array, results))
        return result_array(results)

    def _said(self, requirement: str, got: str, fix: str) -> str:
        return message(self.name, requirement, got, line=user_line(), fix=f"{fix}.")

    # Types and values.

    def types(self, *avals: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        """Return the output types."""
        levels, keywords = _split(params)
        if levels:
            size, flags = levels[0].size, levels[0].flags
            examples = [_example(a, flag) for a, flag in zip(avals, flags, strict=True)]
            outs = self.types(*examples, **keywords, **{_MAPPED: levels[1:]})
            return tuple(stacked_type(aval, size) for aval in outs)
        for i, aval in enumerate(avals):
            if element_types.kind(aval.dtype) not in self.kinds:
                raise TypeError(
                    self._said(
                        "the operands must be of types it is declared for",
                        f"operand {i} of type {aval.strong()} where dtypes={self.kinds!r}",
                        "convert it with .astype first",
                    )
                )
        given = self.type_rule(*[aval.strong() for aval in avals], **keywords)
        found = (given,) if _is_type(given) else given
        if (
            not isinstance(found, tuple | list)
            or len(found) != self.outputs
            or not all(map(_is_type, found))
        ):
            raise TypeError(
                self._said(
                    f"type_rule must return {self.outputs} types, each with shape and dtype",
                    f"{given!r}",
                    "return a pair (shape, dtype), or one of the types it is given",
                )
            )
        return tuple(map(_as_type, found))

    def compute(self, *arrays: Any, **params: Any) -> Any:
        """Call the function, once for each example of a mapped operation."""
        module = common_module(arrays)
        on_host = [x if module_of(x) in (np, None) else x.get() for x in arrays]
        results = self._compute(on_host, *_split(params))
        if module is not np:
            results = tuple(map(module.asarray, results))
        return results if self.outputs > 1 else results[0]

    def _compute(
        self, arrays: Sequence[Any], levels: tuple[_Level, ...], keywords: dict[str, Any]
    ) -> tuple[Any, ...]:
        if not levels:
            return self._called(arrays, keywords)
        size, flags = levels[0].size, levels[0].flags
        rows = [
            self._compute(
                [x[i] if flag else x for x, flag in zip(arrays, flags, strict=True)],
                levels[1:],
                keywords,
            )
            for i in range(size)
        ]
        types = self.types(*map(type_of, arrays), **keywords, **{_MAPPED: levels})
        results = tuple(np.empty(aval.shape, aval.dtype) for aval in types)
        for i, row in enumerate(rows):
            for result, value in zip(results, row, strict=True):
                result[i] = value
        return results

    def _called(self, arrays: Sequence[Any], keywords: dict[str, Any]) -> tuple[Any, ...]:
        types = self.types(*map(type_of, arrays), **keywords)
        views = []
        for x in arrays:
            view = np.asarray(x).view()
            view.flags.writeable = False
            views.append(view)
        given = self.function(*views, **keywords)
        results = (given,) if self.outputs == 1 else given
        if not isinstance(results, tuple | list) or len(results) != self.outputs:
            raise TypeError(
                self._said(
                    f"the function must return a tuple of {self.outputs} arrays",
                    f"{type(given).__name__}",
                    "correct the function, or outputs in its declaration",
                )
            )
        checked = []
        for result, aval in zip(results, types, strict=True):
            value = np.asarray(result)
            if (value.shape, value.dtype) != (aval.shape, aval.dtype):
                raise TypeError(
                    self._said(
                        f"the function must return what type_rule says, {aval}",
                        f"{type_of(value)}",
                        "correct one of the two",
                    )
                )
            shared = any(np.may_share_memory(value, view) for view in views)
            checked.append(value.copy() if shared else value)
        return tuple(checked)

    # Rules.

    def differentiate(
        self, outs: Any, operands: Any, tangents: Any, params: Any, mode: Any
    ) -> tuple[Any, ...]:
        """Return the output tangents."""
        levels, keywords = _split(params)
        if not levels:
            return self._tangents(outs, operands, tangents, keywords)
        level = levels[0]
        live = [flag for t, flag in zip(tangents, level.flags, strict=True) if t is not None]
        types = [_example(x, flag) for x, flag in zip(operands, level.flags, strict=True)]
        moving = [_example(t, f) for t, f in self._live(tangents, level.flags)]
        found: list[bool] = []

        def rule(*inputs: Any) -> list[Any]:
            first, second = len(types), len(types) + len(outs)
            given = iter(inputs[second:])
            ts = [None if t is None else next(given) for t in tangents]
            inner = {**keywords, _MAPPED: levels[1:]}
            moved = self.differentiate(inputs[first:second], inputs[:first], ts, inner, mode)
            found[:] = [t is not None for t in moved]
            return [t for t in moved if t is not None]

        graph = build_graph(self.name, [*types, *[_example(o, True) for o in outs], *moving], rule)
        flags = (*level.flags, *(True,) * len(outs), *live)
        mapped, _ = level.mode.batch(graph, level.size, flags, (True,) * len(graph.outputs))
        ts = [t for t in tangents if t is not None]
        moved = iter(replay(mapped, (), [*operands, *outs, *ts]))
        return tuple(next(moved) if flag else None for flag in found)

    @staticmethod
    def _live(tangents: Any, flags: Any) -> list[tuple[Any, bool]]:
        return [(t, flag) for t, flag in zip(tangents, flags, strict=True) if t is not None]

    def _tangents(
        self, outs: Any, operands: Any, tangents: Any, keywords: dict[str, Any]
    ) -> tuple[Any, ...]:
        assert self.jvps is not None
        out = tuple(outs) if self.outputs > 1 else outs[0]
        totals: list[Any] = [None] * self.outputs
        for t, rule in zip(tangents, self.jvps, strict=True):
            if t is None or rule is None:
                continue
            term = rule(t, out, *operands, **keywords)
            terms = (term,) if self.outputs == 1 else term
            if terms is None:
                continue
            for i, (x, value) in enumerate(zip(terms, outs, strict=True)):
                if x is None or not element_types.is_inexact(value.dtype):
                    continue
                self._check_result("jvp", x, type_of(value))
                totals[i] = x if totals[i] is None else totals[i] + x
        return tuple(totals)

    def _check_result(self, field: str, value: Any, wanted: ArrayType) -> None:
        if type_of(value).strong() is not wanted.strong():
            raise TypeError(
                self._said(
                    f"its {field} rule must return {wanted.strong()}",
                    f"{type_of(value).strong()}",
                    "correct the rule's shape or dtype",
                )
            )

    def transpose(self, cts: Any, operands: Any, params: Any, mode: Any) -> tuple[Any, ...]:
        """Return the cotangents of the operands in which the operation is linear."""
        levels, keywords = _split(params)
        types = self.types(*[type_of(x) for x in operands], **params)
        cts = filled(cts, (True,) * len(types), types)
        if not levels:
            return self._cotangents(cts, operands, keywords)
        level = levels[0]
        examples = [_example(x, flag) for x, flag in zip(operands, level.flags, strict=True)]
        known = [i for i, x in enumerate(operands) if not is_linear(x)]
        found: list[bool] = []

        def rule(*inputs: Any) -> list[Any]:
            given: list[Any] = [LinearOperand(aval) for aval in examples]
            for i, value in zip(known, inputs, strict=False):
                given[i] = value
            inner = {**keywords, _MAPPED: levels[1:]}
            pulled = self.transpose(inputs[len(known) :], given, inner, mode)
            found[:] = [ct is not None for ct in pulled]
            return [ct for ct in pulled if ct is not None]

        types_in = [*[examples[i] for i in known], *[_example(ct, True) for ct in cts]]
        graph = build_graph(self.name, types_in, rule)
        flags = (*[level.flags[i] for i in known], *(True,) * len(cts))
        mapped, _ = level.mode.batch(graph, level.size, flags, (True,) * len(graph.outputs))
        pulled = iter(replay(mapped, (), [*[operands[i] for i in known], *cts]))
        results: list[Any] = []
        for has_ct, is_mapped in zip(found, level.flags, strict=True):
            ct = next(pulled) if has_ct else None
            if ct is not None and not is_mapped:
                ct = bind_primitive(primitives["sum"], (ct,), {"axes": (0,)})
            results.append(ct)
        return tuple(results)

    def _cotangents(self, cts: Any, operands: Any, keywords: dict[str, Any]) -> tuple[Any, ...]:
        assert self.transposes is not None
        ct = tuple(cts) if self.outputs > 1 else cts[0]
        results: list[Any] = []
        for operand, rule in zip(operands, self.transposes, strict=True):
            result = None
            if is_linear(operand) and rule is not None:
                result = rule(ct, *operands, **keywords)
            if result is not None:
                self._check_result("transpose", result, operand.aval)
            results.append(result)
        return tuple(results)

    def batch(
        self, size: int, operands: Any, batched: Any, params: Any, mode: Any
    ) -> tuple[Sequence[Any], Sequence[bool]]:
        """Return the outputs over a mapped axis, and which have it."""
        levels, keywords = _split(params)
        every = (True,) * self.outputs
        if callable(self.batching):
            given = self.batching(size, tuple(batched), *operands, **keywords)
            types = [_example(x, flag) for x, flag in zip(operands, batched, strict=True)]
            return self._checked_batch(given, size, self.types(*types, **keywords))
        if self.batching == "vectorized":
            aligned = [batch_to(x, flag, size) for x, flag in zip(operands, batched, strict=True)]
            outs = bind_primitive(self.primitive, aligned, keywords)
            return (outs if self.outputs > 1 else (outs,)), every
        level = _Level(size, tuple(batched), mode)
        outs = bind_primitive(self.primitive, operands, {**keywords, _MAPPED: (level, *levels)})
        return (outs if self.outputs > 1 else (outs,)), every

    def _checked_batch(
        self, given: Any, size: int, types: Sequence[ArrayType]
    ) -> tuple[list[Any], list[bool]]:
        """Return the outputs and flags that a batching rule returned, or raise a TypeError."""
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TypeError(
                self._said(
                    "its batch rule must return a pair (out, out_batched)",
                    f"{type(given).__name__}",
                    "return both",
                )
            )
        outs = [given[0]] if self.outputs == 1 else list(given[0])
        several = isinstance(given[1], tuple | list)
        flags = [bool(x) for x in (given[1] if several else [given[1]] * self.outputs)]
        for out, flag, aval in zip(outs, flags, types, strict=True):
            self._check_result("batch", out, stacked_type(aval, size) if flag else aval)
        return outs, flags


def _is_type(value: Any) -> bool:
    return _is_pair(value) or (hasattr(value, "shape") and hasattr(value, "dtype"))


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], tuple)
        and all(isinstance(size, int | np.integer) for size in value[0])
    )


def _as_type(value: Any) -> ArrayType:
    shape, dtype = value if _is_pair(value) else (value.shape, value.dtype)
    return array_type(tuple(map(int, shape)), np.dtype(dtype))
