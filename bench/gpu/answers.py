"""Questions that only a card answers, and what constants of the emitter hang on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np

import autodiff as ad
from autodiff.codegen import cuda_elementwise, cuda_reductions
from bench.declare import OURS, Peer
from bench.gpu.card import Card, loops_of
from bench.gpu.contenders import COPY
from bench.gpu.rows import chain_text
from bench.gpu.timing import Outcome
from bench.programs import elementwise, rows

NUMPY = Peer(name=OURS, version="", numpy=np)
NOT_MEASURED = "not measured"

#: Threads of a block that are tried.
THREADS = (128, 256, 512, 1024)
#: Lengths of rows, around those from which on a block takes a row, and does not keep it.
LENGTHS = (256, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

_NOTHING = """
extern "C" __global__ void nothing(unsigned* x) {}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with what a run found."""

    question: str
    answer: str


def answers(card: Card, found: Outcome, moved: int) -> list[Answer]:
    """Return the questions with what the card says.

    Args:
        card: the device.
        found: the rows measured before.
        moved: bytes that programs move.
    """
    return list(_answers(card, found, moved))


def _answers(card: Card, found: Outcome, moved: int) -> Iterator[Answer]:
    for question, ask in (
        ("Does the driver load the compiler's programs?", partial(_loads, card)),
        ("What does a launch cost?", partial(_launches, card)),
        ("How fast is memory that is only read?", partial(_reads, found)),
        (
            "How many threads should a block of an elementwise kernel have?",
            partial(_blocks, card, moved),
        ),
        (
            f"Up to which length should a block keep a row? {_row_limits()}",
            partial(_lengths, card, moved),
        ),
    ):
        try:
            answer = ask()
        except Exception as error:  # of drivers and compilers: the other questions stay
            answer = f"{NOT_MEASURED}: {type(error).__name__}: {error}"
        card.give_back()
        yield Answer(question, answer)
    yield Answer(
        "From how many kernels on does a CUDA graph pay?",
        f"{NOT_MEASURED}: programs are launched kernel by kernel, no graph is made",
    )
    yield Answer(
        "How many tiles should a thread take?",
        f"{NOT_MEASURED}: a thread takes one vector, {cuda_elementwise.STEPS} points where there "
        "are no vectors",
    )


def _loads(card: Card) -> str:
    """Tell whether a program of the compiler is loaded; for a newer card it is not machine code."""
    compiled = card.device.compile(chain_text(card))
    card.device.load(compiled).function("kernel_0")
    kind = "machine code" if compiled[:4] == b"\x7fELF" else "text for the driver's own compiler"
    told = ("architecture", "compiler", "driver runs CUDA")
    facts = ", ".join(f"{name} {card.facts[name]}" for name in told if name in card.facts)
    kind = "a library of the emulator" if card.is_emulated else kind
    return f"yes, {kind} of {len(compiled):,} bytes ({facts})"


def _launches(card: Card) -> str:
    """Time kernels that do nothing: what the host is busy with, and how far apart they run."""
    program = card.device.load(card.device.compile(_NOTHING))
    function = program.function("nothing")
    value = ctypes.c_void_p(0)
    block = (ctypes.c_void_p * 1)(ctypes.addressof(value))
    address, stream = ctypes.addressof(block), card.device.stream()
    one = (1, 1, 1)

    def launch() -> None:
        function.launch(one, one, 0, address, stream)

    launch()
    host = _median(partial(card.host_seconds, launch), loops=500)
    apart = _median(partial(card.seconds, launch), loops=500)
    return f"{host * 1e6:.2f} us of the host, {apart * 1e6:.2f} us from kernel to kernel"


def _reads(found: Outcome) -> str:
    """Compare the sum, which only reads, with the copy of as many bytes."""
    moved = found.moved["sum"]
    rates = {name: moved / found.results.median("sum", name) * 1e-3 for name in (OURS, COPY)}
    return f"{rates[OURS]:,.0f} GB/s by the sum; by the copy {rates[COPY]:,.0f}, half of it read"


def _blocks(card: Card, moved: int) -> str:
    """Time the chain, emitted with blocks of other sizes."""
    chain = elementwise.chain(NUMPY)
    x = card.arrays.asarray(np.linspace(0.1, 4.0, moved // 8, dtype=np.float32))
    found = []
    for threads in THREADS:
        with patch.object(cuda_elementwise, "THREADS", threads):
            # The number makes it a kernel that has not been emitted before.
            call = partial(ad.jit(lambda x, by=threads: chain(x) + 1.0 / by), x)
            call()
            call()
        found.append(_rate(card, call, moved))
    return _listed(THREADS, found)


def _row_limits() -> str:
    return f"(now a warp takes rows of up to {cuda_reductions.WARP_ROW} points)"


def _lengths(card: Card, moved: int) -> str:
    """Time the softmax of as many numbers in rows of several lengths."""
    softmax = ad.jit(rows.softmax(NUMPY))
    count = moved // 8
    lengths = [n for n in LENGTHS if n <= count]
    found = []
    for n in lengths:
        x = card.arrays.asarray(np.zeros((count // n, n), np.float32))
        found.append(_rate(card, partial(softmax, x), x.size * 8))
        del x
        card.give_back()
    return _listed(lengths, found)


def _rate(card: Card, call: Callable[[], object], moved: int) -> float:
    """Return the bytes per second that a call moves."""
    call()
    seconds = partial(card.seconds, call)
    return moved / _median(seconds, loops_of(seconds))


def _median(seconds: Callable[[int], float], loops: int, rounds: int = 5) -> float:
    return float(np.median([seconds(loops) for _ in range(rounds)]))


def _listed(names: Sequence[int], rates: Sequence[float]) -> str:
    return ", ".join(f"{n}: {rate * 1e-9:,.0f} GB/s" for n, rate in zip(names, rates, strict=True))
