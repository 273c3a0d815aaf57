"""Both ways into a kernel give NumPy's results, and pass on whatever does not match."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from contextvars import ContextVar
from types import CellType

import ml_dtypes
import numpy as np
import pytest

from autodiff.base.settings import override
from autodiff.codegen import cpu_entry
from autodiff.runtime import cpu_jit, host, kernel_calls, thread_pool
from autodiff.runtime.kernel_calls import ArrayType, Guards, Signature, kernel_call
from tests.runtime import kernels

FLOAT64 = np.dtype(np.float64)

# out0[i] = a[i] + b[i], out1[0] = sizes[0] + sizes[1] + end, for i < sizes[0].
SUMS = """
define void @sums(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) nounwind {
entry:
  %a = load ptr, ptr %pointers
  %pb = getelementptr ptr, ptr %pointers, i64 1
  %b = load ptr, ptr %pb
  %po = getelementptr ptr, ptr %pointers, i64 2
  %o = load ptr, ptr %po
  %pq = getelementptr ptr, ptr %pointers, i64 3
  %q = load ptr, ptr %pq
  %s0 = load i64, ptr %sizes
  %ps = getelementptr i64, ptr %sizes, i64 1
  %s1 = load i64, ptr %ps
  %s = add i64 %s0, %s1
  %t = add i64 %s, %end
  store i64 %t, ptr %q
  br label %head
head:
  %i = phi i64 [%begin, %entry], [%next, %body]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %done
body:
  %aa = getelementptr double, ptr %a, i64 %i
  %va = load double, ptr %aa
  %ab = getelementptr double, ptr %b, i64 %i
  %vb = load double, ptr %ab
  %v = fadd double %va, %vb
  %ao = getelementptr double, ptr %o, i64 %i
  store double %v, ptr %ao
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}
"""

each_way = pytest.mark.parametrize("fast", [False, True], ids=["ctypes", "direct"])


class Refused(Exception):
    pass


def refuse(*arguments):
    raise Refused(arguments)


@pytest.fixture(scope="module")
def modules():
    return {
        name: cpu_jit.load(text, host.host(), (name,))
        for name, text in (("axpy", kernels.AXPY), ("sums", SUMS))
    }


@pytest.fixture
def axpy(modules):
    def make(shape, fast, fallback=refuse, **more):
        size = int(np.prod(shape))
        signature = Signature(
            (ArrayType(FLOAT64, shape),),
            (ArrayType(FLOAT64, shape),),
            end=size,
            form=cpu_entry.ALONE,
            **more,
        )
        module = modules["axpy"]
        return kernel_call(module.address("axpy"), module, signature, fallback, fast=fast)

    return make


@pytest.fixture
def sums(modules):
    def make(shapes, fast, fallback=refuse, **more):
        signature = Signature(
            tuple(ArrayType(FLOAT64, shape) for shape in shapes),
            (ArrayType(FLOAT64, (2, 3)), ArrayType(np.dtype(np.int64), ())),
            end=6,
            sizes=(100, 20),
            **more,
        )
        module = modules["sums"]
        return kernel_call(module.address("sums"), module, signature, fallback, fast=fast)

    return make


def test_python_calls_kernels_directly_on_the_systems_that_are_tested():
    if sys.implementation.name == "cpython" and not sys.abiflags and sys.maxsize > 2**32:
        assert kernel_calls.layout_fault() is None


@each_way
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (8,), (3, 5), (2, 0, 4), (1, 2, 3, 4)])
def test_an_array_of_the_shape_gives_a_new_array(axpy, shape, fast):
    x = np.random.default_rng(0).standard_normal(shape)
    y = axpy(shape, fast)(x)
    assert type(y) is np.ndarray
    assert y.shape == shape
    assert y.flags.owndata
    assert y.flags.writeable
    np.testing.assert_array_equal(y, x * 3.0 + 0.1)


@each_way
def test_several_arguments_outputs_and_sizes(sums, fast):
    a, b = np.arange(6.0).reshape(2, 3), np.full((2, 3), 0.5)
    outputs = sums(((2, 3), (2, 3)), fast)(a, b)
    assert type(outputs) is list
    np.testing.assert_array_equal(outputs[0], a + b)
    assert outputs[1].shape == ()
    assert outputs[1] == 126
    again = sums(((2, 3), (2, 3)), fast)(a, b)
    assert not np.shares_memory(outputs[0], again[0])


@each_way
def test_an_argument_of_any_shape_is_taken_where_the_signature_says_so(sums, fast):
    call = sums((None, (2, 3)), fast)
    a, b = np.arange(6.0), np.ones((2, 3))
    np.testing.assert_array_equal(call(a, b)[0], a.reshape(2, 3) + 1)
    np.testing.assert_array_equal(call(a.reshape(3, 2, 1), b)[0], a.reshape(2, 3) + 1)
    with pytest.raises(Refused):
        call(b, a)


class Subclass(np.ndarray):
    pass


def _misaligned(shape):
    size = int(np.prod(shape)) * 8
    return np.zeros(size + 1, np.uint8)[1:].view(np.float64).reshape(shape)


MISFITS = {
    "no argument": (),
    "too many": (np.zeros((2, 3)), np.zeros((2, 3))),
    "another shape": (np.zeros((3, 2)),),
    "fewer axes": (np.zeros(6),),
    "more axes": (np.zeros((2, 3, 1)),),
    "another dtype": (np.zeros((2, 3), np.float32),),
    "the other byte order": (np.zeros((2, 3), np.dtype(np.float64).newbyteorder()),),
    "Fortran order": (np.zeros((2, 3), order="F"),),
    "a transposed view": (np.zeros((3, 2)).T,),
    "backwards": (np.zeros((2, 3))[:, ::-1],),
    "every other": (np.zeros((2, 6))[:, ::2],),
    "broadcast": (np.broadcast_to(np.zeros(3), (2, 3)),),
    "misaligned": (_misaligned((2, 3)),),
    "a subclass": (np.zeros((2, 3)).view(Subclass),),
    "masked": (np.ma.zeros((2, 3)),),
    "a list": ([[0.0] * 3] * 2,),
    "a float": (1.0,),
    "a NumPy scalar": (np.float64(1.0),),
    "None": (None,),
    "a type": (np.ndarray,),
}


@each_way
@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_match_is_passed_on_with_its_arguments(axpy, misfit, fast):
    arguments = MISFITS[misfit]
    given = []
    answer = object()
    call = axpy((2, 3), fast, lambda *received: (given.append(received), answer)[1])
    assert call(*arguments) is answer
    assert len(given) == 1
    assert len(given[0]) == len(arguments)
    assert all(x is y for x, y in zip(given[0], arguments, strict=True))


@each_way
def test_arguments_by_name_are_passed_on(axpy, fast):
    x = np.zeros((2, 3))
    call = axpy((2, 3), fast, lambda *given, **named: (given, named))
    given, named = call(x=x)
    assert given == ()
    assert named["x"] is x


@each_way
def test_a_kernel_is_run_only_while_its_guards_hold(modules, fast):
    variable, cell = ContextVar("unit", default=None), CellType("metre")
    signature = Signature((ArrayType(FLOAT64, (4,)),), (ArrayType(FLOAT64, (4,)),), end=4)
    module = modules["axpy"]
    guards = Guards(((variable, None),), ((cell, cell.cell_contents),))
    call = kernel_call(
        module.address("axpy"), module, signature, lambda x: None, fast=fast, guards=guards
    )
    x = np.arange(4.0)
    before = sys.getrefcount(None), sys.getrefcount(cell.cell_contents)
    for _ in range(100):
        np.testing.assert_array_equal(call(x)[0], x * 3.0 + 0.1)
    after = sys.getrefcount(None), sys.getrefcount(cell.cell_contents)
    assert max(abs(new - old) for new, old in zip(after, before, strict=True)) < 50
    cell.cell_contents = "foot"
    assert call(x) is None
    cell.cell_contents = guards.cells[0][1]
    token = variable.set("foot")
    assert call(x) is None
    variable.reset(token)
    assert call(x) is not None


@each_way
def test_outputs_come_alone_in_a_list_or_in_a_tuple(axpy, sums, fast):
    x = np.arange(6.0).reshape(2, 3)
    assert type(axpy((2, 3), fast)(x)) is np.ndarray
    assert type(sums(((2, 3), (2, 3)), fast)(x, x)) is list
    both = sums(((2, 3), (2, 3)), fast, form=cpu_entry.TUPLE)(x, x)
    assert type(both) is tuple
    np.testing.assert_array_equal(both[0], x + x)


@each_way
def test_an_exception_of_the_fallback_is_raised(axpy, fast):
    with pytest.raises(Refused):
        axpy((2, 3), fast)("text")
    with pytest.raises(TypeError):
        axpy((2, 3), fast)(x=np.zeros((2, 3)))


@each_way
def test_read_only_arguments_are_read(axpy, fast):
    x = np.arange(6.0).reshape(2, 3)
    x.flags.writeable = False
    np.testing.assert_array_equal(axpy((2, 3), fast)(x), x * 3.0 + 0.1)


@each_way
def test_references_are_neither_lost_nor_kept(axpy, sums, fast):
    call, call2 = axpy((2, 3), fast), sums(((2, 3), (2, 3)), fast)
    x = np.zeros((2, 3))
    refused = axpy((2, 3), fast, lambda *_: None)
    counted = (x, FLOAT64, np.dtype(np.int64), np.ndarray)
    call(x), call2(x, x), refused(1.0), refused(x.T)
    gc.collect()  # what others have left must not go in between
    before = [sys.getrefcount(each) for each in counted]
    for _ in range(300):
        call(x)
        call2(x, x)
        refused(1.0)
        refused(x.T)
    after = [sys.getrefcount(each) for each in counted]
    assert np.abs(np.subtract(after, before)).max() < 100
    result = call(x)
    dropped = weakref.ref(result)
    del result
    assert dropped() is None


@each_way
def test_the_function_keeps_what_it_needs_and_no_longer(fast):
    class Owner:
        pass

    owner, module = Owner(), cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
    owner.module = module
    signature = Signature(
        (ArrayType(FLOAT64, (4,)),), (ArrayType(FLOAT64, (4,)),), end=4, form=cpu_entry.ALONE
    )
    kept, fallback = weakref.ref(owner), lambda *_: None
    kept_fallback = weakref.ref(fallback)
    call = kernel_call(module.address("axpy"), owner, signature, fallback, fast=fast)
    del owner, module, fallback
    gc.collect()
    assert kept() is not None
    assert call("text") is None
    np.testing.assert_array_equal(call(np.ones(4)), np.full(4, 3.1))
    del call
    gc.collect()
    assert kept() is None
    assert kept_fallback() is None


@each_way
def test_memory_that_cannot_be_had_is_an_error_and_loses_nothing(modules, fast):
    module = modules["axpy"]
    signature = Signature(
        (ArrayType(FLOAT64, (2,)),),
        (ArrayType(np.dtype(np.int8), (2,)), ArrayType(FLOAT64, (1 << 57,))),
        end=2,
    )
    call = kernel_call(module.address("axpy"), module, signature, refuse, fast=fast)
    # The dtype of the output that was had, since NumPy's own error keeps that of the other one.
    before = sys.getrefcount(np.dtype(np.int8))
    for _ in range(50):
        with pytest.raises(MemoryError):
            call(np.zeros(2))
    assert abs(sys.getrefcount(np.dtype(np.int8)) - before) < 10


@each_way
def test_other_element_types_are_told_apart(fast):
    text = kernels.mapped("same", "  %r = add i16 %v, 0", scalar="i16")
    module = cpu_jit.load(text, host.host(), ("same",))
    for dtype in (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16), np.dtype(np.uint16)):
        signature = Signature(
            (ArrayType(dtype, (5,)),), (ArrayType(dtype, (5,)),), end=5, form=cpu_entry.ALONE
        )
        call = kernel_call(module.address("same"), module, signature, refuse, fast=fast)
        x = np.arange(5).astype(dtype)
        y = call(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(x.view(np.uint16), y.view(np.uint16))
        with pytest.raises(Refused):
            call(np.zeros(5, np.int16))


@each_way
def test_calls_in_several_threads_do_not_meet(axpy, fast):
    call = axpy((50,), fast)
    faults = []

    def work(seed):
        x = np.full(50, float(seed))
        for _ in range(2000):
            if not (call(x) == x * 3.0 + 0.1).all():
                faults.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults


def test_a_kernel_of_several_pieces_is_divided_over_threads(axpy, monkeypatch):
    pieces = []
    run = thread_pool.run
    monkeypatch.setattr(thread_pool, "run", lambda *x: (pieces.append(x[3:]), run(*x))[1])
    x = np.arange(1000.0)
    with override(threads=3):
        np.testing.assert_array_equal(axpy((1000,), True, chunk=64)(x), x * 3.0 + 0.1)
        np.testing.assert_array_equal(axpy((64,), True, chunk=64)(x[:64]), x[:64] * 3.0 + 0.1)
    assert pieces == [(0, 1000, 64)]


@pytest.fixture
def forgetful():
    """Forget before and after the test what was found out about layouts."""
    caches = (kernel_calls.layout_fault, kernel_calls._fields_fault)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("field", ["TYPE", "DATA", "NDIM", "SHAPE", "STRIDES", "DTYPE", "FLAGS"])
def test_another_layout_of_arrays_is_noticed_and_ctypes_used(axpy, monkeypatch, forgetful, field):
    monkeypatch.setattr(cpu_entry, field, getattr(cpu_entry, field) + 4 * (field == "NDIM") + 8)
    assert "another layout" in str(kernel_calls.layout_fault())
    call = axpy((2, 3), True)
    assert isinstance(call, kernel_calls._CtypesCall)
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(call(x), x * 3.0 + 0.1)


def test_other_pythons_and_numpys_are_not_called_directly(monkeypatch, forgetful):
    monkeypatch.setattr(np, "__version__", "3.0.0")
    assert "only NumPy 2" in str(kernel_calls.layout_fault())
    monkeypatch.undo()
    kernel_calls._fields_fault.cache_clear()
    kernel_calls.layout_fault.cache_clear()
    monkeypatch.setattr(sys, "abiflags", "t")
    assert "global lock" in str(kernel_calls.layout_fault())


@pytest.mark.parametrize("word", ["number of the type", "version"])
def test_another_table_of_numpys_functions_is_not_used(monkeypatch, forgetful, word):
    if word == "version":
        monkeypatch.setattr(kernel_calls, "_BINARY_INTERFACE", 0x03000000)
    else:
        monkeypatch.setattr(kernel_calls, "_ARRAY_TYPE", 3)
    assert "NumPy's" in str(kernel_calls.layout_fault())


def test_a_trial_that_goes_wrong_rules_the_direct_way_out(monkeypatch, forgetful):
    monkeypatch.setattr(kernel_calls, "_fast_call", lambda *_: lambda *__: [np.zeros(1)] * 2)
    assert "a trial" in str(kernel_calls.layout_fault())
    monkeypatch.undo()
    kernel_calls.layout_fault.cache_clear()
    assert kernel_calls.layout_fault() is None
