"""Where the device-side source text (CUDA C++, the CPU math library) lies on disk."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def kernel_directory(package: Path = _PACKAGE) -> Path:
    """Return the folder of device-side sources that belongs to `package`.

    A wheel carries the folder inside the package as `_kernels`. An editable install and a bare
    checkout have it beside the package as `kernels`; there it is the checkout's own, so an edited
    kernel takes effect without reinstalling.

    >>> (kernel_directory() / "README.md").is_file()
    True

    Args:
        package: The folder that holds the `autodiff` package; default: the one being run.

    Raises:
        FileNotFoundError: Neither folder exists: the installation is incomplete.
    """
    places = (package / "_kernels", package.parent / "kernels")
    for place in places:
        if (place / "README.md").is_file():
            return place
    raise FileNotFoundError(
        "kernel_directory: the kernel sources must lie in one of "
        f"{places[0]} and {places[1]}, got neither.\n"
        "To fix: reinstall autodiff; the installation is incomplete."
    )
