"""The families of operations: what a declaration may leave out because its family derives it.

`elementwise` derives type rule, promotion, broadcasting, batching and the NumPy dispatch;
`reduction`, `shape_op` and `library_op` derive what their operations share. A declaration that
lacks something its family cannot derive fails at import, with the sentence that mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.errors import message
from autodiff.base.settings import settings
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, array_type, type_of
from autodiff.ir.builder import Trace, Tracer, bind_primitive, record, trace_of
from autodiff.ir.graph import NO_PARAMS, Literal, Params, is_repeated_scalar
from autodiff.ir.primitive import (
    CACHE_LIMIT,
    Indexed,
    LinearOperand,
    Primitive,
    Samples,
    array_functions,
    primitives,
    register,
)
from autodiff.primitives.lowering import ByReference

INEXACT, REAL = "fc", "biuf"
FLOAT, NUMERIC, ANY = "f", "iufc", "biufc"


# ---------------------------------------------------------------------------------- shared pieces


def full_like_type(aval: ArrayType, value: float) -> Any:
    """Return a scalar of `aval`'s element type, for use as an operand that broadcasts."""
    return aval.dtype.type(value)


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Return `x` broadcast to `shape` by NumPy's rule (trailing axes aligned)."""
    if x.shape == shape:
        return x
    lead = len(shape) - x.ndim
    axes = tuple(range(lead, len(shape)))
    return bind_primitive(primitives["broadcast"], (x,), {"shape": shape, "axes": axes})


def convert(x: Any, dtype: Any) -> Any:
    """Return `x` with element type `dtype` (itself if it has it already)."""
    if x.dtype == dtype and not (type(x) is Tracer and x.variable.aval.weak):
        return x
    return bind_primitive(primitives["cast"], (x,), {"dtype": np.dtype(dtype)})


def sum_to_shape(ct: Any, shape: tuple[int, ...]) -> Any:
    """Return the sum of `ct` over the axes along which `shape` was broadcast to `ct.shape`."""
    if ct.shape == shape:
        return ct
    lead = ct.ndim - len(shape)
    axes = tuple(
        i for i in range(ct.ndim) if i < lead or (shape[i - lead] == 1 and ct.shape[i] != 1)
    )
    total = bind_primitive(primitives["sum"], (ct,), {"axes": axes})
    if total.shape != shape:
        total = bind_primitive(primitives["reshape"], (total,), {"shape": shape})
    return total


def move_axis(x: Any, source: int, destination: int) -> Any:
    """Return `x` with one axis moved."""
    if source == destination:
        return x
    order = [i for i in range(x.ndim) if i != source]
    order.insert(destination, source)
    return bind_primitive(primitives["transpose"], (x,), {"permutation": tuple(order)})


def batch_to(x: Any, batched: bool, size: int) -> Any:
    """Return `x` with a leading mapped axis of `size`, broadcast if it has none."""
    if batched:
        return x
    shape = (size, *x.shape)
    return bind_primitive(
        primitives["broadcast"], (x,), {"shape": shape, "axes": tuple(range(1, len(shape)))}
    )


def neutral(*, left: float | None = None, right: float | None = None) -> Any:
    """Return the simplify rule of an operation that a literal operand leaves without effect.

    `left` and `right` are that literal as first and second operand, or what all elements of it
    are; its sign of zero counts.
    """

    def is_neutral(atom: Any, value: float | None) -> bool:
        if value is None or type(atom) is not Literal:
            return False
        if not (atom.is_scalar or is_repeated_scalar(atom.value)):
            return False
        element = np.asarray(atom.value)[(0,) * atom.value.ndim]
        if not dtypes.is_inexact(element.dtype):
            return bool(element == value)
        number = complex(element)
        return number == value and np.signbit(number.real) == np.signbit(value)

    def rule(eqn: Any, made_by: Any) -> Any:
        x, y = eqn.inputs
        if dtypes.is_complex(eqn.outputs[0].aval.dtype):
            return None  # complex arithmetic with a real literal may turn the sign of a zero
        if is_neutral(y, right):
            return x
        return y if is_neutral(x, left) else None

    return rule


def undone(eqn: Any, made_by: Any) -> Any:
    """The simplify rule of an operation that is its own inverse."""
    (x,) = eqn.inputs
    before = made_by(x)
    return before.inputs[0] if before is not None and before.primitive is eqn.primitive else None


def is_linear(operand: Any) -> bool:
    """Return whether a transpose rule's operand is the one whose cotangent is wanted."""
    return type(operand) is LinearOperand


def _demand(condition: bool, name: str, sentence: str) -> None:
    if not condition:
        raise TypeError(f"declare: {name} {sentence}")


# ------------------------------------------------------------------------------------ elementwise


_NO_SAMPLES = Samples()


class Plan:
    """What to do to operands of given types before an elementwise operation is recorded.

    A step is None (take the operand as it is), a type (that of the scalar which a Python number
    becomes) or a function of the operand; `steps` is None where all are. `only`: the position of a
    step that is alone. `default_float`: the setting that the types rest on, None if they do not.
    """

    __slots__ = ("default_float", "is_test", "only", "steps", "types")

    def __init__(
        self, steps: tuple[Any, ...], types: tuple[ArrayType, ...], default_float: str | None
    ) -> None:
        taken = [i for i, step in enumerate(steps) if step is not None]
        self.steps = steps if taken else None
        self.only = taken[0] if len(taken) == 1 else None
        self.types = types
        self.is_test = dtypes.is_bool(types[0].dtype)
        self.default_float = default_float


def _ufunc_promotion(ufunc: np.ufunc) -> Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]]:
    def promote(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        resolved = ufunc.resolve_dtypes((*operands, *[None] * ufunc.nout))
        return tuple(resolved[: ufunc.nin]), tuple(resolved[ufunc.nin :])

    return promote


def same_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Promotion of operations on one common type, any kind, result of that type."""
    common = np.result_type(*[o if isinstance(o, np.dtype) else o(0) for o in operands])
    return (common,) * len(operands), (common,)


def inexact_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Promotion of functions that leave the integers: as NumPy's own (`np.exp`)."""
    common = same_type(operands)[0][0]
    if not dtypes.is_inexact(common):
        common = np.exp.resolve_dtypes((common, None))[1]
    return (common,) * len(operands), (common,)


def selection_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Promotion of a selection: first operand bool, the others of one common type."""
    (common, *_), _ = same_type(operands[1:])
    return (np.dtype(bool), *[common] * (len(operands) - 1)), (common,)


def _make_plan(primitive: Primitive, promote: Any, avals: Sequence[Any], is_operator: bool) -> Plan:
    """Return the steps that bring operands of types `avals` to the operation's own types.

    An entry of `avals` is an `ArrayType`, or a Python scalar's class. Python scalars combined by an
    operator give a Python scalar, so its result is weak again; a function's result never is.
    """
    kinds: list[Any] = []
    shapes = []
    for aval in avals:
        if isinstance(aval, ArrayType):
            weak = dtypes.python_type(aval.dtype) if aval.weak else aval.dtype
            kinds.append(weak)
            shapes.append(aval.shape)
        else:
            kinds.append(np.dtype(bool) if aval is bool else aval)
            shapes.append(())
    strong = [k for k in kinds if isinstance(k, np.dtype)]
    default = dtypes.default_float()
    if not strong:
        kinds = [dtypes.default_dtype(k) for k in kinds]
        if default != np.float64 and any(dtypes.is_inexact(k) for k in kinds):
            kinds = [k if dtypes.is_inexact(k) else default for k in kinds]
    elif default != np.float64 and float in kinds and not any(map(dtypes.is_inexact, strong)):
        kinds = [default if isinstance(k, np.dtype) and not dtypes.is_bool(k) else k for k in kinds]
    try:
        wanted, results = promote(tuple(kinds))
    except TypeError as error:
        names = ", ".join(k.name if isinstance(k, np.dtype) else k.__name__ for k in kinds)
        raise TypeError(
            message(
                primitive.public or primitive.name,
                "the operands must be of types it is defined for",
                f"types=({names})",
                line=user_line(),
                fix="convert them with .astype first.",
            )
        ) from error
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            message(
                primitive.public or primitive.name,
                "the operands' shapes must broadcast together",
                "shapes=" + ", ".join(map(str, shapes)),
                line=user_line(),
                fix="give them equal trailing axes, or axes of size 1 (x[:, None], reshape).",
            )
        ) from None
    steps = tuple(
        _step(aval, kind, dtype, shape)
        for aval, kind, dtype in zip(avals, kinds, wanted, strict=True)
    )
    weak = is_operator and not strong and not dtypes.is_bool(results[0])
    types = tuple(array_type(shape, dtype, weak) for dtype in results)
    is_decided = any(map(dtypes.is_inexact, strong)) or (strong and float not in kinds)
    return Plan(steps, types, None if is_decided else settings().default_float)


def _step(aval: Any, kind: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    if not isinstance(aval, ArrayType):
        return array_type((), dtype)
    needs_cast = aval.dtype != dtype or aval.weak
    needs_shape = aval.shape not in ((), shape)
    if not needs_cast and not needs_shape:
        return None

    def prepare(x: Any) -> Any:
        if type(x) is not Tracer:
            x = x.astype(dtype) if needs_cast else x
            return np.broadcast_to(x, shape) if needs_shape else x
        if needs_cast:
            x = bind_primitive(primitives["cast"], (x,), {"dtype": dtype})
        return broadcast_to(x, shape) if needs_shape else x

    return prepare


def _comparable(operands: Any, steps: Any) -> Any:
    """Return the operands of a comparison, a Python integer beyond the other's type as infinite.

    So that it compares as NumPy compares it, by value: no element equals or passes it.
    """
    for i, (x, step) in enumerate(zip(operands, steps, strict=True)):
        if type(x) is int:
            try:
                step.dtype.type(x)
            except OverflowError:
                infinite = np.float64(np.inf if x > 0 else -np.inf)
                return tuple(
                    [
                        infinite if k == i else convert(other, np.float64)
                        for k, other in enumerate(operands)
                    ]
                )
    return operands


def _record_elementwise(
    promote: Any,
    primitive: Primitive,
    operands: Sequence[Any],
    params: Params,
    is_operator: bool = False,
) -> Any:
    """Record an elementwise operation after bringing operands to one type and shape.

    Every operation of a traced function comes through here, so it is written for speed: operands
    that are tracers of one trace, or Python numbers, become atoms on the way.
    """
    trace: Trace | None = None
    is_mixed = False  # whether an operand is something else
    key: list[Any] = [is_operator]
    atoms: list[Any] = []
    for x in operands:
        kind = type(x)
        if kind is Tracer:
            variable = x.variable
            key.append(variable.aval)
            atoms.append(variable)
            if x.recording is not trace:
                if trace is None:
                    trace = x.recording
                else:
                    is_mixed = True
        elif kind in PYTHON_SCALARS:
            key.append(kind)
            atoms.append(x)
        elif kind is list or kind is tuple:
            operands = [array_functions["asarray"](x) if type(x) is kind else x for x in operands]
            return _record_elementwise(promote, primitive, operands, params, is_operator)
        else:
            key.append(type_of(x))
            is_mixed = True
    if trace is None:
        return primitive.reference(*operands, **params)
    plan_key = tuple(key)
    plan = primitive.plans.get(plan_key)
    if plan is None or (
        plan.default_float is not None and plan.default_float != settings().default_float
    ):
        plan = _make_plan(primitive, promote, plan_key[1:], is_operator)
        if len(primitive.plans) > CACHE_LIMIT:
            primitive.plans.clear()
        primitive.plans[plan_key] = plan
    steps = plan.steps
    if steps is not None and plan.is_test:
        widened = _comparable(operands, steps)
        if widened is not operands:
            return _record_elementwise(promote, primitive, widened, params, is_operator)
    if is_mixed:
        trace = trace_of(operands)
        assert trace is not None
        steps = steps or (None,) * len(operands)
        atoms = [_atom(trace, x, step) for x, step in zip(operands, steps, strict=True)]
    elif plan.only is not None:
        assert steps is not None
        atoms[plan.only] = _atom(trace, operands[plan.only], steps[plan.only])
    elif steps is not None:
        atoms = [_atom(trace, x, step) for x, step in zip(operands, steps, strict=True)]
    return record(trace, primitive, tuple(atoms), params, plan.types)


def _atom(trace: Trace, x: Any, step: Any) -> Any:
    """Return what an operand becomes in `trace` by a step of a plan."""
    if type(step) is ArrayType:
        return trace.scalar(step.dtype.type(x), step)
    if step is not None:
        x = step(x)
    return x.variable if type(x) is Tracer and x.recording is trace else trace.capture(x)


def _elementwise_type(name: str, promote: Any, *avals: ArrayType, **params: Any) -> Any:
    shape: tuple[int, ...] = ()
    for aval in avals:
        if aval.shape != ():
            if shape not in ((), aval.shape):
                raise TypeError(
                    f"{name}: operands must have one shape or be scalars, got "
                    f"types=({', '.join(map(str, avals))})."
                )
            shape = aval.shape
    wanted, results = promote(tuple(aval.dtype for aval in avals))
    if tuple(wanted) != tuple(aval.dtype for aval in avals):
        raise TypeError(
            f"{name}: operands must be of the operation's own types {tuple(map(str, wanted))}, got "
            f"types=({', '.join(map(str, avals))})."
        )
    return tuple(array_type(shape, dtype) for dtype in results)


def _elementwise_differentiate(
    jvps: tuple[Any, ...], outs: Any, operands: Any, tangents: Any, params: Any, mode: Any
) -> tuple[Any, ...]:
    out = outs[0]
    total = None
    for t, rule in zip(tangents, jvps, strict=True):
        if t is None or rule is None:
            continue
        term = rule(t, out, *operands, **params)
        if term is None:
            continue
        if term.shape != out.shape:
            term = broadcast_to(term, out.shape)
        if term.dtype != out.dtype:  # as a float beside bfloat16 gives float32
            term = convert(term, out.dtype)
        total = term if total is None else bind_primitive(primitives["add"], (total, term), {})
    return (total,)


def _elementwise_transpose(
    rules: tuple[Any, ...], cts: Any, operands: Any, params: Any, mode: Any
) -> tuple[Any, ...]:
    (ct,) = cts
    results = []
    for operand, rule in zip(operands, rules, strict=True):
        if not is_linear(operand) or rule is None:
            results.append(None)
            continue
        result = rule(ct, *operands, **params)
        results.append(None if result is None else sum_to_shape(result, operand.aval.shape))
    return tuple(results)


def _elementwise_batch(
    name: str, size: int, operands: Any, batched: Any, params: Any, mode: Any
) -> tuple[Any, Any]:
    primitive = primitives[name]
    example: tuple[int, ...] = ()
    for x, mapped in zip(operands, batched, strict=True):
        shape = x.shape[1:] if mapped else x.shape
        if shape != ():
            example = shape
    full = (size, *example)
    aligned = []
    for x, mapped in zip(operands, batched, strict=True):
        if x.shape == full and mapped:
            aligned.append(x)
        elif mapped:  # a per-example scalar beside per-example arrays
            aligned.append(
                bind_primitive(primitives["broadcast"], (x,), {"shape": full, "axes": (0,)})
            )
        elif x.shape == ():
            aligned.append(x)
        else:
            aligned.append(batch_to(x, False, size))
    result = bind_primitive(primitive, aligned, params)
    outs = result if primitive.multiple_outputs else (result,)
    return outs, (True,) * len(outs)


def elementwise(
    name: str,
    reference: Callable[..., Any],
    *,
    doc: str,
    jvp: Any = None,
    transpose: Any = None,
    promote: Any = None,
    dtypes: str = ANY,
    not_differentiable: str | None = None,
    commutative: bool = False,
    odd: bool = False,
    even: bool = False,
    operator: str | None = None,
    public: str | bool = True,
    numpy: tuple[Any, ...] | None = None,
    outputs: int = 1,
    simplify: Any = None,
    recurrence: Any = None,
    lower: Any = None,
    lower_for: Callable[[np.dtype], bool] | None = None,
    samples: Samples = _NO_SAMPLES,
    ulp: dict[str, float] | None = None,
) -> Primitive:
    """Declare an operation that acts on each element by itself.

    `jvp`: one rule `(t, out, *operands, **params) -> tangent` per operand (a bare function for one
    operand; None: zero derivative). `transpose`: likewise `(ct, *operands) -> ct`, for operations
    linear in that operand. `odd`, `even` and the fields after `outputs`: see ir/primitive.py;
    an operation whose reference is an expression needs no `lower` (lowering.py). `promote`: operand
    types to (own operand types, result types); a NumPy ufunc as reference brings its own.
    `operator`: the Python operator (`"add"` for `__add__`).
    """
    is_ufunc = isinstance(reference, np.ufunc)
    if promote is None:
        _demand(
            is_ufunc, name, "needs promote=, since its reference is not a ufunc that has a rule."
        )
        promote = _ufunc_promotion(reference)  # type: ignore[arg-type]
    _demand(
        jvp is not None or not_differentiable is not None or not set(dtypes) & set(INEXACT),
        name,
        "needs jvp=, or not_differentiable= with the reason.",
    )
    jvps = jvp if isinstance(jvp, tuple) else (jvp,)
    transposes = transpose if isinstance(transpose, tuple) or transpose is None else (transpose,)
    primitive = register(
        Primitive(
            name=name,
            kind="elementwise",
            doc=doc,
            type_rule=partial(_elementwise_type, name, promote),
            reference=reference,
            differentiate=None if jvp is None else partial(_elementwise_differentiate, jvps),
            transpose=None if transposes is None else partial(_elementwise_transpose, transposes),
            batch=partial(_elementwise_batch, name),
            not_differentiable=not_differentiable,
            multiple_outputs=outputs > 1,
            commutative=commutative,
            odd=odd,
            even=even,
            operator=operator,
            call=partial(_record_elementwise, promote),
            public=(name if public is True else public) or None,
            numpy=numpy if numpy is not None else ((reference,) if is_ufunc else ()),
            dtypes=dtypes,
            samples=samples,
            ulp=ulp or {},
            simplify=simplify,
            recurrence=recurrence,
            lower=lower,
            lower_for=lower_for,
        )
    )
    if lower is None and not is_ufunc:
        primitive.lower = ByReference(primitive)
    for function in primitive.numpy:
        array_functions[function] = primitive
    if operator is not None:
        _install_operator(primitive, promote, operator)
    return primitive


def _install_operator(primitive: Primitive, promote: Any, operator: str) -> None:
    """Give tracers the Python operator, its reflection and its in-place form."""

    def unary(self: Tracer) -> Any:
        return _record_elementwise(promote, primitive, (self,), NO_PARAMS, True)

    def forward(self: Tracer, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        return _record_elementwise(promote, primitive, (self, other), NO_PARAMS, True)

    def reflected(self: Tracer, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        return _record_elementwise(promote, primitive, (other, self), NO_PARAMS, True)

    if primitive.reference.nin == 1:  # type: ignore[attr-defined]
        setattr(Tracer, f"__{operator}__", unary)
        return
    setattr(Tracer, f"__{operator}__", forward)
    if operator not in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tracer, f"__r{operator}__", reflected)
        setattr(Tracer, f"__i{operator}__", in_place(forward, primitive.name))


def in_place(operator: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """Return the in-place form of a binary operator on tracers."""

    def apply(self: Tracer, other: Any) -> Any:
        result = operator(self, other)
        if result is NotImplemented or self.variable.aval.ndim == 0:
            return result  # Python and NumPy scalars are immutable: the name is bound anew
        if result.shape != self.shape or not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(
                message(
                    f"in-place {name}",
                    f"the result must fit into the array's type {self.aval}",
                    f"result={result.aval}",
                    line=user_line(),
                    fix="write x = x op y instead.",
                )
            )
        return self.replace_by(convert(result, self.dtype))

    return apply


def _is_operand(value: Any) -> bool:
    kind = type(value)
    return kind is Tracer or kind in PYTHON_SCALARS or hasattr(value, "dtype")


# ----------------------------------------------------------------------- reductions and shape ops


def _reduction_type(dtype_of: Any, *avals: ArrayType, axes: tuple[int, ...], **params: Any) -> Any:
    (x,) = avals
    shape = tuple(size for i, size in enumerate(x.shape) if i not in axes)
    return array_type(shape, dtype_of(x.dtype))


def _reduction_batch(
    name: str, size: int, operands: Any, batched: Any, params: Any, mode: Any
) -> tuple[Any, Any]:
    shifted = {**params, "axes": tuple(axis + 1 for axis in params["axes"])}
    return (bind_primitive(primitives[name], operands, shifted),), (True,)


def reduction(
    name: str,
    reference: Callable[..., Any],
    *,
    doc: str,
    jvp: Any = None,
    transpose: Any = None,
    not_differentiable: str | None = None,
    dtypes: str = ANY,
    result_dtype: Callable[[np.dtype], Any] = lambda dtype: dtype,
    combine: Callable[..., Any] | None = None,
    identity: Callable[..., Any] | None = None,
    samples: Samples | None = None,
    ulp: dict[str, float] | None = None,
) -> Primitive:
    """Declare a reduction of one operand over `axes` (a sorted tuple; the axes disappear).

    `reference(x, axes)`; `jvp(t, out, x, axes)`; `transpose(ct, aval, axes)` if linear; `combine`
    and `identity` as in ir/primitive.py.
    """
    _demand(
        jvp is not None or not_differentiable is not None or not set(dtypes) & set(INEXACT),
        name,
        "needs jvp=, or not_differentiable= with the reason.",
    )

    def differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        assert jvp is not None
        return (jvp(tangents[0], outs[0], operands[0], **params),)

    def transpose_rule(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
        assert transpose is not None
        return (transpose(cts[0], operands[0].aval, **params),)

    return register(
        Primitive(
            name=name,
            kind="reduction",
            doc=doc,
            type_rule=partial(_reduction_type, result_dtype),
            reference=reference,
            differentiate=None if jvp is None else differentiate,
            transpose=None if transpose is None else transpose_rule,
            batch=partial(_reduction_batch, name),
            not_differentiable=not_differentiable,
            combine=combine,
            identity=identity,
            dtypes=dtypes,
            samples=samples
            or Samples(
                shapes=(((5,),), ((3, 4),), ((3, 4),), ((2, 3, 4),)),
                params=({"axes": (0,)}, {"axes": (1,)}, {"axes": (0, 1)}, {"axes": (0, 2)}),
            ),
            ulp=ulp or {},
        )
    )


def expand_reduced(x: Any, aval_shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """Return a reduction's result broadcast back over the axes it removed."""
    kept = tuple(i for i in range(len(aval_shape)) if i not in axes)
    return bind_primitive(primitives["broadcast"], (x,), {"shape": aval_shape, "axes": kept})


def shape_op(
    name: str,
    reference: Callable[..., Any],
    *,
    doc: str,
    type_rule: Callable[..., Any],
    transpose: Callable[..., Any],
    batch: Callable[..., Any],
    view: bool = False,
    strides: Callable[..., Any] | None = None,
    simplify: Any = None,
    samples: Samples,
) -> Primitive:
    """Declare an operation that rearranges the elements of one operand: linear, of any type.

    `transpose(ct, aval, **params) -> ct`; `batch(size, **params) -> params` of the same operation
    on an operand with a leading mapped axis, given the operand's per-example shape as `shape_in`.
    """

    def differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        return (bind_primitive(primitives[name], (tangents[0],), params),)

    def transpose_rule(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
        return (transpose(cts[0], operands[0].aval, **params),)

    def batch_rule(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        (x,) = operands
        mapped = batch(size, x.shape[1:], **params)
        return (bind_primitive(primitives[name], (x,), mapped),), (True,)

    return register(
        Primitive(
            name=name,
            kind="shape",
            doc=doc,
            type_rule=type_rule,
            reference=reference,
            differentiate=differentiate,
            transpose=transpose_rule,
            batch=batch_rule,
            view=view,
            strides=strides,
            simplify=simplify,
            samples=samples,
        )
    )


def library_op(
    name: str,
    reference: Callable[..., Any],
    *,
    prepared: Callable[..., Callable[..., Any]] | None = None,
    doc: str,
    kind: str = "library",
    type_rule: Callable[..., Any],
    differentiate: Callable[..., Any] | None = None,
    transpose: Callable[..., Any] | None = None,
    batch: Callable[..., Any],
    not_differentiable: str | None = None,
    multiple_outputs: bool = False,
    identity: Callable[..., Any] | None = None,
    advance: Callable[..., Any] | None = None,
    associative: bool = False,
    factor: int | None = None,
    indexed: Callable[..., Indexed] | None = None,
    dtypes: str = ANY,
    samples: Samples,
    ulp: dict[str, float] | None = None,
) -> Primitive:
    """Declare an operation whose rules are all its own (signatures in ir/primitive.py)."""
    _demand(
        differentiate is not None or not_differentiable is not None,
        name,
        "needs differentiate=, or not_differentiable= with the reason.",
    )
    return register(
        Primitive(
            name=name,
            kind=kind,
            doc=doc,
            type_rule=type_rule,
            reference=reference,
            prepared=prepared,
            differentiate=differentiate,
            transpose=transpose,
            batch=batch,
            not_differentiable=not_differentiable,
            multiple_outputs=multiple_outputs,
            identity=identity,
            advance=advance,
            associative=associative,
            factor=factor,
            indexed=indexed,
            dtypes=dtypes,
            samples=samples,
            ulp=ulp or {},
        )
    )
