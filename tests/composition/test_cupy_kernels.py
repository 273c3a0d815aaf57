"""Kernels that users write for CuPy, called on traced values: recorded as their text says.

The text is compiled as C++ by the emulator, and what is recorded must compute what it computes. The
kernels are CuPy's own where it is installed (it needs no GPU for that), else a stand-in's.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

import numpy as np
import pytest

import autodiff as ad
from autodiff import testing
from tests import emulator
from tests.composition import fake_cupy

C_TYPES = {
    "float32": "float", "float64": "double", "int32": "int", "int64": "long long", "bool": "bool",
    "uint32": "unsigned", "int8": "signed char", "uint8": "unsigned char",
}  # fmt: skip


@pytest.fixture(scope="module")
def cupy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy misses the CUDA toolkit
        try:
            import cupy as installed
        except ImportError:
            installed = None
    if isinstance(installed, ModuleType) and installed is not fake_cupy.cupy:
        yield installed
        return
    with pytest.MonkeyPatch.context() as patched:
        for name, module in fake_cupy.modules.items():
            patched.setitem(sys.modules, name, module)
        yield fake_cupy.cupy


def compiled(kernel, arguments, out_dtypes, shape, size):
    """Return what the text of a kernel computes as C++, with T of the first operand's type."""
    kind = C_TYPES[np.asarray(arguments[0]).dtype.name]
    declared, before, given = [], [], []
    for p, x in zip(kernel.in_params, arguments, strict=True):
        c_type = C_TYPES[np.dtype(p.dtype).name] if p.dtype is not None else kind
        x = np.asarray(x) if p.raw else np.broadcast_to(x, shape)
        given.append(emulator.guarded(x))
        declared.append(f"const {c_type}* {p.name}{'' if p.raw else '_'}")
        if not p.raw:
            before.append(f"const {c_type} {p.name} = {p.name}_[i];")
    outputs = [emulator.allocate(shape, dtype) for dtype in out_dtypes]
    for p, x in zip(kernel.out_params, outputs, strict=True):
        declared.append(f"{C_TYPES[x.dtype.name]}* {p.name}_")
        before.append(f"{C_TYPES[x.dtype.name]}& {p.name} = {p.name}_[i];")
    source = f"""
        typedef {kind} T;
        extern "C" __global__ void k({", ".join(declared)}, long long n) {{
          long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
          if (i < n) {{ {" ".join(before)}
            {kernel.operation};
          }}
        }}"""
    emulator.compile(source).launch("k", 1, size, 0, [*given, *outputs, size])
    return outputs


FLOATS = np.array([0.5, -1.25, 2.0, 3.5, -0.0, 0.75], np.float32)
INTEGERS = np.array([7, -7, 3, -2, 0, 100], np.int32)

KERNELS = {
    "product": ("T x, T y", "T z", "z = x * y + 2", (FLOATS, FLOATS[::-1])),
    "a literal of type double": ("T x", "T z", "z = (x * 0.1 - 0.3) / 3", (FLOATS,)),
    "temporaries": (
        "T x", "T z", "T a = sin(x), b = cos(x); a *= a; z = a + b * x - x", (FLOATS,),
    ),
    "functions": ("T x", "T z", "z = exp(-x) + log1p(x * x) + pow(fabs(x), 1.5f)", (FLOATS,)),
    "special functions": ("T x", "T z", "z = erf(x) + erfc(x) * lgamma(x * x + 1)", (FLOATS,)),
    "choice": ("T x, T y", "T z", "z = x > y ? x : (y > 1 ? y : T(1))", (FLOATS, FLOATS[::-1])),
    "branches": (
        "T x", "T z",
        "z = 0; if (x > 1) { T s = x - 1; z = s * s; } else if (x < 0) z = -x;", (FLOATS,),
    ),
    "two outputs": ("T x", "T s, float64 c", "s = tanh(x); c = x * x / 7", (FLOATS,)),
    "division of integers": ("T x", "T q, T r", "q = x / 3 + 1; r = x % 3", (INTEGERS,)),
    "bits": ("T x", "T z", "z = (x << 2 ^ x >> 1) | (x & 5) + ~x", (INTEGERS,)),
    "small integers widen": ("int8 x", "int32 z", "z = x * x * x", (INTEGERS.astype(np.int8),)),
    "unsigned": ("uint32 x", "uint32 z", "z = 1u - x > 0 ? 1 : 2", (INTEGERS.astype(np.uint32),)),
    "logic": ("T x", "bool z", "z = !(x > 0) && (x != -1.25f || false)", (FLOATS,)),
    "conversions": ("T x", "T z", "z = (int)x + static_cast<T>(2) + (T)(x / 2)", (FLOATS,)),
    "rounding": ("T x", "T z", "z = round(x) + 10 * rint(x) + 100 * trunc(x)", (FLOATS,)),
    "extrema": ("T x, T y", "T z", "z = max(x, y) - min(x, y)", (FLOATS, FLOATS[::-1])),
    "place": ("T x", "T z", "z = x + i % 4", (FLOATS,)),
    "raw": ("raw T x, int32 k", "T z", "z = x[(i + k) % 6] - x[i]", (FLOATS, INTEGERS % 6)),
    "comments": ("T x", "T z", "// halves\n z = x / 2; /* and\n doubles */ z += x * 2;", (FLOATS,)),
    "hexadecimal": ("T x", "T z", "z = x + 0x10 - 010 + 1e1f + .5f + 2.", (FLOATS,)),
}  # fmt: skip


def made(cupy, name, **options):
    in_params, out_params, text, arguments = KERNELS[name]
    return cupy.ElementwiseKernel(in_params, out_params, text, "users", **options), arguments


@pytest.mark.parametrize("name", KERNELS)
def test_a_text_computes_what_it_computes_as_cplusplus(cupy, name):
    kernel, arguments = made(cupy, name)
    shape = np.broadcast_shapes(*[np.shape(x) for x in arguments])
    found = ad.jit(lambda *args: kernel(*args))(*arguments)
    found = found if isinstance(found, tuple) else (found,)
    kinds = {p.ctype: arguments[0].dtype for p in kernel.out_params if p.dtype is None}
    dtypes = [np.dtype(p.dtype or kinds[p.ctype]) for p in kernel.out_params]
    expected = compiled(kernel, arguments, dtypes, shape, int(np.prod(shape)))
    for leaf, wanted in zip(found, expected, strict=True):
        assert (leaf.dtype, leaf.shape) == (wanted.dtype, wanted.shape)
        if leaf.dtype.kind == "f":  # functions of mathematics are good to some 4 ulp
            np.testing.assert_allclose(leaf, wanted, rtol=4 * np.finfo(leaf.dtype).eps)
        else:
            np.testing.assert_array_equal(leaf, wanted)


@pytest.mark.parametrize(
    "name",
    [
        "product",
        "temporaries",
        "functions",
        "special functions",
        "choice",
        "branches",
        "extrema",
        "place",
        "raw",
    ],
)
def test_a_text_has_derivatives(cupy, name):
    kernel, arguments = made(cupy, name)
    rest = list(arguments[1:])
    x = arguments[0].astype(np.float64)[[0, 1, 2, 3, 0, 5]]
    rest = [y.astype(np.float64) if y.dtype.kind == "f" else y for y in rest]
    testing.check_grads(ad.jit(lambda x: kernel(x, *rest)), (x,), order=2)


def test_a_text_is_mapped_and_mapped_again(cupy):
    kernel, (x, y) = made(cupy, "product")
    once = ad.vmap(lambda a, b: kernel(a, b), in_axes=(0, None))
    np.testing.assert_array_equal(once(x, y), x[:, None] * y + 2)
    twice = ad.vmap(ad.grad(lambda a, b: kernel(a, b)), in_axes=(0, None))
    np.testing.assert_array_equal(twice(x, np.float32(3)), np.full(6, 3, np.float32))


def test_numbers_take_the_type_of_arrays(cupy):
    kernel, (x, _) = made(cupy, "product")
    found = ad.jit(lambda x: kernel(x, 2.0))(x)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x * 2 + 2)


def test_an_output_that_is_given_is_written_into(cupy):
    kernel = cupy.ElementwiseKernel("T x", "T z", "if (x > 0) z = x", "positive")

    def f(x):
        z = x * 0 + 7
        assert kernel(x, z) is z
        return z * 2

    np.testing.assert_array_equal(ad.jit(f)(FLOATS), 2 * np.where(FLOATS > 0, FLOATS, 7))
    np.testing.assert_array_equal(ad.grad(lambda x: f(x).sum())(FLOATS), 2.0 * (FLOATS > 0))


def test_operands_broadcast_and_an_output_that_ignores_them_has_their_shape(cupy):
    kernel = cupy.ElementwiseKernel("T x, T y", "T z, T w", "z = x - y; w = 1", "both")
    z, w = ad.jit(lambda x, y: kernel(x, y))(FLOATS[:, None], FLOATS[:2])
    np.testing.assert_array_equal(z, FLOATS[:, None] - FLOATS[:2])
    np.testing.assert_array_equal(w, np.ones((6, 2), np.float32))


def test_a_tuple_is_returned_where_the_kernel_says_so(cupy):
    kernel, (x, y) = made(cupy, "product", return_tuple=True)
    (found,) = ad.jit(lambda x, y: kernel(x, y))(x, y)
    np.testing.assert_array_equal(found, x * y + 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("for (int k = 0; k < 3; ++k) z += x;", "`for` is no expression of one element"),
        ("z = atomicAdd(&z, x)", "`&z` is no expression of scalars"),
        ("if (x > 0) z = x", "`z` is not assigned to wherever the text may lead"),
        ("z = y", "`y` is not known"),
        ("z = mine(x)", "`mine` is no function that is known"),
        ("z = remainder(x, x)", "`remainder` is no function that is known"),
        ("x = 2; z = x", "`x` cannot be assigned to"),
        ("T a; z = a", "`a` is read where it may have no value"),
        ("z = x % 2.0", "`%` is of integers only"),
        ("z = x[0]", "`[` stands where `;` is expected"),
        ("T z = x", "`z` is declared a second time"),
        ("z = (x", "`the end` stands where `)` is expected"),
        ("const T a = x; a += 1; z = a", "`a` cannot be assigned to"),
        ("T a[3]; z = x", "`a` is declared as an array or by a constructor"),
        ("{ T a = x; } z = a", "`a` is not known"),
        ("z = _ind.size()", "`_ind.` is no expression of scalars"),
        ('asm("x"); z = x', '`"x");` is no expression of scalars'),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_the_place(cupy, text, reason):
    kernel = cupy.ElementwiseKernel("T x", "T z", text, "users")
    with pytest.raises(TypeError) as caught:
        ad.grad(lambda x: kernel(x).sum())(FLOATS)
    requirement, where, fix = str(caught.value).split("\n")
    assert requirement == (
        "cupy.ElementwiseKernel 'users': on traced values the text must be one of scalar "
        f"expressions; {reason}."
    )
    assert where.startswith("At ")
    for way in ("autodiff.numpy", "ad.primitive", "ad.pure_callback"):
        assert way in fix


@pytest.mark.parametrize(
    ("in_params", "arguments", "options", "reason"),
    [
        ("T x", (FLOATS,), {"preamble": "#define x 2"}, "it has a preamble"),
        ("T x", (FLOATS,), {"loop_prep": "int a;"}, "it has the options loop_prep"),
        ("float64 x", (FLOATS,), {}, "`x` must be of type float64, got float32"),
        ("T x, T y", (FLOATS, INTEGERS), {}, "`y` must be of type float32, got int32"),
        ("raw T x", (FLOATS,), {}, "all of its inputs are raw"),
    ],
)
def test_what_a_call_must_give_is_said(cupy, in_params, arguments, options, reason):
    kernel = cupy.ElementwiseKernel(in_params, "T z", "z = x", "users", **options)
    with pytest.raises(TypeError) as caught:
        ad.jit(lambda *args: kernel(*args))(*arguments)
    assert reason in str(caught.value)


def test_a_plain_output_is_not_written_into(cupy):
    kernel, (x, y) = made(cupy, "product")
    with pytest.raises(TypeError, match="cannot be written into a plain array"):
        ad.jit(lambda x: kernel(x, y, np.zeros(6, np.float32)))(x)
