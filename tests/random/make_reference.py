"""Write `jax_reference.json`: the numbers JAX draws, to compare those of `autodiff.random` with.

    python -m venv /tmp/jax && /tmp/jax/bin/pip install "jax>=0.10,<0.11"
    /tmp/jax/bin/python tests/random/make_reference.py

A row is one call of a function of `jax.random`, with `"older"` and `"x64"` saying how JAX was set
(`jax_threefry_partitionable=False`, `jax_enable_x64=True`), the words of the key, the other
arguments, and the result as the hexadecimal digits of its bytes (little-endian, C order). Of a
large result the row has the SHA-256 digest of all bytes and the bytes of the first and last 8
elements. An argument that is an array is written as `{"dtype": ..., "values": ...}`.

The numbers come from the CPU of an x86-64 machine with fused multiply-add instructions; JAX's
compiler uses these where a product is added to something, so a machine without them would give
other last bits (`uniform` with bounds, `normal` and what follows from it).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

TABLE = Path(__file__).with_name("jax_reference.json")
LARGE = 2**17 + 1
ENDS = 8

SEEDS = (0, 1, 42, 2**32 - 1, 2**32, 123456789012345, 2**63 - 1, -1, -(2**63))
KEYS = ((0, 0), (0, 1), (0, 2**32 - 1), (2**31 - 1, 2**32 - 1), (2**32 - 1, 2**32 - 1))
SHAPES = ((), (0,), (1,), (7,), (3, 5), (2, 0, 3))
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def encoded_array(values: Any, dtype: str) -> dict[str, Any]:
    """Return the JSON form of an array argument."""
    return {"dtype": dtype, "values": values}


def decoded(argument: Any) -> Any:
    """Return an argument from its JSON form: lists are shapes, the rest stands for itself."""
    if isinstance(argument, list):
        return tuple(argument)
    if not isinstance(argument, dict):
        return argument
    return np.array(argument["values"]).astype(dtype_of(argument["dtype"]))


def dtype_of(name: str) -> np.dtype:
    """Return the element type called `name`, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def encoded_result(result: np.ndarray) -> dict[str, Any]:
    """Return the JSON form of a result."""
    content: dict[str, Any] = {"dtype": result.dtype.name, "shape": list(result.shape)}
    if result.size < 1000:
        return {**content, "bytes": result.tobytes().hex()}
    flat = result.ravel()
    return {
        **content,
        "sha256": hashlib.sha256(result.tobytes()).hexdigest(),
        "first": flat[:ENDS].tobytes().hex(),
        "last": flat[-ENDS:].tobytes().hex(),
    }


def key_calls() -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that make keys from keys."""
    calls: list[tuple[str, dict[str, Any]]] = [("split", {})]
    calls += [("split", {"num": n}) for n in (1, 2, 3, 5, [2, 3], 0)]
    calls += [("fold_in", {"data": n}) for n in (0, 1, 7, 2**31, 2**32 - 1)]
    return calls


def shape_calls() -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that try element types and shapes."""
    calls: list[tuple[str, dict[str, Any]]] = []
    for shape in SHAPES:
        calls += [("bits", {"shape": shape, "dtype": f"uint{n}"}) for n in (8, 16, 32, 64)]
        for dtype in FLOATS:
            for function in ("uniform", "normal", "exponential", "gumbel"):
                calls.append((function, {"shape": shape, "dtype": dtype}))
        calls.append(("gumbel", {"shape": shape, "dtype": "float32", "mode": "high"}))
        calls += [("normal", {"shape": shape, "dtype": f"complex{n}"}) for n in (64, 128)]
        calls.append(("randint", {"shape": shape, "minval": 0, "maxval": 10, "dtype": "int32"}))
        calls.append(("bernoulli", {"shape": shape}))
    return calls


def parameter_calls() -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that try the functions' other arguments."""
    calls: list[tuple[str, dict[str, Any]]] = []
    column = encoded_array([[-1.0], [0.25], [2.0]], "float32")
    row = encoded_array([3.0, 3.5, 4.0, 4.5, 5.0], "float32")
    for dtype in FLOATS:
        for lower, upper in ((-1.0, 1.0), (0.1, 3.7), (-0.05, 0.05), (-2.0, -2.0), (1.0, 0.0)):
            bounds = {"minval": lower, "maxval": upper}
            calls.append(("uniform", {"shape": [40], "dtype": dtype, **bounds}))
        for lower, upper in ((-2.0, 2.0), (0.5, 1e9), (-1e9, -1.0), (3.0, 3.5), (-0.1, 1.3)):
            bounds = {"lower": lower, "upper": upper}
            calls.append(("truncated_normal", {**bounds, "shape": [40], "dtype": dtype}))
    calls.append(
        (
            "uniform",
            {"shape": [3, 5], "dtype": "float32", "minval": column, "maxval": row},
        )
    )
    calls.append(("truncated_normal", {"lower": column, "upper": row, "dtype": "float32"}))
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        lowest, highest = int(info.min), int(info.max)
        ranges = ((0, 7), (3, 3), (5, 2), (lowest, highest), (lowest, highest // 3), (0, 100))
        for lower, upper in ranges:
            high: Any = encoded_array(upper, "uint64") if upper >= 2**63 else upper
            bounds = {"minval": lower, "maxval": high, "dtype": dtype}
            calls.append(("randint", {"shape": [12], **bounds}))
        if info.bits < 64:
            bounds = {"minval": lowest, "maxval": highest + 1, "dtype": dtype}
            calls.append(("randint", {"shape": [12], **bounds}))
    several = encoded_array([[-5], [0], [1000]], "int64"), encoded_array([5, 2000], "int64")
    bounds = {"minval": several[0], "maxval": several[1], "dtype": "int64"}
    calls.append(("randint", {"shape": [3, 2], **bounds}))
    probabilities = encoded_array([0.0, 0.001, 0.3, 0.5, 0.9, 1.0], "float32")
    for mode in ("low", "high"):
        calls.append(("bernoulli", {"p": 0.1, "shape": [30], "mode": mode}))
        calls.append(("bernoulli", {"p": probabilities, "shape": [4, 6], "mode": mode}))
        calls.append(("bernoulli", {"p": probabilities, "mode": mode}))
    return calls


def selection_calls() -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of the functions that select: categorical, permutation, choice."""
    calls: list[tuple[str, dict[str, Any]]] = []
    table = [[0.5, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 9.0], [-3.0, 1.0, 1.5, 0.1]]
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        logits = encoded_array(table, dtype)
        calls += [("categorical", {"logits": logits, "axis": axis}) for axis in (0, 1, -1)]
        calls.append(("categorical", {"logits": logits, "shape": [6, 3]}))
    logits = encoded_array(table, "float32")
    calls.append(("categorical", {"logits": logits, "axis": 0, "shape": [2, 5, 4]}))
    calls.append(("categorical", {"logits": logits, "shape": [2, 3], "replace": False}))
    calls.append(("categorical", {"logits": logits, "mode": "high"}))
    calls += [("permutation", {"x": n}) for n in (0, 1, 2, 10, 500)]
    for dtype in ("float32", "int16"):
        matrix = encoded_array(np.arange(20).reshape(4, 5).tolist(), dtype)
        for axis in (0, 1, -1):
            for independent in (False, True):
                arguments = {"x": matrix, "axis": axis, "independent": independent}
                calls.append(("permutation", arguments))
    weights = encoded_array([0.1, 0.2, 0.05, 0.4, 0.25], "float32")
    for population in (5, encoded_array([1.5, 2.5, -3.0, 0.0, 7.0], "float32")):
        for p in (None, weights, encoded_array([0.1, 0.2, 0.05, 0.4, 0.25], "float64")):
            calls.append(("choice", {"a": population, "p": p}))
            calls.append(("choice", {"a": population, "shape": [3, 4], "p": p}))
            for size in (0, 2, 5):
                calls.append(
                    (
                        "choice",
                        {"a": population, "shape": [size], "replace": False, "p": p},
                    )
                )
    matrix = encoded_array(np.arange(20).reshape(4, 5).tolist(), "int32")
    for replace in (True, False):
        arguments = {"a": matrix, "shape": [2, 2], "axis": 1, "replace": replace}
        calls.append(("choice", arguments))
    return calls


def default_calls() -> list[tuple[str, dict[str, Any]]]:
    """Return the calls without an element type, which depend on `jax_enable_x64`."""
    shape = {"shape": [9]}
    calls: list[tuple[str, dict[str, Any]]] = [
        (function, shape) for function in ("bits", "uniform", "normal", "exponential", "gumbel")
    ]
    calls.append(("truncated_normal", {"lower": -1.0, "upper": 2.0, **shape}))
    calls.append(("bernoulli", {"p": 0.3, **shape}))
    calls.append(("randint", {"minval": -7, "maxval": 1000, **shape}))
    calls.append(("categorical", {"logits": encoded_array([0.0, 1.0, 2.0], "float32"), **shape}))
    calls.append(("permutation", {"x": 11}))
    calls.append(("choice", {"a": 1000, **shape}))
    calls.append(("choice", {"a": 12, "replace": False, **shape}))
    return calls


def large_calls() -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that draw many numbers."""
    shape = {"shape": [LARGE]}
    calls: list[tuple[str, dict[str, Any]]] = [("permutation", {"x": 20_000})]
    calls += [("bits", {**shape, "dtype": f"uint{n}"}) for n in (8, 16, 32, 64)]
    for function in ("uniform", "normal", "exponential", "gumbel"):
        calls += [(function, {**shape, "dtype": dtype}) for dtype in FLOATS]
    bounds = {"lower": -2.0, "upper": 3.0}
    calls += [("truncated_normal", {**bounds, **shape, "dtype": dtype}) for dtype in FLOATS]
    calls.append(("uniform", {**shape, "dtype": "float32", "minval": -0.3, "maxval": 0.7}))
    calls.append(("randint", {**shape, "minval": -100, "maxval": 12345, "dtype": "int32"}))
    calls.append(("gumbel", {**shape, "dtype": "float32", "mode": "high"}))
    return calls


def main() -> None:
    """Draw every row with JAX and write the table."""
    import jax  # here, because the suite imports this file where JAX is not installed

    rows: list[dict[str, Any]] = []

    def draw(function: str, words: tuple[int, int], arguments: dict[str, Any]) -> np.ndarray:
        options = {name: decoded(value) for name, value in arguments.items()}
        if "dtype" in options:
            options["dtype"] = dtype_of(options["dtype"])
        return np.asarray(getattr(jax.random, function)(np.array(words, np.uint32), **options))

    def add(calls: list[tuple[str, dict[str, Any]]], words: tuple[int, int]) -> None:
        for function, arguments in calls:
            result = encoded_result(draw(function, words, arguments))
            rows.append({**state, "function": function, "key": words, **arguments, "out": result})

    for older in (False, True):
        jax.config.update("jax_threefry_partitionable", not older)
        jax.config.update("jax_enable_x64", True)
        state = {"older": older, "x64": True}
        for words in KEYS:
            add(key_calls(), words)
        add([*shape_calls(), *selection_calls()], (0, 42))
        add([*parameter_calls(), *selection_calls(), *default_calls()], (2**32 - 1, 12345))
        add(large_calls(), (7, 0))
        state = {"older": older, "x64": False}
        jax.config.update("jax_enable_x64", False)
        add(default_calls(), (0, 3))
    jax.config.update("jax_enable_x64", True)
    seeds = [
        {"seed": seed, "words": np.asarray(jax.random.PRNGKey(seed)).tolist()} for seed in SEEDS
    ]
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    head = {
        "made_by": "tests/random/make_reference.py",
        "jax": jax.__version__,
        "platform": f"cpu, {sys.platform}",
        "seeds": seeds,
    }
    text = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + ",\n".join(lines) + "\n]}\n"
    TABLE.write_text(text)
    print(f"{TABLE}: {len(rows)} rows, {len(text) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
