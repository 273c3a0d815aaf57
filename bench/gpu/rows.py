"""What is measured: programs with their arrays, the cost of launches and of compiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

import autodiff as ad
from autodiff.codegen.cuda_kernels import program_text
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cuda_device import load_program
from autodiff.runtime.cuda_kernels import emitted, schedule_for_cuda
from autodiff.schedule.target import cuda_target
from bench.comparison import Program
from bench.declare import OURS, Peer
from bench.gpu.card import Card, without_disk
from bench.programs import gpu, learning, rows
from bench.programs.elementwise import chain

#: Contenders that run a program as it is written.
ALL = (OURS, "cupy", "cupy.fuse", "jax", "torch.compile")
#: Contenders of programs that are not one loop over elements with at most a sum at its end.
NOT_FUSED = tuple(name for name in ALL if name != "cupy.fuse")
#: The times of these that ours has to be below, in every row that has them and is alike.
AHEAD_OF = ("jax", "torch.compile")

Arrays = Callable[[], tuple[np.ndarray, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A program on arrays, of float32 where they are of floats; every contender gets the same ones.

    Args:
        name: the row's.
        program: `(peer) -> function of arrays`.
        arguments: makes the arrays of the run.
        toy: makes small ones, on which results are compared with NumPy's before.
        instead: programs of contenders whose users would write another; NumPy's is `"numpy"`.
        contenders: who takes part, beside the copy.
        is_memory_bound: whether the row is about bytes: inputs read once, outputs written once.
        at_the_limit: whether it has to reach nearly the copy's rate.
        is_alike: whether all do the same, so that ours has to be ahead; others may add up floats
            in whatever order their threads come.
        tolerance: largest difference of results, relative to the largest element.
    """

    name: str
    program: Program
    arguments: Arrays
    toy: Arrays
    instead: Mapping[str, Program] = field(default_factory=dict)
    contenders: tuple[str, ...] = NOT_FUSED
    is_memory_bound: bool = True
    at_the_limit: bool = False
    is_alike: bool = True
    tolerance: float = 2e-5

    def of(self, peer: str) -> Program:
        """Return the program of a contender."""
        return self.instead.get(peer, self.program)


def uniform(*shapes: tuple[int, ...], low: float = 0.1) -> Arrays:
    """Return a function that returns arrays of numbers from `low` to 4, always the same."""
    return partial(_uniform, shapes, low)


def _uniform(shapes: tuple[tuple[int, ...], ...], low: float) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    arrays = []
    for shape in shapes:
        x = random.random(shape, dtype=np.float32)
        x *= np.float32(4.0 - low)
        x += np.float32(low)
        arrays.append(x)
    return tuple(arrays)


def placed(updates: tuple[int, ...], slots: int, dtype: str = "int32") -> Arrays:
    """Return a function that returns numbers and, for each of the first axis, one of `slots`."""
    return partial(_placed, updates, slots, dtype)


def _placed(updates: tuple[int, ...], slots: int, dtype: str) -> tuple[np.ndarray, ...]:
    places = np.random.default_rng(1).integers(0, slots, updates[0]).astype(dtype)
    return (*_uniform((updates,), 0.1), places)


def program_rows(moved: int) -> tuple[Row, ...]:
    """Return the rows of programs, each moving about `moved` bytes of memory."""
    one, two = moved // 4, moved // 8  # elements, where each is read; read and written
    width = 1024 if two >= 1 << 20 else 32
    square = max(8, int((moved / 12) ** 0.5) // 32 * 32)
    tensors = 100 if two >= 1 << 20 else 5
    each = max(1, moved // (28 * tensors))
    wide = (max(1, two // width), width)
    # As wide as a network of some size; a toy run has a toy.
    sizes, batch = ((4096, 4096, 4096, 1024), 4096) if two >= 1 << 24 else ((5, 4, 3), 6)
    matrix = uniform((5, 19), low=-4.0)
    return (
        Row(
            name="negative",
            program=gpu.negative,
            arguments=uniform((two,)),
            toy=uniform((37,)),
            contenders=ALL,
            at_the_limit=True,
        ),
        Row(
            name="chain of 21 operations",
            program=chain,
            arguments=uniform((two,)),
            toy=uniform((37,)),
            contenders=ALL,
            at_the_limit=True,
            # Rounding of what goes into the last cosine is as large as the results' own.
            tolerance=1e-4,
        ),
        Row(
            name="softmax of rows",
            program=rows.softmax,
            arguments=uniform(wide, low=-4.0),
            toy=matrix,
            instead={"torch.compile": rows.torch_softmax},
            at_the_limit=True,
        ),
        Row(
            name="logsumexp of rows",
            program=rows.logsumexp,
            arguments=uniform((max(1, one // width), width), low=-4.0),
            toy=matrix,
            instead={"torch.compile": rows.torch_logsumexp},
            at_the_limit=True,
        ),
        Row(
            name="layer norm of rows",
            program=gpu.layer_norm,
            arguments=uniform(wide, (width,), (width,), low=-4.0),
            toy=uniform((5, 19), (19,), (19,), low=-4.0),
            instead={"torch.compile": gpu.torch_layer_norm},
            at_the_limit=True,
        ),
        Row(
            name=f"AdamW over {tensors} tensors",
            program=gpu.adamw,
            arguments=uniform(*[(each,)] * (4 * tensors)),
            toy=uniform(*[(7,)] * 12),
        ),
        Row(
            name="sum",
            program=rows.whole_sum,
            arguments=uniform((one,)),
            toy=uniform((37,)),
            contenders=ALL,
            at_the_limit=True,
        ),
        Row(
            # Each element is read twice unless it is still in the cache.
            name="running sum",
            program=rows.running_sums,
            arguments=uniform((two,)),
            toy=uniform((37,)),
        ),
        Row(
            name="running sums of rows",
            program=rows.running_sums_of_rows,
            arguments=uniform(wide),
            toy=uniform((5, 19)),
        ),
        Row(
            name="sum of squared differences",
            program=gpu.sum_of_squared_differences,
            arguments=uniform((two,), (two,), low=-4.0),
            toy=uniform((37,), (37,), low=-4.0),
            contenders=ALL,
            at_the_limit=True,
        ),
        *_scattered(moved),
        Row(
            name="transposed sum",
            program=gpu.transposed_sum,
            arguments=uniform((square, square), (square, square)),
            toy=uniform((5, 7), (7, 5)),
        ),
        Row(
            name=f"training step of a network {'-'.join(map(str, sizes))}, batch {batch}",
            program=learning.training_step_by_hand,
            arguments=partial(learning.network_arguments, sizes, batch, "float32"),
            toy=partial(learning.network_arguments, (5, 4, 3), 6, "float32"),
            instead={OURS: learning.training_step, "jax": learning.training_step},
            is_memory_bound=False,
            # Rounding decides on which side of its corner a relu is whose argument is nearly zero,
            # and with it whether one example takes part in a few derivatives.
            tolerance=0.2,
        ),
    )


def _scattered(moved: int) -> tuple[Row, ...]:
    """Return the rows of updates at places: four to a row, six to a segment, many to a bin."""
    width = 1024 if moved >= 1 << 23 else 32
    tokens = max(2, moved // (4 * width) * 4 // 5)
    slots = max(1, tokens // 4)
    count, bins = max(2, moved // 8), 256
    segments = max(1, count // 6)
    return (
        Row(
            name=f"gradient of an embedding of {width} elements",
            program=gpu.added_rows(slots, width),
            arguments=placed((tokens, width), slots),
            toy=placed((max(2, slots // 2), width), slots),
            instead={
                OURS: gpu.added_at(slots, width),
                "jax": gpu.jax_added_at(slots, width),
                "torch.compile": gpu.torch_added_at(slots, width),
            },
            is_alike=False,
        ),
        Row(
            name="sums by segment",
            program=gpu.added_numbers(segments),
            arguments=placed((count,), segments),
            toy=placed((300,), segments),
            instead={
                OURS: gpu.added_at(segments),
                "jax": gpu.jax_added_at(segments),
                "torch.compile": gpu.torch_added_at(segments),
            },
            is_alike=False,
        ),
        Row(
            name=f"histogram of {bins} bins",
            program=gpu.counts(bins),
            arguments=lambda: placed((2 * count,), bins)()[1:],
            toy=lambda: placed((5000,), bins)()[1:],
            instead={
                OURS: gpu.counted_at(bins),
                "jax": gpu.jax_counts(bins),
                "torch.compile": gpu.torch_counts(bins),
            },
        ),
    )


#: Kernels of the programs whose launches are timed.
COUNTS = (1, 4, 16)
#: Rows and columns of their array: so few that a kernel is over before the next one is launched.
FEW = 32


def launch_row(count: int) -> str:
    """Return the name of the row about programs of `count` kernels."""
    return f"host's time of a program of {count} kernel{'s' if count > 1 else ''}"


FIRST = "compiling the chain, from its text to a loaded program"
KEPT = "loading the chain from the disk cache"
FIRST_CALL = "first call of the chain, tracing and compiling included"


def chain_text(card: Card) -> str:
    """Return the text of the chain's program for a card."""
    f = chain(Peer(name=OURS, version="", numpy=np))
    return text_of(f, np.ones(1 << 20, np.float32), card.device.facts["architecture"])


def text_of(f: Callable[[Any], Any], x: np.ndarray, architecture: str) -> str:
    """Return the text of a function's kernels, the first of which is `kernel_0`."""
    graph = simplify(ad.make_graph(f)(x))
    return program_text(emitted(schedule_for_cuda(graph).graph, cuda_target(architecture)))


def kernel_count(f: Callable[..., Any], arrays: tuple[Any, ...], architecture: str) -> int:
    """Return how many kernels of this library a call of `f` launches."""
    graph = simplify(ad.make_graph(f)(*arrays))
    return len(emitted(schedule_for_cuda(graph).graph, cuda_target(architecture)))


def compiling(card: Card) -> Callable[[], float]:
    """Return a call that compiles the chain, and says how long that took."""
    text = chain_text(card)

    def call() -> float:
        with without_disk():
            start = perf_counter()
            load_program(card.device, text).function("kernel_0")
            return perf_counter() - start

    return call


def loading(card: Card, folder: str) -> Callable[[], float]:
    """Return a call that loads the chain from disk, and says how long that took."""
    text = chain_text(card)

    def call() -> float:
        with ad.override(cache_dir=f"{folder}/kernels"):
            start = perf_counter()
            load_program(card.device, text).function("kernel_0")
            return perf_counter() - start

    call()  # writes what the others read
    return call


def first_call(card: Card, peer: Peer) -> Callable[[], float]:
    """Return a call that makes the chain's program anew each time, and says how long that took."""
    assert peer.jit is not None
    jit, f, ready = peer.jit, chain(peer), peer.ready
    x = peer.numpy.asarray(np.linspace(0.1, 4.0, 1000, dtype=np.float32))
    constants = np.random.default_rng()

    def call() -> float:
        number = float(constants.uniform(1.0, 2.0))  # no compiled program has had it before
        card.synchronize()
        with without_disk():
            start = perf_counter()
            ready(jit(lambda v: f(v) * number)(x))
            card.synchronize()
            return perf_counter() - start

    return call


def bytes_of(value: Any) -> int:
    """Return the bytes of arrays of any library, in nested tuples and lists."""
    if isinstance(value, tuple | list):
        return sum(map(bytes_of, value))
    return prod(value.shape) * value.dtype.itemsize
