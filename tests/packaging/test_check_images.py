"""The images install what the project has, by the script that `.ci/run` tries in a clean place."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"
check = runpy.run_path(str(ROOT / ".ci" / "check_images.py"))
NAMES = ("Dockerfile.cpu", "Dockerfile.cuda")

DOCKERFILE = """
# A comment
FROM python:3.13-slim
ARG EXTRAS=test
ARG PEERS=""
RUN useradd somebody
USER somebody
RUN python -m venv \\
    "$VIRTUAL_ENV"
RUN docker/install.sh "$EXTRAS" $PEERS
RUN python -m autodiff.doctor
"""


def read(tmp_path: Path, text: str):
    path = tmp_path / "Dockerfile.some"
    path.write_text(text, encoding="utf-8")
    return check["read"](path)


@pytest.mark.parametrize("name", NAMES)
def test_the_projects_images_install_what_the_project_has(name):
    image = check["read"](DOCKER / name)
    assert check["unknown_extras"](image, ROOT) == []
    assert image.is_for_gpus == (name == "Dockerfile.cuda")
    (version,) = re.findall(r"3\.\d+", image.base)
    classifiers = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"Programming Language :: Python :: {version}"' in classifiers


def test_a_dockerfile_is_read(tmp_path):
    image = read(tmp_path, DOCKERFILE)
    assert image.base == "python:3.13-slim"
    assert image.arguments == {"EXTRAS": "test", "PEERS": ""}
    assert [" ".join(command.split()) for command in image.commands] == [
        'python -m venv "$VIRTUAL_ENV"',
        'docker/install.sh "$EXTRAS" $PEERS',
        "python -m autodiff.doctor",
    ]
    assert check["commands_to_try"](image) == image.commands


def test_of_an_image_for_gpus_the_choice_of_packages_is_tried(tmp_path):
    image = read(tmp_path, DOCKERFILE.replace("EXTRAS=test", "EXTRAS=cuda13,test"))
    assert len(check["commands_to_try"](image)) == 2
    assert check["commands_to_try"](image)[-1] == 'docker/install.sh "$EXTRAS" $PEERS --dry-run'


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("python:3.13-slim", "nvidia/cuda", "begins with Python's slim image"),
        ("USER somebody", "USER root", "has a user other than root"),
        ("docker/install.sh", "pip install", "the user runs docker/install.sh"),
    ],
)
def test_a_dockerfile_that_is_otherwise_is_an_error(tmp_path, before, after, sentence):
    with pytest.raises(check["ImageError"], match=sentence):
        read(tmp_path, DOCKERFILE.replace(before, after))


def test_commands_are_run_and_one_that_fails_is_shown(tmp_path, capsys):
    (tmp_path / "docker").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project.optional-dependencies]\ntest = []\n")
    script = tmp_path / "docker" / "install.sh"
    script.write_text('#!/bin/sh\necho "$1 into $VIRTUAL_ENV" >>installed\n')
    script.chmod(0o755)
    path = tmp_path / "docker" / "Dockerfile.some"
    text = DOCKERFILE.replace("python -m venv", "mkdir")
    arguments = [str(tmp_path), str(tmp_path)]
    path.write_text(text.replace("python -m autodiff.doctor", "true"))
    assert check["main"](arguments) == 0
    assert (tmp_path / "installed").read_text() == (
        f"test into {tmp_path / 'environment-Dockerfile.some'}\n"
    )
    path.write_text(text.replace("mkdir", "echo").replace("autodiff.doctor", "no_such_module"))
    assert check["main"](arguments) == 1
    assert "failed: python -m no_such_module" in capsys.readouterr().out
    path.write_text(text.replace("EXTRAS=test", "EXTRAS=tests"))
    assert check["main"](arguments) == 1
    assert "the project has no extra tests" in capsys.readouterr().out


def _compose() -> dict[str, dict[str, str]]:
    """Return the services with their settings of one line."""
    services: dict[str, dict[str, str]] = {}
    for line in (DOCKER / "compose.yaml").read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"  ([\w-]+):", line):
            services[found[1]] = {}
        elif found := re.fullmatch(r" {4,}(\w+): (.+)", line):
            services[list(services)[-1]][found[1]] = found[2]
    return services


def test_services_use_the_images_and_those_for_gpus_ask_for_all():
    services = _compose()
    assert set(services) == {"cuda-tests", "bench", "cpu-tests"}
    for name, service in services.items():
        assert (DOCKER / service["context"] / service["dockerfile"]).is_file()
        on_gpu = service["dockerfile"].endswith(".cuda")
        assert service.get("gpus") == ("all" if on_gpu else None), name
        assert service["image"] == f"autodiff-{Path(service['dockerfile']).suffix[1:]}"


@pytest.mark.parametrize("name", ["cuda-tests", "bench", "cpu-tests"])
def test_commands_of_services_are_those_of_the_tools(name):
    python, *arguments = shlex.split(_compose()[name]["command"])
    assert python == "python"
    run = subprocess.run(
        [sys.executable, *arguments, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "usage: " in run.stdout


def test_results_of_the_bench_are_written_where_the_image_has_the_source():
    text = (DOCKER / "Dockerfile.cuda").read_text(encoding="utf-8")
    (folder,) = re.findall(r"^WORKDIR (\S+)$", text, re.MULTILINE)
    compose = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    assert f"- ../bench/results:{folder}/bench/results\n" in compose
