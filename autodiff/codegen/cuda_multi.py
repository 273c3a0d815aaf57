"""CUDA kernels over many arrays: each block finds the member, and the part of it, that it is for.

    i32 member = 0;
    for (i32 end = count; end - member > 1;) {
      const i32 middle = (member + end) / 2;
      if (members.first_block[middle] <= blockIdx.x) member = middle;
      else end = middle;
    }
    const float* const x0 = members.x0[member];
    float* const y0 = members.y0[member];
    const i32 n = members.n[member];
    const i32 block = blockIdx.x - members.first_block[member];
    const i32 i = 4 * (block * blockDim.x + threadIdx.x);
    if (i >= n) return;
    const bool is_aligned = (u64(x0) | u64(y0)) % 16 == 0;

and goes on as `cuda_elementwise` does, where arrays that do not begin at multiples of 16 bytes are
taken for a tail. What is each member's own is a struct among the parameters, so nothing is copied
to the device before a launch, and there are as many members as these have room for. How many there
are is a parameter too, so the text depends on what is computed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from autodiff.codegen.cuda_elementwise import THREADS, emit_neighbours, emit_point
from autodiff.codegen.cuda_launch import (
    CudaKernel,
    Integer,
    Members,
    OperandNumber,
    OperandPointer,
    OutputPointer,
)
from autodiff.codegen.cuda_text import KernelText, ceil_div, lanes_of
from autodiff.schedule.multi_kernel import ADDRESS_BYTES, MultiKernel, format_body
from autodiff.schedule.target import Target

#: Bytes at whose multiples the arrays of a member must begin to be read by lanes.
ALIGNMENT = 16


def emit_multi_kernel(
    multi: MultiKernel,
    target: Target,
    name: str,
    *,
    numbers: frozenset[int] = frozenset(),
    contract: bool = True,
) -> CudaKernel:
    """Return the text of a kernel over many arrays, and how it is launched.

    Args:
        multi: the kernel.
        target: the GPU.
        name: the function's name.
        numbers: loads of single elements that are given by value, not by address; one that is not
            shared is of 8 bytes at most.
        contract: whether a product and a sum may be rounded once (fused multiply-add).
    """
    spec = multi.body
    text = KernelText(spec, target, name, numbers, lanes_of(spec, target, True), contract)
    own, shared = _columns(text, multi.shared)
    members, count = text.b.fresh("members"), text.b.fresh("count")
    _enter_member(text, own, members, count)
    text.enter_row("0")
    text.load_row_values()
    text.compute_row_values(0)
    about = "x: blocks of points of the first member, of the second one and so on"
    if text.lanes > 1:
        emit_neighbours(text, f"{_alignment(text)} && i + {text.lanes} <= n")
        about += f"\n{text.lanes} points a thread, together if all arrays of the member begin at "
        about += f"multiples of {ALIGNMENT} bytes"
    else:
        emit_point(text, "i", {})
    sizes = tuple([member.size for member in multi.members])
    blocks = [ceil_div(size, text.lanes * THREADS) for size in sizes]
    columns = tuple([_of_members(multi, column.parameter) for column in own])
    given = Members(columns, multi.capacity, sizes, (0, *accumulate(blocks[:-1])))
    struct = f"{name}_members"
    text.structs[struct] = _definition(struct, own, multi.capacity)
    text.parameters = [
        (f"const {struct} {members}", given),
        (f"const i32 {count}", Integer(len(sizes))),
        *[(declaration, _of_members(multi, parameter)[0]) for declaration, parameter in shared],
    ]
    grid = (sum(blocks), 1, 1)
    return text.kernel(about, THREADS, grid, (THREADS, 1, 1), what=format_body(multi))


_Parameter = OperandPointer | OperandNumber | OutputPointer


def _of_members(multi: MultiKernel, parameter: _Parameter) -> tuple[_Parameter, ...]:
    """Return for each member what a parameter of the body is, which speaks of its loads."""
    if isinstance(parameter, OutputPointer):
        count = len(multi.body.stores)
        return tuple(
            [OutputPointer(count * i + parameter.output) for i in range(len(multi.members))]
        )
    k = parameter.operand
    size, reads = multi.body.loads[k].dtype.itemsize, [x.reads[k] for x in multi.members]
    if isinstance(parameter, OperandNumber):
        return tuple([OperandNumber(operand) for operand, _ in reads])
    return tuple([OperandPointer(operand, size * offset) for operand, offset in reads])


@dataclass(frozen=True, slots=True)
class _Column:
    """What there is of each member: its type and name as a parameter of a kernel of one."""

    type: str
    name: str
    parameter: _Parameter


def _columns(
    text: KernelText, shared: frozenset[int]
) -> tuple[list[_Column], list[tuple[str, _Parameter]]]:
    """Return the parameters of a kernel that are each member's own, and those of all."""
    own: list[_Column] = []
    others: list[tuple[str, _Parameter]] = []
    for declaration, parameter in text.parameters:
        match parameter:
            case OperandPointer(k) | OperandNumber(k) if k in shared:
                others.append((declaration, parameter))
            case OperandPointer() | OperandNumber() | OutputPointer():
                kind, _, name = declaration.replace(" __restrict__", "").rpartition(" ")
                own.append(_Column(kind, name, parameter))
            case _:
                raise AssertionError(parameter)
    return own, others


def _enter_member(text: KernelText, own: Sequence[_Column], members: str, count: str) -> None:
    """Emit the search for the block's member, and the thread's point of it."""
    b = text.b
    member, end, middle, block = (b.fresh(stem) for stem in ("member", "end", "middle", "block"))
    b.statement(f"i32 {member} = 0;")
    with b.within(f"for (i32 {end} = {count}; {end} - {member} > 1;)"):
        b.statement(f"const i32 {middle} = ({member} + {end}) / 2;")
        with b.within(f"if ({members}.first_block[{middle}] <= blockIdx.x)"):
            b.statement(f"{member} = {middle};")
        with b.within("else"):
            b.statement(f"{end} = {middle};")
    for column in own:
        found = f"{members}.{column.name}[{member}]"
        if isinstance(column.parameter, OperandNumber):
            b.statement(f"{column.type} {column.name} = {found}.number;")
        else:
            b.statement(f"{column.type} const {column.name} = {found};")
    b.statement(f"const i32 n = {members}.n[{member}];")
    b.statement(f"const i32 {block} = blockIdx.x - {members}.first_block[{member}];")
    point = f"{block} * blockDim.x + threadIdx.x"
    b.statement(f"const i32 i = {f'{text.lanes} * ({point})' if text.lanes > 1 else point};")
    b.statement("if (i >= n) return;")


def _alignment(text: KernelText) -> str:
    """Return the name of whether all arrays of which lanes are neighbours begin as they must."""
    wide = [text.pointers[k] for k, load in enumerate(text.spec.loads) if text.is_wide(load)]
    wide += [text.outputs[k] for k, store in enumerate(text.stores) if text.is_wide(store)]
    begins = " | ".join(f"u64({pointer})" for pointer in wide)
    name = text.b.fresh("is_aligned")
    text.b.statement(f"const bool {name} = ({begins}) % {ALIGNMENT} == 0;")
    return name


def _definition(name: str, own: Sequence[_Column], capacity: int) -> str:
    """Return the definition of the struct of what is each member's own."""
    lines = [f"struct {name} {{"]
    for column in own:
        kind = column.type
        if isinstance(column.parameter, OperandNumber):
            kind = f"struct alignas({ADDRESS_BYTES}) {{ {kind.removeprefix('const ')} number; }}"
        lines.append(f"  {kind} {column.name}[{capacity}];")
    lines += [f"  i32 n[{capacity}];", f"  u32 first_block[{capacity}];", "};"]
    return "\n".join(lines)
