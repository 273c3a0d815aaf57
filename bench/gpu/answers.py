"""Questions that only a card answers, and what constants of the emitter hang on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

import autodiff as ad
from autodiff.codegen import (
    cuda_elementwise,
    cuda_reductions,
    cuda_scans,
    cuda_scatters,
    cuda_text,
)
from autodiff.schedule import together
from bench.declare import OURS, Peer
from bench.gpu.card import Card, loops_of
from bench.gpu.contenders import COPY
from bench.gpu.rows import chain_text
from bench.gpu.timing import Outcome
from bench.programs import elementwise, gpu, rows

NUMPY = Peer(name=OURS, version="", numpy=np)
NOT_MEASURED = "not measured"

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


@dataclass(frozen=True, slots=True)
class Trial:
    """A constant of the emitter, tried at several values by a program's rate.

    Args:
        question: what is to be known.
        module: where the constant is.
        name: the constant's.
        values: what it is given.
        program: a function, of one array, that is multiplied by a number at its end.
        length: of the array's rows; None for an array of one axis.
        before: whether the array is multiplied instead: the result would be by another kernel.
    """

    question: str
    module: ModuleType
    name: str
    values: tuple[int, ...]
    program: Callable[[Any], Any]
    length: int | None = None
    before: bool = False

    def function(self, by: float) -> Callable[[Any], Any]:
        """Return the program, made another one by a number, so that its kernel is emitted anew."""
        if self.before:
            return lambda x: self.program(x * by)
        return lambda x: self.program(x) * by

    def shape(self, count: int) -> tuple[int, ...]:
        """Return the shape of an array of about `count` elements."""
        if self.length is None:
            return (count,)
        length = min(self.length, count)
        return count // length, length


def _added_rows(x: Any) -> Any:
    """Return rows added up at places, four to each."""
    count, width = x.shape
    slots = max(1, count // 4)
    places = np.random.default_rng(0).integers(0, slots, count)
    return gpu.added_at(slots, width)(NUMPY)(x, places)


TRIALS = (
    Trial(
        "How many threads should a block of an elementwise kernel have?",
        cuda_elementwise,
        "THREADS",
        (128, 256, 512, 1024),
        elementwise.chain(NUMPY),
    ),
    Trial(
        "How many neighbouring points of float32 should a thread take together?",
        cuda_text,
        "MOST_LANES",
        (1, 2, 4),
        lambda x: x,
    ),
    Trial(
        "From how many instructions on should a thread take one point? (The chain has about 500.)",
        cuda_text,
        "HEAVY",
        (0, 1_000_000),
        elementwise.chain(NUMPY),
    ),
    Trial(
        "Up to which length should a warp take a row? (Rows of 1024 points.)",
        cuda_reductions,
        "WARP_ROW",
        (512, 1024),
        rows.softmax(NUMPY),
        1024,
    ),
    Trial(
        "How many registers may a row of 16384 points take of a thread? (With 0 it is read again.)",
        cuda_reductions,
        "KEPT_REGISTERS",
        (0, 80),
        rows.softmax(NUMPY),
        16384,
    ),
    Trial(
        "How many columns of rows of 256 that are added up at places should a thread take?",
        cuda_scatters,
        "EACH",
        (1, 2, 4, 8),
        _added_rows,
        256,
        before=True,
    ),
    Trial(
        "How many updates should a thread load before it adds up the first?",
        cuda_scatters,
        "LOADED",
        (2, 4, 8, 16),
        _added_rows,
        256,
        before=True,
    ),
    Trial(
        "How many stretches of a tile of a running sum should a thread take?",
        cuda_scans,
        "STEPS",
        (1, 2, 4),
        rows.running_sums(NUMPY),
    ),
)


def answers(card: Card, found: Outcome, moved: int) -> list[Answer]:
    """Return the questions with what the card says.

    Args:
        card: the device.
        found: the rows measured before.
        moved: bytes that programs move.
    """
    return list(_answers(card, found, moved))


def _answers(card: Card, found: Outcome, moved: int) -> Iterator[Answer]:
    questions: list[tuple[str, Callable[[], str]]] = [
        ("Does the driver load the compiler's programs?", partial(_loads, card)),
        ("What does a launch cost?", partial(_launches, card)),
        ("How fast is memory that is only read?", partial(_reads, found)),
        ("How fast is the softmax of rows of other lengths?", partial(_lengths, card, moved)),
        ("Does one launch over many small arrays pay?", partial(_together, card, moved)),
        *[(trial.question, partial(_tried, card, moved, trial)) for trial in TRIALS],
    ]
    for question, ask in questions:
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
    stream, one = card.device.stream(), (1, 1, 1)
    launch = partial(function.launcher(one, one, 0, block), stream)

    launch()
    host = _median(partial(card.host_seconds, launch), loops=500)
    apart = _median(partial(card.seconds, launch), loops=500)
    return f"{host * 1e6:.2f} us of the host, {apart * 1e6:.2f} us from kernel to kernel"


def _reads(found: Outcome) -> str:
    """Compare the sum, which only reads, with the copy of as many bytes."""
    moved = found.moved["sum"]
    rates = {name: moved / found.results.median("sum", name) * 1e-3 for name in (OURS, COPY)}
    return f"{rates[OURS]:,.0f} GB/s by the sum; by the copy {rates[COPY]:,.0f}, half of it read"


def _tried(card: Card, moved: int, trial: Trial) -> str:
    """Time a program, emitted with a constant at several values."""
    shape = trial.shape(moved // 8)
    x = card.arrays.asarray(np.linspace(0.1, 4.0, prod(shape), dtype=np.float32).reshape(shape))
    found = []
    for i, value in enumerate(trial.values):
        with patch.object(trial.module, trial.name, value):
            call = partial(ad.jit(trial.function(1.5 + i)), x)
            call()  # emits and compiles
        found.append(_rate(card, call, x.size * 8))
    now = getattr(trial.module, trial.name)
    return f"{_listed(trial.values, found)} (now {now})"


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


def _together(card: Card, moved: int) -> str:
    """Time the update of small tensors in as few launches as can be, and in one launch for each."""
    count = 100 if moved >= 1 << 20 else 3
    tensors = [card.arrays.asarray(np.full(1000, 0.5, np.float32)) for _ in range(4 * count)]
    update = gpu.adamw(NUMPY)
    seconds = []
    for by, most in ((1.5, together.MOST_BYTES), (2.5, 0)):
        with patch.object(together, "MOST_BYTES", most):
            step = ad.jit(lambda *x, by=by: [y * by for y in update(*x)])
            call = partial(step, *tensors)
            call()  # emits and compiles
        timed = partial(card.seconds, call)
        seconds.append(_median(timed, loops_of(timed)) * 1e6)
    return f"{count} of 1,000 elements: {seconds[0]:,.0f} us; one by one {seconds[1]:,.0f} us"


def _rate(card: Card, call: Callable[[], object], moved: int) -> float:
    """Return the bytes per second that a call moves."""
    call()
    seconds = partial(card.seconds, call)
    return moved / _median(seconds, loops_of(seconds))


def _median(seconds: Callable[[int], float], loops: int, rounds: int = 5) -> float:
    return float(np.median([seconds(loops) for _ in range(rounds)]))


def _listed(names: Sequence[int], rates: Sequence[float]) -> str:
    return ", ".join(f"{n}: {rate * 1e-9:,.0f} GB/s" for n, rate in zip(names, rates, strict=True))
