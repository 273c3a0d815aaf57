"""CUDA kernels without reductions whose operands lie in memory in different orders.

`y = x.T + w` reads `w` along rows and `x` across them. A block of threads computes a tile of 32 by
32 points. It first reads the tile of each operand that is crossed along that operand's own rows,
into shared memory, and then computes along the rows of the result:

    for (int step = 0; step < 32; step += 8) {
      const i32 line = 32 * blockIdx.y + threadIdx.x;
      const i32 i = 32 * blockIdx.x + threadIdx.y + step;
      if (line < lines && i < n) AD_ST(&tile0[threadIdx.y + step][threadIdx.x], AD_LD(&x0[...]));
    }
    __syncthreads();
    ... tile0[threadIdx.x][threadIdx.y + step] ...

Lines of the tile are 33 elements apart, so that its columns lie in different banks (M. Harris, An
efficient matrix transpose in CUDA C/C++, NVIDIA developer blog, 2013).
"""

from __future__ import annotations

from math import prod

from autodiff.codegen.cuda_elements import element_name
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_text import KernelText, ceil_div
from autodiff.codegen.kernel_needs import Needs
from autodiff.schedule.kernel_spec import KernelSpec

#: Points of a tile along both axes, and threads of a block along y.
TILE, HEIGHT = 32, 8

#: Points from which on tiles along an axis are mostly full.
LEAST = 24

#: Blocks along y and along z that a grid has at most.
MOST_BLOCKS = 65535


def crossed_axis(spec: KernelSpec) -> int | None:
    """Return the axis of rows along which some operand is contiguous; None if there are none.

    Operands contiguous along the points are not crossed.
    """
    if not spec.rows or spec.shape[-1] < LEAST or any(load.bounds for load in spec.loads):
        return None
    known = Needs(spec).in_rows
    read = [x.strides for i, x in enumerate(spec.loads) if not known[i]]
    axes = [s.index(1) for s in read if s[-1] != 1 and 1 in s[: spec.rows]]
    if not axes:
        return None
    axis = max(axes, key=axes.count)
    others = prod(n for i, n in enumerate(spec.shape[: spec.rows]) if i != axis)
    fits = LEAST <= spec.shape[axis] <= TILE * MOST_BLOCKS
    return axis if fits and others <= MOST_BLOCKS else None


def emit_tiles(text: KernelText, axis: int) -> CudaKernel:
    """Return a kernel without reductions; `axis` is what `crossed_axis` returned."""
    spec = text.spec
    b, index, needs = text.b, text.index, text.needs
    known = needs.in_rows
    lines, n = spec.shape[axis], spec.row_size
    crossed = [
        i
        for i, x in enumerate(spec.loads)
        if not known[i] and x.strides[-1] not in (0, 1) and x.strides[axis] == 1
    ]
    tiles = {i: b.fresh(f"tile{i}") for i in crossed}
    for i, tile in tiles.items():
        kind = element_name(spec.loads[i].dtype)
        b.statement(f"__shared__ {kind} {tile}[{TILE}][{TILE + 1}];")
    text.integer("n", n)
    text.integer("lines", lines)
    others = [i for i in range(spec.rows) if i != axis]
    indices = text.row_indices("blockIdx.z", others)
    first = f"{TILE} * {'i64(blockIdx.y)' if text.long else 'blockIdx.y'}"
    left = f"{TILE} * {'i64(blockIdx.x)' if text.long else 'blockIdx.x'}"
    steps = f"for (int step = 0; step < {TILE}; step += {HEIGHT})"
    b.statement("#pragma unroll")
    with b.within(steps):
        b.statement(f"const {index} line = {first} + threadIdx.x;")
        b.statement(f"const {index} i = {left} + threadIdx.y + step;")
        with b.within("if (line < lines && i < n)"):
            text.starts_of(indices | {axis: "line"}, [spec.loads[i] for i in crossed])
            for i, tile in tiles.items():
                element = f"AD_LD(&{text.pointers[i]}[{text.place(spec.loads[i], 'i')}])"
                b.statement(f"AD_ST(&{tile}[threadIdx.y + step][threadIdx.x], {element});")
    text.starts.clear()
    b.statement("__syncthreads();")
    b.statement("#pragma unroll")
    with b.within(steps):
        b.statement(f"const {index} line = {first} + threadIdx.y + step;")
        b.statement(f"const {index} i = {left} + threadIdx.x;")
        with b.within("if (line < lines && i < n)"):
            text.starts_of(indices | {axis: "line"})
            _point(text, tiles)
    grid = (ceil_div(n, TILE), ceil_div(lines, TILE), prod(spec.shape[i] for i in others))
    shared = sum((TILE + 1) * TILE * spec.loads[i].dtype.itemsize for i in crossed)
    about = (
        f"x: points of a row; y: rows along axis {axis}; z: other rows\n"
        f"{shared} bytes of shared memory; one barrier, met by every thread"
    )
    return text.kernel(about, TILE * HEIGHT, grid, (TILE, HEIGHT, 1))


def _point(text: KernelText, tiles: dict[int, str]) -> None:
    """Emit one point, and what is known of its row."""
    spec, needs = text.spec, text.needs
    text.load_row_values()
    text.compute_row_values(0)
    known, made = dict(text.row_values), {}
    for i in needs.wanted(0):
        if i in tiles:
            element = f"AD_LD(&{tiles[i]}[threadIdx.x][threadIdx.y + step])"
            known[i] = text.elements.read(element, spec.loads[i].dtype, f"v{i}")
        elif i < needs.first:
            known[i] = text.load(i, "i")
        else:
            known[i] = text.computed(i, known, made, "i")
    for k, i in needs.stored(rows=False):
        text.store(k, known[i], "i")
