"""Bugs planted in kernels are found, each with the thread and the line of the text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests import emulator
from tests.emulator import EmulatorError, compiler

SEEDS = (0, 1, 2)

#: Of two threads without a barrier, the one that reads may come first.
UNORDERED = "no barrier orders the two|shared memory must be written before it is read"


def floats(n, alignment=None):
    return emulator.guarded(np.arange(n, dtype=np.float32), alignment=alignment)


def line_of(source, mark):
    """Return the number of the line with a mark, and its text."""
    lines = source.split("\n")
    (number,) = [i for i, line in enumerate(lines, 1) if mark in line]
    return number, lines[number - 1]


def kernel(parameters, body):
    return f'extern "C" __global__ void planted({parameters}) {{{body}}}\n'


def expect(source, says, grid, block, parameters, *, mark="// here", race=False, seed=0, shared=0):
    """Launch and compare the error: its sentence, and the line with `mark`."""
    module = emulator.compile(source, race=race)
    with pytest.raises(EmulatorError) as caught:
        module.launch("planted", grid, block, shared, parameters, seed)
    found = str(caught.value)
    number, text = line_of(source, mark)
    assert re.match(rf"kernel `planted`, block \(.*\), thread \(.*\), line {number}: ", found), (
        found
    )
    assert re.search(says, found), found
    assert f"{number:6} | {text}" in found
    return found


# ---- threads that do not wait for each other

REVERSED = """
  __shared__ float tile[64];
  int i = threadIdx.x;
  AD_ST(tile + i, AD_LD(x + i));
  BARRIER
  AD_ST(out + i, AD_LD(tile + 63 - i)); // here
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_barrier_gives_nan(seed):
    x, out = floats(64), emulator.allocate(64, np.float32)
    source = kernel("float* out, const float* x", REVERSED)
    right = emulator.compile(source.replace("BARRIER", "__syncthreads();"))
    right.launch("planted", 1, 64, 0, [out, x], seed)
    np.testing.assert_array_equal(out, x[::-1])
    wrong = emulator.compile(source.replace("BARRIER", ""))
    wrong.launch("planted", 1, 64, 0, [out, x], seed)
    assert np.isnan(out).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("barrier", ["", "__syncwarp();"])
def test_a_missing_barrier_is_a_race(seed, barrier):
    x, out = floats(64), emulator.allocate(64, np.float32)
    source = kernel("float* out, const float* x", REVERSED)
    module = emulator.compile(source.replace("BARRIER", barrier), race=True)
    with pytest.raises(EmulatorError, match=UNORDERED):
        module.launch("planted", 1, 64, 0, [out, x], seed)
    right = emulator.compile(source.replace("BARRIER", "__syncthreads();"), race=True)
    right.launch("planted", 1, 64, 0, [out, x], seed)


WARP_REVERSED = """
  __shared__ float tile[32];
  int i = threadIdx.x;
  AD_ST(tile + i, AD_LD(x + i));
  BARRIER
  AD_ST(out + i, AD_LD(tile + 31 - i));
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_warp_barrier_gives_nan_and_is_a_race(seed):
    x, out = floats(32), emulator.allocate(32, np.float32)
    source = kernel("float* out, const float* x", WARP_REVERSED)
    # A shuffle makes lanes meet, but orders no memory.
    for barrier, is_nan, is_race in (
        ("", True, True),
        ("__shfl_xor_sync(0xffffffffu, i, 1);", False, True),
        ("__syncwarp(i < 16 ? 0xffffu : 0xffff0000u);", False, True),
        ("__syncwarp();", False, False),
    ):
        text = source.replace("BARRIER", barrier)
        emulator.compile(text).launch("planted", 1, 32, 0, [out, x], seed)
        assert np.isnan(out).any() == is_nan
        checked = emulator.compile(text, race=True)
        if is_race:
            with pytest.raises(EmulatorError, match=UNORDERED):
                checked.launch("planted", 1, 32, 0, [out, x], seed)
        else:
            checked.launch("planted", 1, 32, 0, [out, x], seed)


def test_a_warp_barrier_of_some_lanes_orders_those():
    source = kernel(
        "float* out, const float* x",
        """
  __shared__ float tile[32];
  int i = threadIdx.x;
  AD_ST(tile + i, AD_LD(x + i));
  __syncwarp(i < 16 ? 0xffffu : 0xffff0000u);
  AD_ST(out + i, AD_LD(tile + (i ^ 15)));
""",
    )
    x, out = floats(32), emulator.allocate(32, np.float32)
    for seed in SEEDS:
        emulator.compile(source, race=True).launch("planted", 1, 32, 0, [out, x], seed)
        np.testing.assert_array_equal(out, x[np.arange(32) ^ 15])


@pytest.mark.parametrize("read", ["AD_LD(tile + 32 + threadIdx.x)", "atomicAdd(tile + 40, 1)"])
def test_shared_memory_that_is_read_before_it_is_written(read):
    source = kernel(
        "int* out",
        f"""
  __shared__ int tile[64];
  AD_ST(tile + threadIdx.x, 1);
  __syncthreads();
  AD_ST(out + threadIdx.x, {read}); // here
""",
    )
    out = emulator.allocate(32, np.int32)
    expect(source, "shared memory must be written before", 1, 32, [out], race=True)


def test_shared_memory_that_an_earlier_block_has_written():
    source = kernel(
        "int* out",
        """
  __shared__ int tile;
  if (blockIdx.x == 0) AD_ST(&tile, 1);
  AD_ST(out + blockIdx.x, AD_LD(&tile)); // here
""",
    )
    out = emulator.allocate(2, np.int32)
    emulator.compile(source, race=True).launch("planted", 1, 1, 0, [out])
    found = expect(source, "shared memory must be written before", 2, 1, [out], race=True)
    assert "block (1, 0, 0)" in found


# ---- barriers that some threads do not come to


@pytest.mark.parametrize("seed", SEEDS)
def test_a_divergent_barrier(seed):
    source = kernel(
        "float* out",
        """
  if (threadIdx.x < 48) {
    __syncthreads(); // here
  } else {
    __syncthreads(); // there
  }
""",
    )
    there, _ = line_of(source, "// there")
    says = rf"every thread of a block .* got thread \(48, 0, 0\) at __syncthreads in line {there}"
    expect(source, says, 2, 64, [floats(1)], seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_barrier_after_an_early_return(seed):
    source = kernel(
        "float* out, int n",
        """
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  __syncthreads(); // here
  AD_ST(out + i, 1.0f);
""",
    )
    says = r"must come to the same __syncthreads, got thread \(36, 0, 0\) returned from the kernel"
    found = expect(source, says, 2, 64, [floats(100), 100], seed=seed)
    assert "block (1, 0, 0)" in found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shuffle_of_all_lanes_in_a_branch(seed):
    source = kernel(
        "float* out",
        """
  float x = AD_LD(out + threadIdx.x);
  if (threadIdx.x < 16)
    x += __shfl_xor_sync(0xffffffffu, x, 1); // here
  __syncwarp();
  AD_ST(out + threadIdx.x, x);
""",
    )
    says = r"every thread that a mask names .* got thread \(16, 0, 0\) at __syncwarp in line"
    expect(source, says, 1, 32, [floats(32)], seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shuffle_from_a_lane_that_has_returned(seed):
    source = kernel(
        "float* out, int n",
        """
  if (threadIdx.x >= n) return;
  float x = AD_LD(out + threadIdx.x);
  AD_ST(out + threadIdx.x, __shfl_down_sync(0xffffffffu, x, 1)); // here
""",
    )
    says = r"must come to the same shuffle, got thread \(20, 0, 0\) returned from the kernel"
    expect(source, says, 1, 32, [floats(32), 20], seed=seed)


def test_a_shuffle_from_a_lane_that_its_mask_does_not_name():
    source = kernel(
        "float* out",
        """
  float x = AD_LD(out + threadIdx.x);
  if (threadIdx.x < 16)
    AD_ST(out + threadIdx.x, __shfl_down_sync(0xffffu, x, 1)); // here
""",
    )
    says = r"must read a lane that its mask names, got lane 16 and mask 0x0000ffff"
    assert "thread (15, 0, 0)" in expect(source, says, 1, 32, [floats(32)])


def test_a_mask_without_the_lane_that_uses_it():
    source = kernel("float* out", "\n  __syncwarp(0xfffffffeu); // here\n")
    expect(source, "a mask must name the thread that uses it", 1, 32, [floats(1)])


def test_a_mask_that_names_lanes_which_the_block_has_not():
    source = kernel("float* out", "\n  __syncwarp(); // here\n")
    expect(source, "got lane 20, of which the block has no thread", 1, 20, [floats(1)])


# ---- memory

TAIL = """
  int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) {
    float4 v = AD_LD(reinterpret_cast<const float4*>(x + i)); // here
    AD_ST(reinterpret_cast<float4*>(out + i), v);
  }
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_vector_load_past_the_end(seed):
    source = kernel("float* out, const float* x, int n", TAIL)
    n = 1022
    # With vectors that end at the page the next one is a fault. An aligned array whose size is no
    # multiple of theirs ends before the page: there only a check of each access sees the error.
    x, out = floats(n + 2), emulator.allocate(n + 6, np.float32)
    says = "out of bounds, got an access 0 bytes past the end of an array of 4096 bytes"
    expect(source, says, 9, 32, [out, x, n + 6], seed=seed)
    says = r"got an access of 16 bytes, 0 bytes past the end of an array of 4088 bytes"
    x, out = floats(n, alignment=16), emulator.allocate(n, np.float32, alignment=16)
    expect(source, says, 8, 32, [out, x, n], race=True, seed=seed)


def test_a_write_past_the_end_of_an_aligned_array():
    source = kernel("float* out, const float* x, int n", TAIL)
    x, out = floats(8, alignment=16), emulator.allocate(6, np.float32, alignment=16)
    with pytest.raises(EmulatorError, match="written past the end of an array of 24 bytes"):
        emulator.compile(source).launch("planted", 1, 32, 0, [out, x, 8])


@pytest.mark.parametrize("race", [False, True])
@pytest.mark.parametrize(("offset", "where"), [(1024, "0 bytes past"), (-1, "4 bytes before")])
def test_an_access_past_either_end(race, offset, where):
    source = kernel("float* out, int offset", "\n  AD_ST(out + offset, 1.0f); // here\n")
    out = emulator.allocate(1024, np.float32)
    says = rf"access .*{where} (the end of )?an array of 4096 bytes"
    expect(source, says, 1, 1, [out, offset], race=race)


def test_an_address_that_is_no_arrays():
    source = kernel("float* out", "\n  AD_ST(out, 1.0f); // here\n")
    expect(source, "far from any array", 1, 1, [0x1000])
    expect(source, "far from any array", 1, 1, [np.ones(4, np.float32).ctypes.data], race=True)
    expect(source, r"far from any array \(address 0x0\)", 1, 1, [0])


@pytest.mark.parametrize("race", [False, True])
def test_a_misaligned_vector(race):
    source = kernel("float* out, const float* x, int n", TAIL)
    x, out = floats(36, alignment=16), emulator.allocate(36, np.float32, alignment=16)
    says = "must be aligned to 16 bytes, got one 4 bytes past such an address"
    expect(source, says, 1, 32, [out, x[1:], 32], race=race)


def test_an_access_past_dynamic_shared_memory():
    source = kernel(
        "float* out",
        """
  extern __shared__ __align__(16) float tile[];
  AD_ST(tile + threadIdx.x, 1.0f); // here
""",
    )
    says = "past the end of 64 bytes of shared memory"
    for race in (False, True):
        assert "thread (16, 0, 0)" in expect(source, says, 1, 32, [floats(1)], shared=64, race=race)
        emulator.compile(source, race=race).launch("planted", 1, 32, 128, [floats(1)])


def test_an_index_past_an_array_of_known_size():
    body = "\n  __shared__ float tile[4][9];\n  AD_ST(&tile[threadIdx.x][0], 1.0f); // here\n"
    found = expect(kernel("float* out", body), "within its array, got 4", 1, 6, [floats(1)])
    assert "thread (4, 0, 0)" in found


# ---- what depends on the order of threads


def test_a_dependence_on_the_order_of_blocks():
    source = kernel(
        "float* out",
        """
  int i = blockIdx.x;
  if (threadIdx.x == 0) AD_ST(out + i, i ? AD_LD(out + i - 1) + 1 : 0.0f);
""",
    )
    found = []
    for seed in SEEDS:
        out = emulator.allocate(16, np.float32)
        emulator.compile(source).launch("planted", 16, 32, 0, [out], seed)
        found.append(out.tobytes())
    assert len(set(found)) > 1
    with pytest.raises(EmulatorError, match="no barrier orders the two"):
        emulator.compile(source, race=True).launch("planted", 16, 32, 0, [out])


COUNT = """
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  int bin = AD_LD(x + i);
  UPDATE
"""


@pytest.mark.parametrize("grid", [1, 4])
def test_a_lost_update(grid):
    x = emulator.guarded(np.arange(grid * 64, dtype=np.int32) % 7)
    counts = emulator.guarded(np.zeros(7, np.int32))
    source = kernel("int* counts, const int* x", COUNT)
    lost = source.replace("UPDATE", "AD_ST(counts + bin, AD_LD(counts + bin) + 1); // here")
    for seed in SEEDS:
        says = r"must not be (read|written) in line \d+ when thread .* had it"
        expect(lost, says, grid, 64, [counts, x], race=True, seed=seed)
    counts[:] = 0
    right = source.replace("UPDATE", "atomicAdd(counts + bin, 1);")
    emulator.compile(right, race=True).launch("planted", grid, 64, 0, [counts, x])
    np.testing.assert_array_equal(counts, np.bincount(x))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_atomic_operation_and_a_plain_read(seed):
    source = kernel(
        "int* counts",
        """
  if (threadIdx.x) atomicAdd(counts, 1);
  else AD_ST(counts + 1, AD_LD(counts));
""",
    )
    counts = emulator.guarded(np.zeros(2, np.int32))
    atomic = r"read in line 3 when .* had it updated atomically in line 2"
    plain = r"updated atomically in line 2 when .* had it read in line 3"
    with pytest.raises(EmulatorError, match=f"must not be ({atomic}|{plain})"):
        emulator.compile(source, race=True).launch("planted", 1, 64, 0, [counts], seed)


PUBLISHED = """
  __shared__ unsigned mine;
  AD_ST(parts + blockIdx.x * blockDim.x + threadIdx.x, 1.0f);
  FENCE
  __syncthreads();
  if (threadIdx.x == 0) AD_ST(&mine, atomicAdd(TICKET, 1u));
  __syncthreads();
  if (AD_LD(&mine) != gridDim.x - 1) return;
  AFTER
  float sum = 0;
  for (int block = 0; block < gridDim.x; ++block)
    sum += AD_LD(parts + block * blockDim.x + threadIdx.x); // here
  AD_ST(out + threadIdx.x, sum);
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_what_blocks_hand_on_needs_fences_and_one_ticket(seed):
    source = kernel("float* out, float* parts, unsigned* ticket", PUBLISHED)
    out, parts = emulator.allocate(64, np.float32), emulator.allocate(256, np.float32)

    def run(fence, address, after):
        ticket = emulator.guarded(np.array([0, 3, 3, 3, 3], np.uint32))
        text = source.replace("FENCE", fence).replace("TICKET", address).replace("AFTER", after)
        module = emulator.compile(text, race=True)
        module.launch("planted", 4, 64, 0, [out, parts, ticket], seed)
        return out

    fence, by_one = "__threadfence();", "if (threadIdx.x == 0) __threadfence();"
    np.testing.assert_array_equal(run(fence, "ticket", fence), 4.0)
    np.testing.assert_array_equal(run(fence, "ticket", f"{by_one} __syncthreads();"), 4.0)
    for before, address, after in (
        ("", "ticket", fence),
        (by_one, "ticket", fence),
        (fence, "ticket + 1 + blockIdx.x", fence),
        (fence, "ticket", ""),
        (fence, "ticket", by_one),
    ):
        with pytest.raises(EmulatorError, match="no barrier orders the two"):
            run(before, address, after)


# ---- numbers, and launches that cannot be


def test_a_division_by_zero_and_a_shift_too_far():
    divide = kernel("int* x", "\n  AD_ST(x, 7 / AD_LD(x)); // here\n")
    zero = emulator.guarded(np.zeros(1, np.int32))
    expect(divide, "must not be divided by zero", 1, 1, [zero])
    least = kernel("int* x", "\n  AD_ST(x, AD_LD(x) / AD_LD(x + 1)); // here\n")
    pair = emulator.guarded(np.array([-(2**31), -1], np.int32))
    expect(least, "divided by zero, nor the least one by -1", 1, 1, [pair])
    shift = kernel("int* x", "\n  AD_ST(x, 1 << AD_LD(x)); // here\n")
    expect(shift, "less than the width .* got 40", 1, 1, [emulator.guarded(np.full(1, 40, "i4"))])


def test_a_kernel_that_does_not_end(monkeypatch):
    monkeypatch.setattr("tests.emulator.launcher.LONGEST", 1)
    body = "\n  while (atomicAdd(x, 0) == 0) ; // here\n"
    zero = emulator.guarded(np.zeros(1, np.int32))
    expect(kernel("int* x", body), "must end within 1 seconds", 1, 1, [zero])


def test_a_stack_that_overflows():
    source = """
__device__ __noinline__ int deep(int* x, int n) {
  int kept[256];
  for (int i = 0; i < 256; ++i) kept[i] = AD_LD(x);  // here
  return n ? deep(x, n - 1) + kept[n & 255] : 0;
}
""" + kernel("int* x", "AD_ST(x, deep(x, 1000));")
    expect(source, "stack, which may have overflowed", 1, 1, [floats(1)])


def test_a_trap():
    source = kernel("float* out", "\n  if (threadIdx.x == 3) __trap(); // here\n")
    assert "thread (3, 0, 0)" in expect(source, "called __trap", 1, 32, [floats(1)])


@pytest.mark.parametrize(
    ("grid", "block", "shared", "says"),
    [
        (0, 32, 0, r"a grid must have 1 to 2147483647, 65535 and 65535 blocks, got \(0, 1, 1\)"),
        ((1, 65536), 32, 0, r"got \(1, 65536, 1\)"),
        (1, (32, 64), 0, r"a block must have 1 to 1024 threads, .* got \(32, 64, 1\)"),
        (1, (1, 1, 65), 0, r"at most 64 along z, got \(1, 1, 65\)"),
        (1, 256, 0, r"must have blocks of 128 threads at most, got 256"),
        (1, 32, 1 << 18, r"shared memory must be at most 233472 bytes, got 262144"),
    ],
)
def test_a_launch_that_no_device_would_start(grid, block, shared, says):
    source = kernel("float* out", "")
    if block == 256:
        source = source.replace("void ", "void __launch_bounds__(128) ")
    with pytest.raises(EmulatorError, match=says):
        emulator.compile(source).launch("planted", grid, block, shared, [floats(1)])


@pytest.mark.parametrize(
    ("head", "most"),
    [
        ("void", None),
        ("void __launch_bounds__(96)", 96),
        ("__launch_bounds__( 96, 2 )\nvoid", 96),
        ("void __launch_bounds__(threads)", None),
    ],
)
def test_heads_of_kernels(head, most):
    source = f'extern "C" __global__ {head} planted(float* out) {{}}\n'
    assert compiler.declarations(source) == (compiler.Declaration("planted", most),)
    emulator.compile(source).launch("planted", 1, most or 512, 0, [floats(1)])


def test_parameters_that_are_not_the_kernels():
    module = emulator.compile(kernel("float* out, int n", ""))
    with pytest.raises(EmulatorError, match="must get 2 parameters, got 1"):
        module.launch("planted", 1, 32, 0, [floats(1)])
    with pytest.raises(EmulatorError, match=r"parameter 1 of `planted` must be of 4 bytes"):
        module.launch("planted", 1, 32, 0, [floats(1), np.int64(3)])


def test_a_text_that_does_not_compile():
    source = kernel("float* out", "\n  AD_ST(out, undeclared);\n")
    with pytest.raises(EmulatorError, match=r"cuda:2:\d+: error: use of undeclared identifier"):
        emulator.compile(source)
    with pytest.raises(EmulatorError, match="must declare a kernel"):
        emulator.compile("__device__ int f() { return 1; }")


def test_after_an_error_the_next_launch_is_right():
    source = kernel("float* out, int n", "\n  __syncthreads();\n  AD_ST(out + n, 1.0f);\n")
    module = emulator.compile(source)
    out = emulator.allocate(4, np.float32)
    for _ in range(3):
        with pytest.raises(EmulatorError, match="out of bounds"):
            module.launch("planted", 1, 64, 0, [out, 4])
        module.launch("planted", 1, 64, 0, [out, 3])
        assert out[3] == 1


def test_a_missing_compiler_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    compiler.zig.cache_clear()
    try:
        with pytest.raises(EmulatorError, match=r"^emulator: the package ziglang must .*\.$"):
            compiler.zig()
    finally:
        compiler.zig.cache_clear()
