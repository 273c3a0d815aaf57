"""The doctor's report, on this machine and on machines that this one is not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib import util
from pathlib import Path

import pytest

from autodiff import doctor
from autodiff.base import settings
from autodiff.doctor import Gpu, Package, Report

ROOT = Path(__file__).resolve().parent.parent
NO_GPU = Gpu(None, (), Package("cupy", None), (), "not installed")
WITH_GPU = Gpu(
    (12, 8),
    ("Some GPU, 78.0 GiB, 345 of 1980 MHz",),
    Package("cupy-cuda12x", "14.2.0"),
    ("Some GPU",),
    None,
)
REPORT = Report(
    system=(("autodiff", "0.1.0 in /somewhere"), ("python", "3.11.7 at /bin/python")),
    packages=(Package("numpy", "2.4.6", "numpy>=2.0,<3"), Package("llvmlite", "0.50.0")),
    gpu=NO_GPU,
    settings=(("AUTODIFF_DEVICE", "auto", "default"), ("AUTODIFF_CHECK", "-", "default: nans")),
    device_setting="auto",
)


def _run(folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor as a user does, with the modules in `folder` before all others."""
    path = [str(folder)] if folder else []
    return subprocess.run(
        [sys.executable, "-m", "autodiff.doctor"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*path, str(ROOT)])} | environment,
        check=False,
    )


def test_it_reports_this_machine():
    run = _run()
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    named = {words[0] for words in lines if words}
    assert {"autodiff", "python", "platform", "numpy", "scipy", "numba", "llvmlite"} <= named
    assert {"ml_dtypes", "opt_einsum", "driver"} <= named
    assert {setting.environment for setting in settings.TABLE} <= named


FOREIGN = "neon" if platform.machine() == "x86_64" else "sse2"


@pytest.mark.parametrize(
    ("target", "answer"), [("auto", "run, made for"), (FOREIGN, "not usable: cpu_target")]
)
def test_it_says_whether_kernels_run_on_the_processor(target, answer):
    run = _run(AUTODIFF_CPU_TARGET=target)
    assert run.returncode == 0, run.stdout + run.stderr
    (line,) = [line for line in run.stdout.splitlines() if "CPU kernels" in line]
    assert answer in line


def test_it_shows_a_setting_that_the_environment_changes():
    run = _run(AUTODIFF_DEVICE="cpu")
    assert ["AUTODIFF_DEVICE", "cpu", "default:", "auto"] in map(str.split, run.stdout.splitlines())
    assert "CPU, because the device setting says so" in run.stdout


def test_its_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert list(doctor.REQUIREMENTS) == project["dependencies"]


def test_a_report_is_aligned_plain_text():
    assert doctor.render(REPORT) == (
        "System\n"
        "  autodiff  0.1.0 in /somewhere\n"
        "  python    3.11.7 at /bin/python\n"
        "\n"
        "Packages\n"
        "  numpy     2.4.6\n"
        "  llvmlite  0.50.0\n"
        "\n"
        "GPU\n"
        "  driver  none found\n"
        "  cupy    not installed\n"
        "\n"
        "Settings\n"
        "  AUTODIFF_DEVICE  auto  default\n"
        "  AUTODIFF_CHECK   -     default: nans\n"
        "\n"
        "Default device\n"
        "  CPU, because no GPU is usable"
    )


def test_a_gpu_that_works_is_the_default_device():
    report = replace(REPORT, gpu=WITH_GPU)
    text = doctor.render(report)
    assert "  driver        runs CUDA 12.8\n" in text
    assert "  device 0      Some GPU, 78.0 GiB, 345 of 1980 MHz\n" in text
    assert "  cupy-cuda12x  14.2.0\n" in text
    assert "  kernels       run on Some GPU\n" in text
    assert text.endswith("Default device\n  GPU: Some GPU")


@pytest.mark.parametrize(
    ("driver", "wanted"), [((12, 8), "12x"), ((13, 0), "13x"), ((13, 2), "13x")]
)
def test_a_driver_without_cupy_gets_the_line_that_installs_it(driver, wanted):
    report = replace(REPORT, gpu=replace(NO_GPU, driver_cuda=driver))
    assert doctor.render(report).endswith(
        f"To fix\n  {sys.executable} -m pip install 'cupy-cuda{wanted}[ctk]' 'nvidia-ml-py'"
    )


def test_a_missing_requirement_is_named_and_fixed_and_fails(monkeypatch, capsys):
    report = replace(REPORT, packages=(Package("numba", None, "numba>=0.61,<1"),))
    monkeypatch.setattr(doctor, "examine", lambda: report)
    assert doctor.main() == 1
    text = capsys.readouterr().out
    assert "  numba  MISSING\n" in text
    assert text.endswith(f"To fix\n  {sys.executable} -m pip install 'numba>=0.61,<1'\n")


def test_a_gpu_that_is_asked_for_and_not_there_is_said():
    report = replace(REPORT, device_setting="gpu")
    expected = "none: the device setting asks for a GPU, and none is usable"
    assert doctor.default_device(report) == expected


def test_a_cupy_that_does_not_import_is_a_line_of_the_report(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libnvrtc.so.12 not found')\n")
    run = _run(tmp_path, AUTODIFF_DEVICE="auto")
    assert run.returncode == 0, run.stderr
    devices, problem = _devices_with(tmp_path)
    assert devices == "()"
    assert problem == "fail: ImportError: libnvrtc.so.12 not found"
    assert "CPU, because no GPU is usable" in run.stdout


def test_a_cupy_that_runs_kernels_is_asked_for_its_devices(tmp_path):
    (tmp_path / "cupy.py").write_text(
        "import numpy\n"
        "from types import SimpleNamespace as N\n"
        "arange = numpy.arange\n"
        "cuda = N(runtime=N(getDeviceCount=lambda: 2,\n"
        "    getDeviceProperties=lambda index: {'name': b'GPU %d' % index}))\n"
    )
    assert _devices_with(tmp_path) == ["('GPU 0', 'GPU 1')", "None"]


def test_the_drivers_library_is_asked_for_memory_and_clock(tmp_path):
    (tmp_path / "pynvml.py").write_text(
        "from types import SimpleNamespace as N\n"
        "class NVMLError(Exception): pass\n"
        "NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0\n"
        "def nvmlInit(): pass\n"
        "def nvmlShutdown(): pass\n"
        "def nvmlDeviceGetCount(): return 1\n"
        "def nvmlDeviceGetHandleByIndex(index): return index\n"
        "def nvmlDeviceGetName(device): return 'Some GPU'\n"
        "def nvmlDeviceGetMemoryInfo(device): return N(total=80 * 2**30)\n"
        "def nvmlDeviceGetClockInfo(device, kind): return 345\n"
        "def nvmlDeviceGetMaxClockInfo(device, kind): return 1980\n"
        "def nvmlDeviceGetMemoryBusWidth(device): return 5120\n"
        "def nvmlDeviceGetTemperature(device, sensor): return 31\n"
        "def nvmlSystemGetDriverVersion(): return '580.1'\n"
    )
    run = _run(tmp_path)
    assert "Some GPU, 80.0 GiB, 345 of 1980 MHz, memory 345 MHz" in run.stdout, run.stderr
    assert "31 °C, driver 580.1" in run.stdout


def test_without_the_drivers_library_there_is_one_line_about_it():
    if util.find_spec("pynvml") is not None:
        pytest.skip("pynvml is installed; what is said without it is tested in tests/runtime")
    (line,) = [line for line in _run().stdout.splitlines() if "nvidia-ml-py" in line]
    assert "clocks and temperature" in line


def test_a_drivers_library_without_a_driver_is_a_line_of_the_report(tmp_path):
    (tmp_path / "pynvml.py").write_text(
        "class NVMLError(Exception): pass\ndef nvmlInit(): raise NVMLError('Driver Not Loaded')\n"
    )
    run = _run(tmp_path)
    assert run.returncode == 0, run.stderr
    assert "not visible: Driver Not Loaded" in run.stdout


def _devices_with(folder: Path) -> list[str]:
    program = "from autodiff import doctor; print(*doctor._devices_of_cupy(), sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        check=True,
    )
    return run.stdout.splitlines()
