"""What a kernel is made for: the facts of a device, as data.

`Target` is the only thing schedules and emitters know of a machine, so text can be emitted for a
machine other than the one at hand. `autodiff.runtime.host` finds the facts of the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from autodiff.base.errors import message

#: Features of the levels x86-64-v1 to v4, under LLVM's names: System V ABI, AMD64 Architecture
#: Processor Supplement (2020), table 3.1. Each level adds to the one before it.
_X86_V1 = frozenset({"cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})
_X86_V2 = _X86_V1 | {"cx16", "popcnt", "sahf", "sse3", "ssse3", "sse4.1", "sse4.2"}
_X86_V3 = _X86_V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
_X86_V4 = _X86_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@dataclass(frozen=True, slots=True)
class Target:
    """The facts of a device that decide what code is made for it.

    Args:
        name: LLVM's name of the processor or of its level, such as `"x86-64-v4"`.
        triple: LLVM's name of architecture, vendor, system and ABI.
        vector_bits: width of a vector register.
        features: LLVM's names of the instruction sets that may be used.
        cores: how many cores a kernel can be divided over. Decides how work is divided, never what
            the code says: it is not part of `identity`.

    >>> AVX512.lanes("float32"), AVX2.lanes("float64"), SSE2.lanes("int8")
    (16, 4, 16)
    """

    name: str
    triple: str
    vector_bits: int
    features: frozenset[str]
    cores: int = 1

    def lanes(self, dtype: DTypeLike) -> int:
        """Return how many elements of `dtype` one vector register holds, at least 1."""
        return max(1, self.vector_bits // (8 * np.dtype(dtype).itemsize))

    def has(self, feature: str) -> bool:
        """Return whether the instruction set `feature` (LLVM's name) may be used."""
        return feature in self.features

    @property
    def llvm_features(self) -> str:
        """The features as LLVM's target machine takes them.

        >>> NEON.llvm_features
        '+neon'
        """
        listed = [f"+{feature}" for feature in sorted(self.features)]
        if self.vector_bits == 512:
            # Else LLVM's tuning for several processors divides 512-bit vectors into two.
            listed.append("-prefer-256-bit")
        return ",".join(listed)

    @property
    def identity(self) -> str:
        """Text that differs whenever code made for the targets may differ.

        >>> NEON.identity
        'generic aarch64-unknown-linux-gnu 128 +neon'
        """
        return f"{self.name} {self.triple} {self.vector_bits} {self.llvm_features}"


AVX512 = Target("x86-64-v4", "x86_64-unknown-linux-gnu", 512, _X86_V4)
AVX2 = Target("haswell", "x86_64-unknown-linux-gnu", 256, _X86_V3)
SSE2 = Target("x86-64", "x86_64-unknown-linux-gnu", 128, _X86_V1)
NEON = Target("generic", "aarch64-unknown-linux-gnu", 128, frozenset({"neon"}))

#: Multiprocessors of a card of each architecture, where text is made for none in particular: those
#: of T4, A100, A10, H100, B200 and of the RTX 5090.
_MULTIPROCESSORS = {75: 40, 80: 108, 86: 72, 90: 132, 100: 148, 120: 170}


def cuda_target(name: str, cores: int | None = None) -> Target:
    """Return the facts of a GPU.

    Args:
        name: its architecture, such as `"sm_90"`.
        cores: how many multiprocessors it has; by default those of a usual card.

    Raises:
        ValueError: `name` is no architecture from `sm_75` on.

    >>> cuda_target("sm_90").lanes("float32"), cuda_target("sm_90").cores
    (4, 132)
    """
    digits = name.removeprefix("sm_")
    if name == digits or not digits.isdigit() or int(digits) < 75:
        raise ValueError(message("cuda_target", "an architecture from sm_75 on", f"name={name!r}"))
    known = [n for architecture, n in _MULTIPROCESSORS.items() if architecture <= int(digits)]
    features = frozenset({"fma"})
    return Target(name, "nvptx64-nvidia-cuda", 128, features, cores or known[-1])
