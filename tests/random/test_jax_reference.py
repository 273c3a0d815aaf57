"""The numbers of `autodiff.random` against those JAX drew (`jax_reference.json`)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autodiff import random
from autodiff.base.settings import override

_specification = importlib.util.spec_from_file_location(
    "make_reference", Path(__file__).with_name("make_reference.py")
)
assert _specification is not None and _specification.loader is not None
make_reference = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(make_reference)

TABLE = json.loads(make_reference.TABLE.read_text())
NOT_ARGUMENTS = ("older", "x64", "function", "key", "out")

GROUPS: dict[tuple[str, str, bool], list[dict[str, Any]]] = defaultdict(list)
for _row in TABLE["rows"]:
    GROUPS[_row["function"], _row["out"]["dtype"], _row["older"]].append(_row)

# What is not bit for bit: the greatest difference, in ULP of the larger of |number| and the scale.
# float64: NumPy's logarithm and JAX's (glibc's) each have an error below 1 ULP, but which, depends
# on the machine. On x86-64 with AVX-512, 786,432 draws of each gave these differences at most:
# normal 2, exponential 1, truncated_normal 2, gumbel 1 (of max(1, |x|): near 0 it is the logarithm
# of a number near 1, and only the absolute error is small); doubled for other machines' logarithms.
ULP = {
    ("normal", "float64"): (4, 0.0),
    ("normal", "complex128"): (4, 0.0),
    ("exponential", "float64"): (2, 0.0),
    ("gumbel", "float64"): (2, 1.0),
    ("truncated_normal", "float64"): (4, 1.0),
}


def draw(row: dict[str, Any]) -> np.ndarray:
    options = {
        name: make_reference.decoded(value)
        for name, value in row.items()
        if name not in NOT_ARGUMENTS
    }
    if "dtype" in options:
        options["dtype"] = make_reference.dtype_of(options["dtype"])
    partitionable, default = not row["older"], "float64" if row["x64"] else "float32"
    with override(threefry_partitionable=partitionable, default_float=default):
        return getattr(random, row["function"])(np.array(row["key"], np.uint32), **options)


def expected_values(out: dict[str, Any], result: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the table's numbers, and ours at the same places."""
    dtype = make_reference.dtype_of(out["dtype"])
    if "bytes" in out:
        return np.frombuffer(bytes.fromhex(out["bytes"]), dtype), result.ravel()
    ends = np.frombuffer(bytes.fromhex(out["first"] + out["last"]), dtype)
    count = ends.size // 2
    return ends, np.concatenate([result.ravel()[:count], result.ravel()[-count:]])


def check(row: dict[str, Any]) -> None:
    out, result = row["out"], draw(row)
    assert isinstance(result, np.ndarray)
    assert list(result.shape) == out["shape"]
    if row["function"] == "categorical" and not row.get("replace", True):
        result = result.astype(np.int32)  # always int32 in JAX, the default integer here
    assert result.dtype.name == out["dtype"]
    expected, ours = expected_values(out, result)
    bound = ULP.get((row["function"], out["dtype"]))
    if bound is None:
        assert ours.tobytes() == expected.tobytes(), (ours, expected)
        if "sha256" in out:
            assert hashlib.sha256(result.tobytes()).hexdigest() == out["sha256"]
        return
    ulps, scale = bound
    parts = np.finfo(expected.dtype).dtype
    ours, expected = ours.view(parts), expected.view(parts)
    spacing = np.spacing(np.maximum(np.abs(expected), parts.type(scale)))
    assert np.all((np.abs(ours - expected) <= ulps * spacing) | (ours == expected))


@pytest.mark.parametrize(("function", "dtype", "older"), GROUPS)
def test_numbers_are_those_of_jax(function: str, dtype: str, older: bool) -> None:
    for row in GROUPS[function, dtype, older]:
        arguments = {name: value for name, value in row.items() if name != "out"}
        try:
            check(row)
        except AssertionError as error:
            raise AssertionError(f"{arguments}: {error}") from error


def test_keys_of_seeds_are_those_of_jax() -> None:
    for row in TABLE["seeds"]:
        assert random.key(row["seed"]).tolist() == row["words"]
        assert random.key(np.int64(row["seed"])).tolist() == row["words"]


def test_the_figures_of_the_older_layout() -> None:
    with override(threefry_partitionable=False):
        _, weights_key, bias_key = random.split(random.key(0), 3)
        weights = random.normal(weights_key, (3,), "float32")
        bias = random.normal(bias_key, (), "float32")
    assert str(weights) == "[-0.36838785 -2.275689    0.01144757]"
    assert str(bias) == "0.8535516"
