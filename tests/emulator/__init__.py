"""Runs CUDA kernels on the CPU, from the text that NVRTC compiles, and finds what is wrong in them.

`compile(source)` gives a module, whose `launch` runs a kernel on arrays, best on those that
`allocate` makes. README.md says what is checked and what is not.
"""

from tests.emulator.compiler import EmulatorError
from tests.emulator.launcher import Kernel, Module, compile
from tests.emulator.memory import allocate, guarded

__all__ = ["EmulatorError", "Kernel", "Module", "allocate", "compile", "guarded"]
