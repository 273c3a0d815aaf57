"""Kernels as a generator would write them give NumPy's results, whatever the order of threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import emulator

SEEDS = (0, 1, 2)
BOTH = pytest.mark.parametrize("race", [False, True], ids=["fast", "checked"])


def draw(shape, dtype):
    values = np.random.default_rng(7).integers(-50, 50, shape)
    return emulator.guarded(values.astype(dtype), alignment=16)


VECTORISED = """
struct __align__(16) Four { float x[4]; };
extern "C" __global__ void polynomial(float* __restrict__ out, const float* __restrict__ a,
                                      const float* __restrict__ b, unsigned n) {
  unsigned i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    Four p = AD_LD(reinterpret_cast<const Four*>(a + i));
    Four q = AD_LD(reinterpret_cast<const Four*>(b + i));
    for (int k = 0; k < 4; ++k) p.x[k] = sqrtf(fabsf(p.x[k] * q.x[k] + 0.3f)) / (q.x[k] - 0.7f);
    AD_ST(reinterpret_cast<Four*>(out + i), p);
  } else {
    for (; i < n; ++i) {
      float p = AD_LD(a + i), q = AD_LD(b + i);
      AD_ST(out + i, sqrtf(fabsf(p * q + 0.3f)) / (q - 0.7f));
    }
  }
}
"""


@BOTH
@pytest.mark.parametrize("n", [1, 3, 4, 1000, 1003])
def test_a_vectorised_elementwise_kernel_is_numpys_bit_for_bit(n, race):
    module = emulator.compile(VECTORISED, race=race)
    a, b = draw(n, np.float32), draw(n, np.float32)
    out = emulator.allocate(n, np.float32, alignment=16)
    f = np.float32
    expected = np.sqrt(np.abs(a * b + f(0.3))) / (b - f(0.7))
    for seed in SEEDS:
        out[:] = np.nan
        module.launch("polynomial", -(-n // 256), 64, 0, [out, a, b, np.uint32(n)], seed)
        np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))


BLOCK_SUM = """
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int delta = 16; delta; delta /= 2) x += __shfl_xor_sync(0xffffffffu, x, delta);
  return x;
}
template <class T>
__device__ __forceinline__ T block_sum(T x) {
  __shared__ T of_warp[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  x = warp_sum(x);
  if (lane == 0) AD_ST(of_warp + warp, x);
  __syncthreads();
  x = threadIdx.x < blockDim.x / 32 ? AD_LD(of_warp + threadIdx.x) : T(0);
  return warp == 0 ? warp_sum(x) : x;
}
"""

# The last block to take a ticket adds up what all have written, in the order of the blocks.
TICKET_SUM = """
extern "C" __global__ void sum_TYPE(TYPE* out, TYPE* parts, unsigned* ticket, const TYPE* x,
                                    int n) {
  __shared__ bool is_last;
  TYPE sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    sum += AD_LD(x + i);
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    AD_ST(parts + blockIdx.x, sum);
    __threadfence();
    AD_ST(&is_last, atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1);
  }
  __syncthreads();
  if (!AD_LD(&is_last)) return;
  __threadfence();
  sum = threadIdx.x < gridDim.x ? AD_LD(parts + threadIdx.x) : 0;
  sum = block_sum(sum);
  if (threadIdx.x == 0) AD_ST(out, sum);
}
"""
SUMS = BLOCK_SUM + "".join(TICKET_SUM.replace("TYPE", kind) for kind in ("int", "float", "double"))


@BOTH
@pytest.mark.parametrize("kind", ["int", "float", "double"])
def test_a_sum_by_shuffles_shared_memory_and_tickets_is_exact_in_any_order(kind, race):
    module = emulator.compile(SUMS, race=race)
    dtype = {"int": np.int32, "float": np.float32, "double": np.float64}[kind]
    x = draw(5003, dtype)
    parts, out = emulator.allocate(7, dtype), emulator.allocate(1, dtype)
    ticket = emulator.guarded(np.zeros(1, np.uint32))
    for seed in (*SEEDS, 3, 4):
        out[:] = 99
        module.launch(f"sum_{kind}", 7, 128, 0, [out, parts, ticket, x, len(x)], seed)
        assert out[0] == x.sum()
        assert ticket[0] == 0


HISTOGRAM = """
extern "C" __global__ void histogram(unsigned* counts, const int* x, int n, int bins) {
  extern __shared__ unsigned of_block[];
  for (int i = threadIdx.x; i < bins; i += blockDim.x) AD_ST(of_block + i, 0u);
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(of_block + AD_LD(x + i), 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < bins; i += blockDim.x) atomicAdd(counts + i, AD_LD(of_block + i));
}
"""


@BOTH
def test_a_histogram_is_bincount(race):
    module = emulator.compile(HISTOGRAM, race=race)
    x = emulator.guarded(np.random.default_rng(3).integers(0, 37, 4001).astype(np.int32))
    for seed in SEEDS:
        counts = emulator.guarded(np.zeros(37, np.uint32))
        module.launch("histogram", 5, 96, 37 * 4, [counts, x, len(x), 37], seed)
        np.testing.assert_array_equal(counts, np.bincount(x, minlength=37))


# One warp for each row, which stays in registers.
SOFTMAX = """
extern "C" __global__ void softmax(float* out, const float* x, int rows, int columns) {
  int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
  if (row >= rows) return;
  float held[8], largest = -__int_as_float(0x7f800000), sum = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    int j = 32 * k + lane;
    held[k] = j < columns ? AD_LD(x + row * columns + j) : -__int_as_float(0x7f800000);
    largest = fmaxf(largest, held[k]);
  }
  for (int d = 16; d; d /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
#pragma unroll
  for (int k = 0; k < 8; ++k) sum += held[k] = expf(held[k] - largest);
  for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  for (int k = 0; k < 8; ++k) {
    int j = 32 * k + lane;
    if (j < columns) AD_ST(out + row * columns + j, held[k] / sum);
  }
}
"""


@BOTH
@pytest.mark.parametrize("columns", [1, 31, 200, 256])
def test_softmax_of_rows(columns, race):
    module = emulator.compile(SOFTMAX, race=race)
    x = draw((13, columns), np.float32)
    expected = np.exp(x - x.max(1, keepdims=True), dtype=np.float64)
    expected /= expected.sum(1, keepdims=True)
    for seed in SEEDS:
        out = emulator.allocate(x.shape, np.float32)
        module.launch("softmax", 4, (32, 4), 0, [out, x, *x.shape], seed)
        # A sum of 256 terms and a quotient, each within half a unit in the last place of float32.
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-30)


# Every thread draws its lane's value and votes; groups of the same value are counted.
WARP = """
extern "C" __global__ void exchange(int* out, const int* x) {
  unsigned all = 0xffffffffu, lane = threadIdx.x;
  int mine = AD_LD(x + lane);
  int* row = out + 10 * lane;
  AD_ST(row + 0, __shfl_sync(all, mine, 5));
  AD_ST(row + 1, __shfl_sync(all, mine, lane + 1, 8));
  AD_ST(row + 2, __shfl_up_sync(all, mine, 3, 16));
  AD_ST(row + 3, __shfl_down_sync(all, mine, 3, 16));
  AD_ST(row + 4, __shfl_xor_sync(all, mine, 9));
  AD_ST(row + 5, int(__ballot_sync(all, mine > 0)));
  AD_ST(row + 6, __any_sync(all, mine > 40) * 2 + __all_sync(all, mine > -60));
  AD_ST(row + 7, int(__match_any_sync(all, mine & 3)));
  AD_ST(row + 8, int(__shfl_sync(all, 1.5 * mine, 31)));
  int below = 0;
  if (mine > 0) {  // those that are here together elect one that adds for all
    unsigned here = __activemask();
    int leader = __ffs(here) - 1, old = 0;
    if (int(lane) == leader) old = atomicAdd(out + 320, __popc(here));
    old = __shfl_sync(here, old, leader);
    below = old + __popc(here & ((1u << lane) - 1)) + 1;
  }
  AD_ST(row + 9, below);
}
"""


@BOTH
def test_exchanges_of_a_warp_are_as_cuda_defines_them(race):
    module = emulator.compile(WARP, race=race)
    x = draw(32, np.int32)
    lane = np.arange(32)
    segment, within = lane & ~15, lane & 15
    bits = lambda mask: (mask.astype(np.int64) << lane).sum().astype(np.uint32).view(np.int32)
    expected = [
        np.full(32, x[5]),
        x[(lane & ~7) + (lane + 1 & 7)],
        np.where(within >= 3, x[lane - 3], x),
        np.where(within + 3 < 16, x[np.minimum(lane + 3, 31)], x),
        x[lane ^ 9],
        np.full(32, bits(x > 0)),
        np.full(32, 2 * np.any(x > 40) + np.all(x > -60)),
        [bits(x & 3 == value) for value in x & 3],
        np.full(32, np.trunc(1.5 * x[31])),
    ]
    assert segment.max() == 16
    for seed in range(6):
        out = emulator.allocate(321, np.int32)
        out[320] = 0
        module.launch("exchange", 1, 32, 0, [out, x], seed)
        columns = out[:320].reshape(32, 10).T
        np.testing.assert_array_equal(columns[:9], expected)
        count = np.count_nonzero(x > 0)
        assert out[320] == count
        np.testing.assert_array_equal(np.sort(columns[9][x > 0]), np.arange(count) + 1)


# Lanes below and above 16 go round loops of different lengths, each half with a mask of its own.
HALVES = """
extern "C" __global__ void halves(int* out, const int* x) {
  int lane = threadIdx.x, sum = AD_LD(x + lane);
  unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  if (lane < 16) {
    for (int d = 8; d; d /= 2) sum += __shfl_xor_sync(half, sum, d);
  } else {
    for (int round = 0; round < 3; ++round) {
      sum = __shfl_sync(half, sum, lane + 1, 16);
      if (lane % 3 == round) sum += __popc(__activemask()) * 0;
      __syncwarp(half);
    }
  }
  __syncthreads();
  AD_ST(out + lane, sum);
}
"""


@BOTH
def test_halves_of_a_warp_may_go_different_ways(race):
    x, out = draw(32, np.int32), emulator.allocate(32, np.int32)
    module = emulator.compile(HALVES, race=race)
    expected = np.concatenate([np.full(16, x[:16].sum()), np.roll(x[16:], -3)])
    for seed in range(6):
        module.launch("halves", 1, 32, 0, [out, x], seed)
        np.testing.assert_array_equal(out, expected)


def test_without_code_for_the_processor_the_c_library_switches_between_threads():
    program = """
import numpy as np
from functools import partial
from tests.conftest import ROOT  # configures the cache of compiled programs
from tests.emulator import allocate, compile, compiler, guarded, launcher
from tests.emulator.test_results import SUMS
launcher.runtime = partial(compiler.runtime, portable=True)
x = guarded(np.arange(5000, dtype=np.int32))
out, parts = allocate(1, np.int32), allocate(7, np.int32)
ticket = guarded(np.zeros(1, np.uint32))
compile(SUMS).launch("sum_int", 7, 128, 0, [out, parts, ticket, x, len(x)], 1)
print(out[0] == x.sum())
"""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False
    )
    assert run.stdout == "True\n", run.stderr
