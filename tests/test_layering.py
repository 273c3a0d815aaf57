"""The source tree keeps its layers, and the checker that says so finds planted violations."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from textwrap import dedent

import pytest

from tests.layering_rules import ALWAYS_LAZY, LINES_AT_EASE, LINES_AT_MOST, long_files, violations

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.filterwarnings("default::UserWarning")
def test_the_tree_keeps_its_rules():
    for sentence in long_files(ROOT):
        warnings.warn(sentence, UserWarning, stacklevel=1)
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(map(str, found))


def test_importing_the_library_loads_nothing_that_is_lazy():
    program = f"import autodiff, sys; print(*sorted({set(ALWAYS_LAZY)!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


# ---- planted violations

# A small tree in order. Every case below is this tree with some files changed.
IN_ORDER = {
    "autodiff/__init__.py": "from autodiff.api.trace import trace\n",
    "autodiff/base/settings.py": "import os\nDEVICE = os.environ.get('AUTODIFF_DEVICE')\n",
    "autodiff/ir/graph.py": "from autodiff.base import settings\n",
    "autodiff/primitives/families.py": "from autodiff.ir.graph import Graph\n",
    "autodiff/primitives/arithmetic.py": "from autodiff.primitives.families import elementwise\n",
    "autodiff/passes/common_subexpressions.py": "from autodiff.primitives import families\n",
    "autodiff/runtime/devices.py": "def usable():\n    import cupy\n",
    "autodiff/api/trace.py": "from ..ir import graph\nfrom autodiff.numpy import sin\n",
    "autodiff/numpy/__init__.py": "import numpy as np\n",
}


def _lines(tmp_path: Path, changes: dict[str, str]) -> list[str]:
    for name, text in (IN_ORDER | changes).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return [str(violation) for violation in violations(tmp_path)]


def test_a_tree_in_order_has_no_violations(tmp_path):
    assert _lines(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        (
            "from autodiff.passes import common_subexpressions",
            "autodiff.passes.common_subexpressions",
        ),
        ("from autodiff.runtime.devices import usable", "autodiff.runtime.devices"),
        ("import autodiff.api.trace as tracing", "autodiff.api.trace"),
        ("from ..api.trace import trace", "autodiff.api.trace"),
        ("from .. import api", "autodiff.api"),
        ("from autodiff import api", "autodiff.api"),
        ("from autodiff import grad", "autodiff"),
        ("import autodiff", "autodiff"),
    ],
)
def test_an_import_from_a_layer_above_is_found(tmp_path, statement, imported):
    assert _lines(tmp_path, {"autodiff/ir/graph.py": f"\n{statement}\n"}) == [
        f"autodiff/ir/graph.py:2: ir imports upwards: {imported}"
    ]


def test_an_import_from_above_is_found_where_only_types_are_checked(tmp_path):
    text = """\
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from autodiff.api.trace import trace
    """
    assert _lines(tmp_path, {"autodiff/ir/graph.py": text}) == [
        "autodiff/ir/graph.py:3: ir imports upwards: autodiff.api.trace"
    ]


def test_a_folder_without_a_layer_is_found(tmp_path):
    text = "from autodiff.extras import more\n"
    assert _lines(tmp_path, {"autodiff/extras/more.py": "", "autodiff/api/trace.py": text}) == [
        "autodiff/api/trace.py:1: imports autodiff.extras.more, which belongs to no layer",
        "autodiff/extras/more.py:1: `extras` belongs to no layer; "
        "give it one in tests/layering_rules.py",
    ]


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("from autodiff.base import settings", "autodiff.base.settings"),
        ("from ..base import settings", "autodiff.base.settings"),
        ("__import__('autodiff.base.settings')", "autodiff.base.settings"),
        ("importlib.import_module('autodiff.base.settings')", "autodiff.base.settings"),
        ("import numpy as np", "numpy"),
        ("import ml_dtypes", "ml_dtypes"),
    ],
)
def test_an_import_inside_a_function_is_found(tmp_path, statement, imported):
    text = f"def f():\n    def g():\n        {statement}\n"
    assert _lines(tmp_path, {"autodiff/api/trace.py": text}) == [
        f"autodiff/api/trace.py:3: imports {imported} inside a function"
    ]


def test_scipy_and_the_standard_library_may_be_imported_inside_a_function(tmp_path):
    text = "def f():\n    import scipy.linalg\n    import tempfile\n"
    assert _lines(tmp_path, {"autodiff/api/trace.py": text}) == []


@pytest.mark.parametrize("package", ["cupy", "cupyx.scipy.sparse", "llvmlite.binding", "numba"])
def test_a_compiler_or_a_device_outside_the_runtime_layer_is_found(tmp_path, package):
    text = f"def f():\n    import {package}\n"
    name = package.split(".")[0]
    assert _lines(tmp_path, {"autodiff/codegen/cpu_text.py": text}) == [
        f"autodiff/codegen/cpu_text.py:2: imports {name}, which only autodiff/runtime may do"
    ]


def test_a_slow_or_optional_package_at_module_level_is_found(tmp_path):
    text = """\
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import cupy
        try:
            import numba
        except ImportError:
            numba = None
    """
    assert _lines(tmp_path, {"autodiff/runtime/devices.py": text}) == [
        "autodiff/runtime/devices.py:5: imports numba at module level; "
        "import it in the function that needs it"
    ]


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("from autodiff.primitives.arithmetic import add, sub", "autodiff.primitives.arithmetic"),
        ("from autodiff.primitives import arithmetic", "autodiff.primitives.arithmetic"),
        ("from autodiff import primitives", "autodiff.primitives"),
    ],
)
def test_a_pass_that_imports_a_primitive_is_found(tmp_path, statement, imported):
    assert _lines(tmp_path, {"autodiff/passes/transpose.py": statement}) == [
        f"autodiff/passes/transpose.py:1: a pass imports {imported}; "
        "ask a trait of the primitive instead"
    ]


@pytest.mark.parametrize(
    "test",
    [
        "eqn.primitive.name == 'add'",
        "'add' != prim.name",
        "prim.name in ('add', 'sub')",
        "inner_primitive.name not in {'add'}",
        "op.name in LINEAR",
        "primitive.name == ADD",
        "primitive.name.startswith('reduce_')",
    ],
)
def test_a_primitive_told_by_its_name_is_found(tmp_path, test):
    text = f"ADD = 'add'\nLINEAR = frozenset({{'add', 'sub'}})\ndef f(x):\n    return {test}\n"
    assert _lines(tmp_path, {"autodiff/passes/fold.py": text}) == [
        "autodiff/passes/fold.py:4: tells a primitive by its name; "
        "ask a trait of the primitive instead"
    ]


def test_a_match_on_a_primitives_name_is_found(tmp_path):
    text = "match eqn.primitive.name:\n    case 'add':\n        pass\n"
    assert _lines(tmp_path, {"autodiff/passes/fold.py": text}) == [
        "autodiff/passes/fold.py:1: tells a primitive by its name; "
        "ask a trait of the primitive instead"
    ]


@pytest.mark.parametrize(
    "test", ["primitive.name in registry", "var.name == 'x'", "prim.kind == 'elementwise'"]
)
def test_a_registry_another_name_and_a_trait_may_be_compared(tmp_path, test):
    text = f"registry = {{}}\ndef f(x):\n    return {test}\n"
    assert _lines(tmp_path, {"autodiff/ir/graph.py": text}) == []


@pytest.mark.parametrize(
    "text",
    [
        "import os\nhome = os.environ['HOME']\n",
        "import os as system\nhome = system.getenv('HOME')\n",
        "import sys\nfrom os import environ as variables\n",
    ],
)
def test_an_environment_variable_read_outside_the_settings_is_found(tmp_path, text):
    assert _lines(tmp_path, {"autodiff/api/trace.py": text}) == [
        "autodiff/api/trace.py:2: reads the environment, "
        "which only autodiff/base/settings.py may do"
    ]


@pytest.mark.parametrize("name", ["utils", "_helpers", "misc", "common", "array_utils"])
def test_a_file_whose_name_says_nothing_is_found(tmp_path, name):
    path = f"autodiff/ir/{name}.py"
    assert _lines(tmp_path, {path: ""}) == [
        f"{path}:1: the name `{name}` says nothing about what is inside"
    ]


def test_a_file_that_is_too_long_is_found(tmp_path):
    changes = {"kernels/cuda/scan.cu": "//\n" * (LINES_AT_MOST + 1)}
    assert _lines(tmp_path, changes) == [
        f"kernels/cuda/scan.cu:{LINES_AT_MOST + 1}: has {LINES_AT_MOST + 1} lines, "
        f"more than {LINES_AT_MOST}; divide it"
    ]


def test_a_file_that_grows_long_is_announced(tmp_path):
    changes = {"autodiff/ir/graph.py": "1\n" * (LINES_AT_EASE + 1)}
    assert _lines(tmp_path, changes) == []
    assert long_files(tmp_path) == [
        f"autodiff/ir/graph.py has {LINES_AT_EASE + 1} lines; "
        f"more than {LINES_AT_MOST} is a failure."
    ]
