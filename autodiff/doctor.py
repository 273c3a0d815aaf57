"""Report what is installed, which device is used, and the one command that fixes what is missing.

Run it as `python -m autodiff.doctor`. It exits with 1 if a required package is missing, else 0:
a machine without a GPU is a healthy one.

`examine` looks at the machine and returns a `Report`; `render` turns that into text. CuPy is
imported in a process of its own, so that a broken driver or toolkit is a line of the report.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any

import numpy as np

import autodiff
from autodiff.base.kernel_sources import kernel_directory
from autodiff.base.settings import TABLE, override, settings
from autodiff.runtime.host import host
from autodiff.runtime.nvml import gpu_states

# What pyproject.toml requires; a test compares the two.
REQUIREMENTS = (
    "numpy>=2.3,<3",
    "scipy>=1.13,<2",
    "numba>=0.68,<1",
    "ml_dtypes>=0.5,<1",
    "opt_einsum>=3.4,<4",
)
_CUPY_DISTRIBUTIONS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
_CUPY_SECONDS = 120

# Prints one line of JSON. The sum makes CuPy compile a kernel, which fails where a device is
# visible but the toolkit's headers or its runtime compiler are not.
_CUPY_PROBE = """
import json
import cupy
runtime = cupy.cuda.runtime
devices = [runtime.getDeviceProperties(index) for index in range(runtime.getDeviceCount())]
if float((cupy.arange(4.0) * 2).sum()) != 12.0:
    raise RuntimeError("a kernel compiled by CuPy gave a wrong sum")
names = [device["name"] for device in devices]
print(json.dumps([name.decode() if isinstance(name, bytes) else name for name in names]))
"""


@dataclass(frozen=True, slots=True)
class Package:
    """A package by its distribution's name; `version` is None where it is missing.

    `requirement` is what pip is asked for, with the accepted versions; None if it is optional or
    comes along with another package.
    """

    name: str
    version: str | None
    requirement: str | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """What there is of a GPU, bottom up: the driver, what it sees, and CuPy on top of both.

    `driver_cuda` is the newest CUDA version the driver runs, such as (13, 0); None without one.
    `devices` holds a line per device as the driver's management library sees it, or the reason
    why that cannot be asked. `cupy_problem` is None if CuPy runs kernels on `cupy_devices`.
    """

    driver_cuda: tuple[int, int] | None
    devices: tuple[str, ...]
    cupy: Package
    cupy_devices: tuple[str, ...]
    cupy_problem: str | None

    @property
    def usable(self) -> bool:
        """Tell whether arrays on a GPU work."""
        return self.cupy_problem is None and bool(self.cupy_devices)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `render` prints."""

    system: tuple[tuple[str, str], ...]
    packages: tuple[Package, ...]
    gpu: Gpu
    settings: tuple[tuple[str, str, str], ...]
    device_setting: str

    @property
    def missing(self) -> tuple[Package, ...]:
        """The required packages that are not installed."""
        return tuple(p for p in self.packages if p.requirement and p.version is None)


def examine() -> Report:
    """Return a report on this interpreter, this machine and the settings in force."""
    required = tuple(
        Package(name, _version(name), requirement)
        for requirement in REQUIREMENTS
        for name in [requirement.partition(">")[0]]
    )
    return Report(
        system=_system(),
        packages=(*required, Package("llvmlite", _version("llvmlite"))),
        gpu=_gpu(),
        settings=_settings(),
        device_setting=settings().device,
    )


def default_device(report: Report) -> str:
    """Return which device new arrays are made on, with the reason.

    Raises nothing: a GPU that is asked for and not there is part of the answer.
    """
    if report.device_setting == "cpu":
        return "CPU, because the device setting says so"
    if report.gpu.usable:
        return f"GPU: {report.gpu.cupy_devices[0]}"
    if report.device_setting == "gpu":
        return "none: the device setting asks for a GPU, and none is usable"
    return "CPU, because no GPU is usable"


def remedy(report: Report) -> str | None:
    """Return the one line that installs what is missing, None if nothing is.

    A GPU's packages are missing only where there is a driver to use them.
    """
    wanted = [package.requirement for package in report.missing if package.requirement]
    gpu = report.gpu
    if gpu.driver_cuda is not None and not gpu.usable:
        major = 13 if gpu.driver_cuda >= (13, 0) else 12
        wanted += [f"cupy-cuda{major}x[ctk]", "nvidia-ml-py"]
    if not wanted:
        return None
    return " ".join([sys.executable, "-m pip install", *(f"'{name}'" for name in wanted)])


def render(report: Report) -> str:
    """Return the report as aligned plain text."""
    gpu = report.gpu
    packages = [
        (package.name, package.version or ("MISSING" if package.requirement else "not installed"))
        for package in report.packages
    ]
    driver = "none found" if gpu.driver_cuda is None else "runs CUDA {}.{}".format(*gpu.driver_cuda)
    graphics = [("driver", driver)]
    graphics += [(f"device {index}", line) for index, line in enumerate(gpu.devices)]
    graphics += [(gpu.cupy.name, gpu.cupy.version or "not installed")]
    if gpu.cupy.version:
        graphics += [("kernels", gpu.cupy_problem or f"run on {', '.join(gpu.cupy_devices)}")]
    answer = remedy(report)
    sections = [
        ("System", report.system),
        ("Packages", packages),
        ("GPU", graphics),
        ("Settings", report.settings),
        ("Default device", [(default_device(report),)]),
        ("To fix", [(answer,)] if answer else []),
    ]
    return "\n\n".join("\n".join([title, *_aligned(rows)]) for title, rows in sections if rows)


def main() -> int:
    """Print the report; return the exit status."""
    report = examine()
    print(render(report))
    return 1 if report.missing else 0


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  " + "  ".join(cells).rstrip()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _system() -> tuple[tuple[str, str], ...]:
    try:
        sources = str(kernel_directory())
    except FileNotFoundError as error:
        sources = str(error).splitlines()[0]
    return (
        ("autodiff", f"{autodiff.__version__} in {autodiff.__path__[0]}"),
        ("kernels", sources),
        ("python", f"{platform.python_version()} at {sys.executable}"),
        ("platform", f"{platform.platform()}, {os.cpu_count()} cores"),
        ("CPU kernels", _cpu_kernels()),
    )


def _cpu_kernels() -> str:
    """Compile a kernel and run it; return what it was made for, else what is wrong."""
    with override(verify=True, reference=False, kernels=True):
        try:
            total = float(autodiff.jit(lambda x: np.sum(x * x + 1.0))(np.arange(100.0)))
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            return f"not usable: {str(error).splitlines()[0]}"
        if total != 328450.0:
            return f"wrong: a sum is {total} instead of 328450.0"
        target = host()
    used = "" if settings().kernels else "; switched off by the settings"
    return f"run, made for {target.name} ({target.triple}), on {target.cores} cores{used}"


def _settings() -> tuple[tuple[str, str, str], ...]:
    """Return variable, value and origin of every setting."""
    rows = []
    for setting in TABLE:
        value = getattr(settings(), setting.name)
        origin = "default" if value == setting.default else f"default: {_text(setting.default)}"
        rows.append((setting.environment, _text(value), origin))
    return tuple(rows)


def _text(value: Any) -> str:
    """Return a setting's value as its environment variable would spell it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, frozenset):
        return ",".join(sorted(value)) or "-"
    return "-" if value is None else str(value)


def _gpu() -> Gpu:
    installed = [name for name in _CUPY_DISTRIBUTIONS if _version(name)]
    package = Package(installed[0], _version(installed[0])) if installed else Package("cupy", None)
    devices, problem = _devices_of_cupy()
    return Gpu(_driver_cuda(), _devices_of_driver(), package, devices, problem)


def _driver_cuda() -> tuple[int, int] | None:
    """Ask the driver library itself, which is there exactly when a driver is."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    # NVIDIA, CUDA Driver API, cuDriverGetVersion: 1000 * major + 10 * minor, needs no cuInit.
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value // 1000, version.value % 1000 // 10


def _devices_of_driver() -> tuple[str, ...]:
    """Return a line for every device as its driver sees it, else the reason why there is none."""
    states, reason = gpu_states()
    return tuple(map(str, states)) if reason is None else (reason,)


def _devices_of_cupy() -> tuple[tuple[str, ...], str | None]:
    """Return the devices that CuPy runs kernels on, else why it runs none."""
    if util.find_spec("cupy") is None:
        return (), "not installed"
    try:
        run = subprocess.run(
            [sys.executable, "-c", _CUPY_PROBE],
            capture_output=True,
            text=True,
            timeout=_CUPY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (), f"fail: no answer in {_CUPY_SECONDS} s"
    if run.returncode != 0:
        last_line = (run.stderr.strip().splitlines() or ["no message"])[-1]
        return (), f"fail: {last_line}"
    return tuple(json.loads(run.stdout.strip().splitlines()[-1])), None


if __name__ == "__main__":
    sys.exit(main())
