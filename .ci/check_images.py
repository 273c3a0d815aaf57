"""Run what the images run to install the library, in a clean virtual environment.

What a Dockerfile of `docker/` runs as the user is run here as it stands, with its arguments'
defaults, in a copy of the tree, the virtual environment being a fresh folder. Of an image for
GPUs, whose wheels take gigabytes, only the choice of packages is tried: pip decides what it would
install, and installs nothing.

Usage: python .ci/check_images.py TREE SCRATCH [DOCKERFILE...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

INSTALL = "docker/install.sh"
_BASE = "python:"


class ImageError(ValueError):
    """A Dockerfile that is not as this check expects."""


@dataclass(frozen=True, slots=True)
class Image:
    """A Dockerfile, read: image it begins with, arguments with defaults, the user's commands."""

    name: str
    base: str
    arguments: dict[str, str]
    commands: tuple[str, ...]

    @property
    def is_for_gpus(self) -> bool:
        """Whether an extra brings CUDA's libraries."""
        return any(extra.startswith("cuda") for extra in self.extras)

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras that are installed."""
        return tuple(self.arguments["EXTRAS"].split(","))


def read(path: Path) -> Image:
    """Return a Dockerfile, read.

    Raises:
        ImageError: it begins with another image than Python's slim one, it has no user of its own,
            or does not install by the script.
    """
    base, arguments, commands, has_user = "", {}, [], False
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base = rest
        elif word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value.strip('"')
        elif word == "USER":
            has_user = rest not in ("root", "0")
        elif word == "RUN" and has_user:
            commands.append(rest)
    if not (base.startswith(_BASE) and base.endswith("-slim")):
        raise ImageError(f"{path.name}: begins with Python's slim image, got {base!r}")
    if not has_user:
        raise ImageError(f"{path.name}: has a user other than root")
    if not any(command.startswith(INSTALL) for command in commands):
        raise ImageError(f"{path.name}: the user runs {INSTALL}")
    return Image(path.name, base, arguments, tuple(commands))


def unknown_extras(image: Image, tree: Path) -> list[str]:
    """Return the extras of an image that the project does not have."""
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name for name in image.extras if name not in project["optional-dependencies"]]


def commands_to_try(image: Image) -> tuple[str, ...]:
    """Return the user's commands: of an image for GPUs those up to the install, which is tried."""
    if not image.is_for_gpus:
        return image.commands
    (last,) = [i for i, command in enumerate(image.commands) if command.startswith(INSTALL)]
    return (*image.commands[:last], f"{image.commands[last]} --dry-run")


def environment_of(image: Image, scratch: Path) -> dict[str, str]:
    """Return the environment in which an image's commands are tried."""
    environment = scratch / f"environment-{image.name}"
    folders = (f"{environment}/bin", str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    changed = {"VIRTUAL_ENV": str(environment), "PATH": os.pathsep.join(folders)}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | image.arguments | changed


def main(arguments: list[str]) -> int:
    """Try every image; return the exit status."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    tree, scratch = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    wanted = arguments[2:] or [path.name for path in sorted((tree / "docker").glob("Dockerfile.*"))]
    for name in wanted:
        image = read(tree / "docker" / name)
        unknown = unknown_extras(image, tree)
        if unknown:
            print(f"check_images: {name}: the project has no extra {', '.join(unknown)}.")
            return 1
        for command in commands_to_try(image):
            run = subprocess.run(
                ["sh", "-c", command],
                cwd=tree,
                env=environment_of(image, scratch),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if run.returncode != 0:
                print(run.stdout)
                print(f"check_images: {name}: failed: {command}")
                return 1
        done = "packages are chosen" if image.is_for_gpus else "installed and working"
        print(f"check_images: {name}: {done}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
