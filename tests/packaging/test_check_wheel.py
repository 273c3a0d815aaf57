"""The comparison of a wheel with the tree finds what is missing, added or changed."""

from __future__ import annotations

import runpy
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
main = runpy.run_path(str(ROOT / ".ci" / "check_wheel.py"))["main"]

TREE = {
    "autodiff/__init__.py": "one",
    "autodiff/ir/graph.py": "two",
    "autodiff/ir/__pycache__/graph.pyc": "cache",
    "kernels/README.md": "three",
    "kernels/cuda/scan.cu": "four",
    "tests/test_ir.py": "not shipped",
}
WHEEL = {
    "autodiff/__init__.py": "one",
    "autodiff/ir/graph.py": "two",
    "autodiff/_kernels/README.md": "three",
    "autodiff/_kernels/cuda/scan.cu": "four",
    "autodiff-0.1.0.dist-info/METADATA": "metadata",
}


def _status(tmp_path: Path, wheel: dict[str, str]) -> int:
    for name, text in TREE.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with ZipFile(tmp_path / "some.whl", "w") as archive:
        for name, text in wheel.items():
            archive.writestr(name, text)
    return main([str(tmp_path / "tree"), str(tmp_path / "some.whl")])


def test_a_complete_wheel_passes(tmp_path, capsys):
    assert _status(tmp_path, WHEEL) == 0
    assert capsys.readouterr().out == (
        "check_wheel: some.whl has the tree's 4 files and nothing else.\n"
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda w: w.pop("autodiff/ir/graph.py"), "missing in the wheel: autodiff/ir/graph.py"),
        (
            lambda w: w.pop("autodiff/_kernels/cuda/scan.cu"),
            "missing in the wheel: autodiff/_kernels/cuda/scan.cu",
        ),
        (lambda w: w.update({"tests/test_ir.py": ""}), "only in the wheel: tests/test_ir.py"),
        (
            lambda w: w.update({"autodiff/__init__.py": "old"}),
            "differs from the tree: autodiff/__init__.py",
        ),
    ],
)
def test_a_wheel_that_differs_fails(tmp_path, capsys, change, line):
    wheel = dict(WHEEL)
    change(wheel)
    assert _status(tmp_path, wheel) == 1
    assert capsys.readouterr().out == f"check_wheel: {line}\n"
