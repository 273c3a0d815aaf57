"""What each kernel of the test programs takes of a GPU, as NVRTC's assembler counts it.

`python -m tests.codegen.cuda_resources` writes the table that the tests compare with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autodiff.codegen.cuda_kernels import program_text
from autodiff.runtime import nvrtc
from autodiff.schedule.target import cuda_target
from tests.codegen.cuda_programs import PROGRAMS, kernels_of

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
TABLE = Path(__file__).with_name("golden") / "cuda_resources.txt"

_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Resources:
    """Registers of a thread; bytes of its stack and of what it spills; shared bytes of a block."""

    registers: int
    stack: int
    spilled: int
    shared: int

    def __str__(self) -> str:
        parts = [str(self.registers)]
        for letter, size in (("s", self.stack), ("!", self.spilled), ("m", self.shared)):
            parts += [f"{letter}{size}"] if size else []
        return "+".join(parts)


@cache
def resources(architecture: str) -> dict[str, Resources]:
    """Return what each kernel takes on an architecture, by the kernel's name."""
    target = cuda_target(architecture)
    kernels = [made for program in PROGRAMS for made in kernels_of(program, target)]
    options = (*nvrtc.OPTIONS, "--ptxas-options=-v")
    _, log = nvrtc.compile_with_log(program_text(kernels), architecture, options)
    found: dict[str, Resources] = {}
    for part in log.split("Compiling entry function")[1:]:
        name = re.match(r" '(\w+)'", part)
        frames, used = _FRAME.findall(part), _USED.search(part)
        shared = _SHARED.search(part)
        assert name and frames and used, part
        found[name.group(1)] = Resources(
            int(used.group(1)),
            max(int(stack) for stack, _, _ in frames),
            sum(int(stores) + int(loads) for _, stores, loads in frames),
            int(shared.group(1)) if shared else 0,
        )
    return found


def table() -> str:
    """Return the table of all kernels and architectures."""
    columns = {architecture: resources(architecture) for architecture in ARCHITECTURES}
    version = ".".join(map(str, nvrtc.version() or ()))
    names = sorted(columns[ARCHITECTURES[0]])
    lines = [
        f"NVRTC {version}: registers of a thread, +s bytes of its stack, +! bytes spilled, "
        "+m bytes of shared memory",
        "",
        f"{'':28}" + "".join(f"{architecture:>12}" for architecture in ARCHITECTURES),
    ]
    for name in names:
        cells = "".join(f"{column[name]!s:>12}" for column in columns.values())
        lines.append(f"{name:28}{cells}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
