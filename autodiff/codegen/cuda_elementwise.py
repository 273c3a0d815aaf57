"""CUDA kernels without reductions: every thread computes some points, neighbours if it can.

Updates at places are made here too, if they can be made in any order.

For contiguous arrays, `y = sin(x) * w`:

    const i32 i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    Lanes<float, 4> x0_lanes, y0_lanes;
    if (i + 4 <= n) {
      x0_lanes = load_lanes<4>(x0, i);
    } else {
      x0_lanes = load_first_lanes<4>(x0, i, n - i);
    }
    for (int lane = 0; lane < 4; ++lane) {
      y0_lanes[lane] = sinf(x0_lanes[lane]) * w;
    }
    ...

Where rows remain (operands that are broadcast, views), they are the y axis of the grid, and places
are worked out once for all points of a thread.
"""

from __future__ import annotations

from collections.abc import Callable

from autodiff.codegen.cuda_elements import element_name
from autodiff.codegen.cuda_indexed import update_element
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_text import KernelText, ceil_div, is_heavy, power_of_two

#: Threads of a block.
THREADS = 256

#: Points that a thread takes where neighbours cannot be read together, to have more on the way.
STEPS = 4

#: Blocks along y that a grid has at most; beyond, they go on along z.
MOST_BLOCKS = 32768


def emit_elementwise(text: KernelText) -> CudaKernel:
    """Return a kernel without reductions."""
    spec = text.spec
    b, lanes, index = text.b, text.lanes, text.index
    wide = "i64(blockIdx.x)" if text.long else "blockIdx.x"
    is_apart = lanes == 1 and spec.row_size >= STEPS * THREADS and not is_heavy(spec)
    steps = STEPS if is_apart else 1
    thread = f"{wide} * blockDim.x + threadIdx.x"
    if lanes > 1:
        thread = f"{lanes} * ({thread})"
    elif steps > 1:
        thread = f"{wide} * {steps * THREADS} + threadIdx.x"
    b.statement(f"const {index} i = {thread};")
    text.integer("n", spec.row_size)
    if spec.rows:
        block = "blockIdx.z * gridDim.y + blockIdx.y"
        b.statement(f"const {index} row = ({block}) * blockDim.y + threadIdx.y;")
        text.integer("rows", spec.row_count)
        b.statement("if (i >= n || row >= rows) return;")
    else:
        b.statement("if (i >= n) return;")
    text.enter_row("row")
    text.load_row_values()
    text.compute_row_values(0)
    for k, i in text.needs.stored(rows=True):  # of rows of a single point
        text.store(k, text.row_values[i], "0")
    if text.needs.last >= 0:
        if lanes > 1:
            emit_neighbours(text, f"i + {lanes} <= n")
        elif steps > 1:
            _points_apart(text)
        else:
            emit_point(text, "i", {})
    along = min(THREADS, power_of_two(ceil_div(spec.row_size, lanes)))
    across = THREADS // along
    blocks = ceil_div(spec.row_count, across) if spec.rows else 1
    deep = ceil_div(blocks, MOST_BLOCKS)
    grid = (ceil_div(spec.row_size, lanes * steps * along), ceil_div(blocks, deep), deep)
    if not spec.rows:
        along, across = THREADS, 1
        grid = (ceil_div(spec.row_size, lanes * steps * along), 1, 1)
    return text.kernel(_about(text, steps), THREADS, grid, (along, across, 1))


def _about(text: KernelText, steps: int) -> str:
    mapped = "x: points of a row" if text.spec.rows else "x: points"
    if text.lanes > 1:
        mapped += f", {text.lanes} a thread; operands begin at multiples of 16 bytes"
    elif steps > 1:
        mapped += f", {steps} a thread, {THREADS} apart"
    return mapped + ("\ny, z: rows" if text.spec.rows else "")


def emit_point(text: KernelText, point: str, read: dict[int, str]) -> None:
    """Emit one point; `read` are variables that hold elements already loaded."""
    spec, needs = text.spec, text.needs
    known, made = dict(text.row_values), {}
    for i in needs.wanted(0):
        if i in read:
            known[i] = text.elements.read(read[i], spec.loads[i].dtype, f"v{i}")
        elif i < needs.first:
            known[i] = text.load(i, point)
        else:
            known[i] = text.computed(i, known, made, point)
    for k, i in needs.stored(rows=False):
        text.store(k, known[i], point)
    for k, _ in needs.updates():
        update_element(text, k, known, point)


def _points_apart(text: KernelText) -> None:
    """Emit points that lie a block apart: all are loaded before the first is computed."""
    b, spec, needs = text.b, text.spec, text.needs
    loads = [i for i in needs.wanted(0) if i < needs.first]
    arrays = {i: b.fresh(f"v{i}_apart") for i in loads}
    for i, name in arrays.items():
        b.statement(f"{element_name(spec.loads[i].dtype)} {name}[{STEPS}];")
    head = f"for (int step = 0; step < {STEPS}; ++step)"
    place = f"const {text.index} j = i + {THREADS} * step;"
    b.statement("#pragma unroll")
    with b.within(head):
        b.statement(place)
        with b.within("if (j < n)"):
            for i, name in arrays.items():
                b.statement(f"{name}[step] = {text.element(i, 'j')};")
    b.statement("#pragma unroll")
    with b.within(head):
        b.statement(place)
        with b.within("if (j < n)"):
            emit_point(text, "j", {i: f"{name}[step]" for i, name in arrays.items()})


def emit_neighbours(text: KernelText, whole: str) -> None:
    """Emit neighbouring points: those of one thread are read and written together.

    Where there are no rows this is so under the condition `whole`, else one after the other.
    """
    b, spec, needs = text.b, text.spec, text.needs
    wanted = needs.wanted(0)
    wide_loads = [i for i in wanted if i < needs.first and text.is_wide(spec.loads[i])]
    wide_stores = [k for k, _ in needs.stored(rows=False) if text.is_wide(text.stores[k])]
    arrays = {i: b.fresh(f"v{i}_lanes") for i in wide_loads}
    results = {k: b.fresh(f"y{k}_lanes") for k in wide_stores}
    for i, name in arrays.items():
        kind = element_name(spec.loads[i].dtype)
        b.statement(f"Lanes<{kind}, {text.lanes}> {name};")
    has_tail = not spec.rows  # else every row is made of whole lanes
    at_points = [spec.loads[i] for i in wanted if i < needs.first]
    at_points_written = [text.stores[k] for k, _ in needs.stored(rows=False)]
    is_mixed = not all(map(text.is_wide, [*at_points, *at_points_written])) or bool(text.gathered)

    def load_all(function: str, rest: str) -> None:
        for i, name in arrays.items():
            place = text.place(spec.loads[i], "i")
            call = f"{function}<{text.lanes}>({text.pointers[i]}, {place}{rest})"
            b.statement(f"{name} = {call};")

    def store_all(function: str, rest: str) -> None:
        for k, name in results.items():
            place = text.place(text.stores[k], "i")
            b.statement(f"{function}({text.outputs[k]}, {place}, {name}{rest});")

    def either(emit: Callable[[str, str], None], some: str, together: str) -> None:
        if not has_tail:
            emit(together, "")
            return
        with b.within(f"if ({whole})"):
            emit(together, "")
        with b.within("else"):
            emit(some, ", n - i")

    if arrays:
        either(load_all, "load_first_lanes", "load_lanes")
    for k, name in results.items():
        kind = element_name(text.stores[k].dtype)
        b.statement(f"Lanes<{kind}, {text.lanes}> {name};")
    b.statement("#pragma unroll")
    with b.within(f"for (int lane = 0; lane < {text.lanes}; ++lane)"):
        if has_tail and is_mixed:
            b.statement("if (i + lane >= n) break;")
        known, made = dict(text.row_values), {}
        for i in wanted:
            if i in arrays:
                element = f"{arrays[i]}[lane]"
                known[i] = text.elements.read(element, spec.loads[i].dtype, f"v{i}")
            elif i < needs.first:
                known[i] = text.load(i, "i + lane")
            else:
                known[i] = text.computed(i, known, made, "i + lane")
        for k, i in needs.stored(rows=False):
            if k in results:
                text.elements.write(f"{results[k]}[lane] = {{value}};", known[i])
            else:
                text.store(k, known[i], "i + lane")
    if results:
        either(store_all, "store_first_lanes", "store_lanes")
