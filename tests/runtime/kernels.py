"""Kernels of the CPU's calling convention as LLVM text, and how tests call them."""

from __future__ import annotations

import ctypes

import numpy as np

# y[i] = 3 x[i] + 0.1 on vectors of eight float64 with a scalar rest: constants, two loops.
AXPY = """
define void @axpy(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) nounwind {
entry:
  %x = load ptr, ptr %pointers
  %py = getelementptr ptr, ptr %pointers, i64 1
  %y = load ptr, ptr %py
  %blocked = sub i64 %end, 7
  br label %vector
vector:
  %i = phi i64 [%begin, %entry], [%i8, %vbody]
  %more = icmp slt i64 %i, %blocked
  br i1 %more, label %vbody, label %scalar
vbody:
  %ax = getelementptr double, ptr %x, i64 %i
  %vx = load <8 x double>, ptr %ax, align 8
  %v3 = fmul <8 x double> %vx, splat (double 3.0)
  %vy = fadd <8 x double> %v3, splat (double 0x3FB999999999999A)
  %ay = getelementptr double, ptr %y, i64 %i
  store <8 x double> %vy, ptr %ay, align 8
  %i8 = add i64 %i, 8
  br label %vector
scalar:
  %j = phi i64 [%i, %vector], [%j1, %sbody]
  %rest = icmp slt i64 %j, %end
  br i1 %rest, label %sbody, label %done
sbody:
  %bx = getelementptr double, ptr %x, i64 %j
  %sx = load double, ptr %bx
  %s3 = fmul double %sx, 3.0
  %sy = fadd double %s3, 0x3FB999999999999A
  %by = getelementptr double, ptr %y, i64 %j
  store double %sy, ptr %by
  %j1 = add i64 %j, 1
  br label %scalar
done:
  ret void
}
"""


def mapped(name: str, body: str, prologue: str = "", scalar: str = "double") -> str:
    """Return a kernel of `y[i] = body(x[i])`: `body` computes `%r` from `%v`, all scalar."""
    return f"""
{prologue}
define void @{name}(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) nounwind {{
entry:
  %x = load ptr, ptr %pointers
  %py = getelementptr ptr, ptr %pointers, i64 1
  %y = load ptr, ptr %py
  br label %head
head:
  %i = phi i64 [%begin, %entry], [%next, %body]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %done
body:
  %ax = getelementptr {scalar}, ptr %x, i64 %i
  %v = load {scalar}, ptr %ax
{body}
  %ay = getelementptr {scalar}, ptr %y, i64 %i
  store {scalar} %r, ptr %ay
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}}
"""


SINE = mapped("sine", "  %r = call double @sin(double %v)", "declare double @sin(double)")

# y[i] = table[i mod 4], through a constant array; and a counter in a variable.
TABLE = mapped(
    "table",
    """
  %which = and i64 %i, 3
  %at = getelementptr [4 x double], ptr @numbers, i64 0, i64 %which
  %t = load double, ptr %at
  %count = load i64, ptr @calls
  %count1 = add i64 %count, 1
  store i64 %count1, ptr @calls
  %r = fmul double %t, %v
""",
    """
@numbers = private constant [4 x double] [double 1.0, double 10.0, double 100.0, double 1000.0]
@calls = global i64 40
define ptr @where() { ret ptr @calls }
""",
)

# A jump table and a switch through function pointers: relocations of 8 bytes in constants.
POINTERS = mapped(
    "pointers",
    """
  %which = and i64 %i, 1
  %at = getelementptr [2 x ptr], ptr @functions, i64 0, i64 %which
  %f = load ptr, ptr %at
  %r = call double %f(double %v)
""",
    """
@functions = constant [2 x ptr] [ptr @twice, ptr @cos]
declare double @cos(double)
define double @twice(double %v) noinline {
  %r = fadd double %v, %v
  ret double %r
}
""",
)


def large(statements: int) -> str:
    """Return a kernel of about `statements` multiplications and additions, each with constants."""
    lines, last = [], "%v"
    for i in range(statements):
        lines.append(f"  %m{i} = fmul double {last}, {1 - 2.0**-20 * (i + 1)!r}")
        lines.append(f"  %a{i} = fadd double %m{i}, {i / 7!r}")
        last = f"%a{i}"
    lines.append(f"  %r = fadd double {last}, 0.0")
    return mapped("large", "\n".join(lines))


def large_by_numpy(x: np.ndarray, statements: int) -> np.ndarray:
    for i in range(statements):
        x = x * (1 - 2.0**-20 * (i + 1)) + i / 7
    return x


def call(address: int, *arrays: np.ndarray, begin: int = 0, end: int | None = None) -> None:
    """Call a kernel on whole arrays."""
    kernel = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
    )(address)
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    sizes = (ctypes.c_int64 * 1)(0)
    kernel(pointers, sizes, begin, arrays[0].shape[0] if end is None else end)
