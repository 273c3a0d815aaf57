"""Derivatives compared with differences, in forward and reverse mode, to any order.

A function of pytrees is first made one of flat lists of floating leaves (`_Flat`), with a name for
every leaf. `_differences` is the independent number, `_check_forward` and `_check_reverse` compare
one mode with it, and the next order is checked by giving the derivative itself, a function of more
leaves, to the same three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.api.trace import function_name, leaf_paths
from autodiff.api.transforms import jvp, vjp
from autodiff.base import pytree
from autodiff.base.dtypes import is_complex, is_inexact, real_dtype
from autodiff.base.errors import message
from autodiff.ir.avals import type_of

MODES = ("fwd", "rev")

#: Step of the differences and tolerance, by the type of the real part. An extrapolated central
#: difference with step h is off by about h**4 and, since values are rounded, by epsilon / h.
_STEP = {"float64": 1e-3, "float32": 2e-2, "float16": 1e-1, "bfloat16": 2e-1}
_TOLERANCE = {"float64": 1e-7, "float32": 2e-3, "float16": 1e-1, "bfloat16": 5e-1}


@dataclass(frozen=True, slots=True)
class _Flat:
    """A function from floating leaves to floating leaves, and what they are called."""

    call: Callable[..., list[Any]]
    leaves: list[Any]
    input_names: list[str]
    output_names: list[str]
    label: str


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What stays the same while a function is checked: whose derivatives, and how closely."""

    name: str
    modes: tuple[str, ...]
    atol: float | None
    rtol: float | None
    eps: float | None
    random: np.random.Generator


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: Sequence[str] = MODES,
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Compare the derivatives of `f` at `args` with differences, and return if they agree.

    Forward mode is compared in a random direction, reverse mode by `Re(sum(ct * J t))` for a random
    cotangent and a random direction in each leaf of the arguments. Order 2 and higher compare the
    derivatives of `jvp(f)` and `vjp(f)` in the same way, in every combination of `modes`. The
    directions are the same in every call.

    Args:
        f: function of arrays and pytrees of arrays, real or complex; leaves that are not floating
            are passed as they are, outputs that are not floating are left out.
        args: tuple or list of its arguments. The function must be smooth near them.
        order: up to which order of derivatives, at least 1.
        modes: "fwd", "rev" or both.
        atol: absolute tolerance; default by element type, 1e-7 for float64 and 2e-3 for float32.
        rtol: tolerance relative to the number that differences give; same default.
        eps: step of the differences along a direction of order 1; default by element type, 1e-3 for
            float64 and 2e-2 for float32.

    Raises:
        AssertionError: a derivative differs; the text names mode, order, leaf and both numbers.
        ValueError: `order` is below 1, or a mode has another name.

    >>> check_grads(np.tanh, (np.array([0.5, -2.0]),), order=3, modes=("fwd",))
    >>> check_grads(np.abs, (np.array([3e-4]),), order=1, modes=("fwd",))
    Traceback (most recent call last):
    ...
    AssertionError: check_grads: the forward derivative of absolute must agree with ...
    """
    modes = tuple(modes)
    if order < 1:
        raise ValueError(message("check_grads", "order must be at least 1", f"order={order!r}"))
    if not modes or not set(modes) <= set(MODES):
        raise ValueError(
            message("check_grads", "modes must be some of 'fwd' and 'rev'", f"modes={modes!r}")
        )
    comparison = _Comparison(function_name(f), modes, atol, rtol, eps, np.random.default_rng(20240))
    _check(_flattened(f, args), order, 1, comparison)


def _flattened(f: Callable[..., Any], args: Sequence[Any]) -> _Flat:
    """Return `f` as a function of the floating leaves of `args`."""
    everything, tree = pytree.flatten(tuple(args))
    chosen = [i for i, leaf in enumerate(everything) if is_inexact(type_of(leaf).dtype)]
    names = leaf_paths(f, args)

    def call(*leaves: Any) -> list[Any]:
        filled = list(everything)
        for i, leaf in zip(chosen, leaves, strict=True):
            filled[i] = leaf
        outputs = pytree.leaves(f(*pytree.unflatten(tree, filled)))
        return [x for x in outputs if is_inexact(type_of(x).dtype)]

    outputs = pytree.flatten_with_path(f(*args))[0]
    output_names = [
        pytree.path_string("output", path)
        for path, leaf in outputs
        if is_inexact(type_of(leaf).dtype)
    ]
    leaves = [np.array(everything[i], type_of(everything[i]).dtype) for i in chosen]
    return _Flat(call, leaves, [names[i] for i in chosen], output_names, "")


def _check(flat: _Flat, order: int, level: int, comparison: _Comparison) -> None:
    """Check first derivatives of `flat`, then those of its derivatives up to `order`."""
    tangents = [_direction(x, comparison.random) for x in flat.leaves]
    differences = _differences(flat, tangents, comparison)
    cts = [_direction(x, comparison.random) for x in differences]
    for mode in comparison.modes:
        if mode == "fwd":
            _check_forward(flat, tangents, differences, level, comparison)
        else:
            _check_reverse(flat, tangents, cts, level, comparison)
        if level < order:
            derivative = _pushed(flat, tangents) if mode == "fwd" else _pulled(flat, cts)
            _check(derivative, order, level + 1, comparison)


def _pushed(flat: _Flat, tangents: list[Any]) -> _Flat:
    count = len(flat.leaves)

    def call(*leaves: Any) -> list[Any]:
        return jvp(flat.call, leaves[:count], leaves[count:])[1]

    names = [f"tangent of {name}" for name in flat.input_names]
    outputs = [f"tangent of {name}" for name in flat.output_names]
    label = f"{flat.label}forward derivative of "
    return _Flat(call, [*flat.leaves, *tangents], [*flat.input_names, *names], outputs, label)


def _pulled(flat: _Flat, cts: list[Any]) -> _Flat:
    count = len(flat.leaves)

    def call(*leaves: Any) -> list[Any]:
        return list(vjp(flat.call, *leaves[:count])[1](list(leaves[count:])))

    names = [f"cotangent of {name}" for name in flat.output_names]
    outputs = [f"cotangent of {name}" for name in flat.input_names]
    label = f"{flat.label}reverse derivative of "
    return _Flat(call, [*flat.leaves, *cts], [*flat.input_names, *names], outputs, label)


def _direction(like: Any, random: np.random.Generator) -> Any:
    """Return random numbers of an array's type: normal, complex ones with both parts normal."""
    shape, dtype = np.shape(like), like.dtype
    numbers = random.normal(size=shape)
    if is_complex(dtype):
        numbers = numbers + 1j * random.normal(size=shape)
    return np.asarray(numbers).astype(dtype)


def _differences(flat: _Flat, tangents: Sequence[Any], comparison: _Comparison) -> list[Any]:
    """Return the derivative along `tangents` by central differences with steps h and h/2.

    (4 D(h/2) - D(h)) / 3 has no term in h**2 any more (Richardson 1911).
    """
    step = comparison.eps or max(_STEP[real_dtype(x.dtype).name] for x in flat.leaves)

    def central(h: float) -> list[Any]:
        sides = []
        for sign in (1.0, -1.0):
            moved = [
                (x + sign * h * t).astype(x.dtype)
                for x, t in zip(flat.leaves, tangents, strict=True)
            ]
            sides.append(flat.call(*moved))
        wide = np.complex128 if any(is_complex(y.dtype) for y in sides[0]) else np.float64
        return [
            (np.asarray(a, wide) - np.asarray(b, wide)) / (2 * h)
            for a, b in zip(*sides, strict=True)
        ]

    dtypes = [y.dtype for y in flat.call(*flat.leaves)]
    estimates = [
        (4 * near - far) / 3 for near, far in zip(central(step / 2), central(step), strict=True)
    ]
    return [
        (x if is_complex(dtype) else x.real).astype(dtype)
        for x, dtype in zip(estimates, dtypes, strict=True)
    ]


def _check_forward(
    flat: _Flat, tangents: list[Any], differences: list[Any], level: int, comparison: _Comparison
) -> None:
    outs, pushed = jvp(flat.call, flat.leaves, tangents)
    for name, out, found, expected in zip(
        flat.output_names, outs, pushed, differences, strict=True
    ):
        assert type_of(found).strong() is type_of(out).strong(), (name, found, out)
        what = f"the {flat.label}forward derivative of {comparison.name}"
        _compare(what, level, name, found, expected, comparison)


def _check_reverse(
    flat: _Flat, tangents: list[Any], cts: list[Any], level: int, comparison: _Comparison
) -> None:
    """Compare `Re(sum(J^T ct * t))` with `Re(sum(ct * D t))`, one argument leaf at a time.

    With J t = f_z t + f_zbar conj(t) and J^T ct = ct f_z + conj(ct) conj(f_zbar), both are the
    real part of ct f_z t + ct f_zbar conj(t): conj(ct) conj(f_zbar) t is the conjugate of the last
    term.
    """
    pulled = vjp(flat.call, *flat.leaves)[1](cts)
    for i, (name, leaf, ct) in enumerate(zip(flat.input_names, flat.leaves, pulled, strict=True)):
        assert type_of(ct).strong() is type_of(leaf).strong(), (name, ct, leaf)
        alone = [t if i == k else np.zeros_like(t) for k, t in enumerate(tangents)]
        differences = _differences(flat, alone, comparison)
        found = _pairing([ct], [tangents[i]])
        expected = _pairing(cts, differences)
        what = f"the {flat.label}reverse derivative of {comparison.name}"
        scale = real_dtype(leaf.dtype).type
        _compare(what, level, name, scale(found), scale(expected), comparison)


def _pairing(cts: Sequence[Any], tangents: Sequence[Any]) -> float:
    """Return the real part of the sum of products, summed in double precision."""
    wide = np.complex128
    return float(
        sum(
            np.sum(np.asarray(ct, wide) * np.asarray(t, wide)).real
            for ct, t in zip(cts, tangents, strict=True)
        )
    )


def _compare(
    what: str, level: int, name: str, found: Any, expected: Any, comparison: _Comparison
) -> None:
    tolerance = _TOLERANCE[real_dtype(type_of(found).dtype).name]
    atol = tolerance if comparison.atol is None else comparison.atol
    rtol = tolerance if comparison.rtol is None else comparison.rtol
    wide = np.complex128 if is_complex(type_of(found).dtype) else np.float64
    got, wanted = np.asarray(found, wide), np.asarray(expected, wide)
    allowed = atol + rtol * np.abs(wanted)
    wrong = ~(np.abs(got - wanted) <= allowed)
    if not wrong.any():
        return
    worst = np.unravel_index(
        np.argmax(np.where(wrong, np.nan_to_num(np.abs(got - wanted) / allowed, nan=np.inf), -1)),
        got.shape,
    )
    place = name + (f"[{', '.join(str(int(i)) for i in worst)}]" if worst else "")
    raise AssertionError(
        message(
            "check_grads",
            f"{what} must agree with differences",
            f"{got[worst].item()!r} at {place} where differences give {wanted[worst].item()!r} "
            f"(order {level}, tolerance {allowed[worst].item():.2g})",
            fix="correct the rule, or give check_grads a point where the function is smooth, a "
            "step eps= or tolerances atol=, rtol= that suit it.",
        )
    )
