"""Compare a built wheel with the source tree, file by file.

Every file of the packages and of `kernels/` must be in the wheel, at its place and with its
contents, and nothing else may be there but the wheel's own metadata.

Usage: python .ci/check_wheel.py TREE WHEEL
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

# Folder of the tree -> folder of the wheel.
SHIPPED = {"autodiff": "autodiff", "kernels": "autodiff/_kernels"}
NOT_SOURCE = ("__pycache__", ".pytest_cache", ".ruff_cache")


def files_of_tree(tree: Path) -> dict[str, bytes]:
    """Return the contents that the wheel should have, by their place in it."""
    contents = {}
    for source, destination in SHIPPED.items():
        for path in sorted((tree / source).rglob("*")):
            relative = path.relative_to(tree / source)
            if path.is_file() and not any(part in NOT_SOURCE for part in relative.parts):
                contents[f"{destination}/{relative.as_posix()}"] = path.read_bytes()
    return contents


def files_of_wheel(wheel: Path) -> dict[str, bytes]:
    """Return the contents that the wheel has, without its metadata."""
    with ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith("/") and not name.split("/")[0].endswith(".dist-info")
        }


def differences(tree: dict[str, bytes], wheel: dict[str, bytes]) -> list[str]:
    """Return one line for each file that is missing, unexpected or different in the wheel."""
    lines = [f"missing in the wheel: {name}" for name in sorted(tree.keys() - wheel.keys())]
    lines += [f"only in the wheel: {name}" for name in sorted(wheel.keys() - tree.keys())]
    lines += [
        f"differs from the tree: {name}"
        for name in sorted(tree.keys() & wheel.keys())
        if tree[name] != wheel[name]
    ]
    return lines


def main(arguments: list[str]) -> int:
    """Print what differs and return the exit status."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    tree, wheel = Path(arguments[0]), Path(arguments[1])
    expected = files_of_tree(tree)
    found = differences(expected, files_of_wheel(wheel))
    for line in found:
        print(f"check_wheel: {line}")
    if not found:
        print(f"check_wheel: {wheel.name} has the tree's {len(expected)} files and nothing else.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
