"""The kernel sources are found however the library was installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from autodiff.base.kernel_sources import kernel_directory


def _folder_of_kernels(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("kernels\n", encoding="utf-8")
    return folder


def test_the_running_library_has_its_kernels():
    assert (kernel_directory() / "README.md").is_file()


def test_a_wheel_has_them_inside_the_package(tmp_path):
    package = tmp_path / "site-packages" / "autodiff"
    inside = _folder_of_kernels(package / "_kernels")
    assert kernel_directory(package) == inside


def test_a_checkout_has_them_beside_the_package(tmp_path):
    package = tmp_path / "autodiff"
    package.mkdir()
    beside = _folder_of_kernels(tmp_path / "kernels")
    assert kernel_directory(package) == beside


def test_somebody_elses_kernels_folder_is_not_preferred_to_the_wheels_own(tmp_path):
    package = tmp_path / "site-packages" / "autodiff"
    inside = _folder_of_kernels(package / "_kernels")
    _folder_of_kernels(tmp_path / "site-packages" / "kernels")
    assert kernel_directory(package) == inside


def test_an_incomplete_installation_says_where_it_looked_and_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        kernel_directory(tmp_path / "autodiff")
    assert str(caught.value) == (
        "kernel_directory: the kernel sources must lie in one of "
        f"{tmp_path / 'autodiff' / '_kernels'} and {tmp_path / 'kernels'}, got neither.\n"
        "To fix: reinstall autodiff; the installation is incomplete."
    )
