"""The README's "Add an operation", carried out in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

USE = """
import numpy as np, autodiff as ad, autodiff.numpy as anp
x = np.array([-2.0, 0.5])
assert np.allclose(anp.softsign(x), x / (1 + abs(x)))
assert np.allclose(ad.vmap(ad.grad(anp.softsign))(x), 1 / (1 + abs(x)) ** 2)
assert np.allclose(ad.jit(anp.softsign)(x), x / (1 + abs(x)))
assert "1 + |x|" in anp.softsign.__doc__
"""


def _declaration() -> str:
    section = (ROOT / "README.md").read_text().split("## Add an operation")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def _run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_one_declaration_brings_derivatives_batching_the_public_function_and_its_tests(tmp_path):
    """A new file with the README's declaration is all that is added."""
    for name in ("autodiff", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "autodiff" / "primitives" / "softsign.py").write_text(_declaration())

    used = _run(tmp_path, "-c", USE)
    assert used.returncode == 0, used.stderr

    tested = _run(
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "softsign",
        "tests/primitives",
    )
    assert tested.returncode == 0, tested.stdout
    passed = re.search(r"(\d+) passed", tested.stdout)
    assert passed is not None and int(passed[1]) >= 8, tested.stdout


def test_a_declaration_that_lacks_its_derivative_fails_at_import_with_the_remedy(tmp_path):
    """The message names the operation and the field that would mend it."""
    shutil.copytree(ROOT / "autodiff", tmp_path / "autodiff")
    lacking = re.sub(r"    jvp=.*\n", "", _declaration())
    (tmp_path / "autodiff" / "primitives" / "softsign.py").write_text(lacking)
    failed = _run(tmp_path, "-c", "import autodiff")
    assert failed.returncode != 0
    assert "declare: softsign needs jvp=, or not_differentiable= with the reason." in failed.stderr
