"""Arguments of the class `cupy.ndarray` are computed by that module and give results of that class.

The module is a stand-in with CuPy's manners (see fake_cupy.py), so this runs on any machine.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff import tree
from autodiff.ir.primitive import primitives
from tests.composition import fake_cupy
from tests.composition.fake_cupy import cupy
from tests.emulator.device import emulated
from tests.primitives.sampling import cases, names, supported

HOST = np.array([0.5, -1.0, 2.0])


@pytest.fixture(autouse=True)
def _cupy_is_imported():
    fake_cupy.transfers.clear()
    with emulated(checked=True), ad.override(device="cpu"):
        yield


def device(x):
    return fake_cupy.ndarray(np.array(x))


def check(found, expected):
    """Compare device results with NumPy's, leaf by leaf."""
    assert tree.structure(found) == tree.structure(expected)
    for leaf, wanted in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert type(leaf) is fake_cupy.ndarray, type(leaf)
        assert (leaf.shape, leaf.dtype) == (np.shape(wanted), np.asarray(wanted).dtype)
        np.testing.assert_allclose(leaf._data, wanted, rtol=1e-14)


def wave(x):
    return np.sin(x) * x


def loss(x):
    return np.sum(np.tanh(x) ** 2) * 0.5


TRANSFORMATIONS = {
    "jit": lambda x: ad.jit(wave)(x),
    "grad": lambda x: ad.grad(loss)(x),
    "value_and_grad": lambda x: ad.value_and_grad(loss)(x),
    "jvp": lambda x: ad.jvp(wave, (x,), (x,)),
    "vjp": lambda x: ad.vjp(wave, x)[1](x),
    "linearize": lambda x: ad.linearize(wave, x)[1](x),
    "vmap": lambda x: ad.vmap(wave)(x),
    "vmap_of_grad": lambda x: ad.vmap(ad.grad(wave))(x),
    "jacfwd": lambda x: ad.jacfwd(wave)(x),
    "jacrev": lambda x: ad.jacrev(wave)(x),
    "hessian": lambda x: ad.hessian(loss)(x),
    "hvp": lambda x: ad.hvp(loss, (x,), (x,)),
    "ggn_vp": lambda x: ad.ggn_vp(wave, loss, x, x),
    "hess_diag": lambda x: ad.hess_diag(loss)(x),
    "laplacian": lambda x: ad.laplacian(loss, chunk_size=2)(x),
    "psum": lambda x: ad.vmap(lambda y: y * ad.psum(wave(y), "i"), axis_name="i")(x),
    "extrema": lambda x: ad.vmap(ad.grad(lambda y: ad.pmax(wave(y), "i")), axis_name="i")(x),
    "gather_and_scatter": lambda x: ad.vmap(
        lambda y: ad.psum_scatter(ad.all_gather(y, "i"), "i"), axis_name="i"
    )(x),
    "permute": lambda x: ad.vmap(
        lambda y: ad.ppermute(y, "i", [(0, 2)]) + ad.axis_index("i"), axis_name="i"
    )(x),
    "jit_inside_a_named_map": lambda x: ad.vmap(
        ad.jit(lambda y: y + ad.axis_index("i") * ad.psum(y, "i")), axis_name="i"
    )(x),
    "jit_of_grad": lambda x: ad.jit(ad.grad(loss))(x),
    "grad_of_unused": lambda x: ad.grad(lambda x, y: np.sum(x), 1)(x, x),
    "aux": lambda x: ad.grad(lambda x: (loss(x), x * 2.0), has_aux=True)(x),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_device_arguments_give_device_results(name):
    transformation = TRANSFORMATIONS[name]
    for _ in range(4):  # by equations first, then compiled
        check(transformation(device(HOST)), transformation(HOST))
    assert "to the host" not in fake_cupy.transfers


FUNCTIONS = {
    "operators": lambda x: (x + 1) / (2 - x) ** 2 + abs(-x),
    "comparison": lambda x: anp.where(x > 0, x, 0.0),
    "reductions": lambda x: anp.sum(x) + anp.max(x) * anp.prod(x),
    "shapes": lambda x: anp.concatenate([anp.reshape(x, (3, 1)), anp.stack([x, x, x])], axis=1),
    "indexing": lambda x: x[::-1] * x[0] + x[1:2],
    "matrix product": lambda x: anp.outer(x, x) @ x,
    "update": lambda x: x.at[0].set(3.0),
    "clip and round": lambda x: anp.clip(anp.floor(x), -1, 1),
    "cumulative": lambda x: anp.cumsum(x),
    "sorting": lambda x: anp.sort(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_traced_functions_of_every_family_run_on_the_device(name):
    def f(x):
        return FUNCTIONS[name](x)

    for transformed in (ad.jit(f), lambda x: ad.jvp(f, (x,), (x,))):
        for _ in range(4):
            check(transformed(device(HOST)), transformed(HOST))
    assert "to the host" not in fake_cupy.transfers


@pytest.mark.parametrize("name", names())
def test_every_operations_reference_runs_on_the_device(name):
    primitive = primitives[name]
    kinds = {}
    for dtype in supported(primitive):
        if dtype.isbuiltin == 1:  # CuPy has no bfloat16
            kinds.setdefault(dtype.kind, dtype)
    for dtype in kinds.values():
        for case in cases(primitive, dtype):
            operands = [device(x) if x.shape else x[()] for x in case.operands]
            if not any(x.shape for x in operands):
                operands[0] = device(operands[0])
            with np.errstate(all="ignore"):
                found = primitive.reference(*operands, **case.params)
            found = found if primitive.multiple_outputs else (found,)
            for leaf, wanted in zip(found, case.reference(), strict=True):
                assert type(leaf) is fake_cupy.ndarray, (case.label, type(leaf))
                # Sums in another order, where CuPy has no function that NumPy's loop is.
                rtol = 4 * np.finfo(leaf.dtype).eps if leaf.dtype.kind in "fc" else 0
                np.testing.assert_allclose(leaf._data, wanted, rtol=rtol, err_msg=case.label)


@pytest.mark.parametrize("name", ["sin", "sum", "concatenate", "where", "cumsum", "matmul"])
def test_plain_device_arrays_go_to_cupys_function(name):
    x = device(HOST)
    arguments = {"concatenate": ([x, x],), "where": (x > 0, x, x), "matmul": (x, x)}.get(name, (x,))
    host = {"concatenate": ([HOST, HOST],), "where": (HOST > 0, HOST, HOST), "matmul": (HOST, HOST)}
    check(getattr(anp, name)(*arguments), getattr(np, name)(*host.get(name, (HOST,))))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_number_and_an_array_are_the_parts_of_complex_values(is_first):
    def f(x, number):
        return primitives["make_complex"](*((number, x) if is_first else (x, number)))

    number = np.float64(0.25)
    check(
        ad.jvp(f, (device(HOST), number), (device(HOST), number)),
        ad.jvp(f, (HOST, number), (HOST, number)),
    )


def test_a_number_is_an_operand_of_a_contraction_on_the_device():
    def f(number, x):
        return primitives["dot_general"](number, x, dimensions=(((), ()), ((), ())))

    number = np.float64(0.25)
    for _ in range(4):
        check(
            ad.jvp(f, (number, device(HOST)), (number, device(HOST))),
            ad.jvp(f, (number, HOST), (number, HOST)),
        )


def test_values_on_the_device_answer_python():
    def f(x):
        if x[0] > 0 and float(np.sum(x)) > 1.0:
            return np.sum(x**2)
        return np.sum(x**3)

    check(ad.grad(f)(device(HOST)), 2 * HOST)


def test_a_numpy_constant_is_uploaded():
    scale = np.array([1.0, 2.0, 3.0])
    jitted = ad.jit(lambda x: x * scale)
    check(jitted(device(HOST)), HOST * scale)
    check(ad.grad(lambda x: np.sum(x * scale))(device(HOST)), scale)
    check(
        ad.vmap(lambda x: x * scale)(device(np.stack([HOST, HOST]))), np.stack([HOST * scale] * 2)
    )
    _, pull = ad.vjp(lambda x: x * scale, device(HOST))
    check(pull(device(HOST)), (HOST * scale,))
    assert "to the device" in fake_cupy.transfers


def test_a_jitted_function_uploads_its_constants_once():
    jitted = ad.jit(lambda x: x * np.array([1.0, 2.0, 3.0]))
    x = device(HOST)
    jitted(x)
    fake_cupy.transfers.clear()
    for _ in range(5):
        jitted(x)
    assert fake_cupy.transfers == []


def test_one_jitted_function_serves_both_kinds():
    jitted = ad.jit(wave)
    for _ in range(2):
        assert type(jitted(HOST)) is np.ndarray
        check(jitted(device(HOST)), wave(HOST))


def test_device_results_share_no_memory_with_arguments():
    x = device(HOST)
    for f in (lambda x: x, lambda x: x[::-1], lambda x: x.reshape(3, 1)):
        for transformed in (ad.jit(f), lambda x, f=f: ad.vjp(f, x)[0]):
            assert not np.shares_memory(transformed(x)._data, x._data)


MIXED = {
    "grad": lambda f: ad.grad(lambda first, second: np.sum(f(first, second))),
    "value_and_grad": lambda f: ad.value_and_grad(f, (0, 1)),
    "jvp": lambda f: lambda a, b: ad.jvp(f, (a, b), (a, b)),
    "vjp": lambda f: lambda a, b: ad.vjp(f, a, b),
    "linearize": lambda f: lambda a, b: ad.linearize(f, a, b),
    "jacfwd": lambda f: ad.jacfwd(f),
    "jacrev": lambda f: ad.jacrev(f),
    "jit": lambda f: ad.jit(f),
    "vmap": lambda f: ad.vmap(f),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixing_both_kinds_of_arrays_names_both_arguments(name):
    def f(first, second):
        return first * second

    for arguments, text in (
        ((HOST, device(HOST)), "first as numpy.ndarray and second as cupy.ndarray"),
        ((device(HOST), HOST), "second as numpy.ndarray and first as cupy.ndarray"),
    ):
        call = MIXED[name](f)
        with pytest.raises(TypeError) as caught:
            call(*arguments)
        requirement, where, fix = str(caught.value).split("\n")
        assert requirement == f"{name}: the arguments must be on one device, got {text}."
        assert where.startswith("At ")
        assert "test_cupy_seam.py" in where
        assert fix == "To fix: move one of them (cupy.asarray or cupy.asnumpy)."


def test_numpy_scalars_and_python_numbers_mix_with_the_device():
    check(ad.jit(lambda x, s: x * s)(device(HOST), 2.0), HOST * 2.0)
    check(ad.jit(lambda x, s: x * s)(device(HOST), np.float64(2.0)), HOST * 2.0)


def test_cupys_own_functions_record_when_they_meet_a_traced_value():
    def f(x):
        y = cupy.sin(x) + cupy.multiply(device(HOST), x) * device(HOST)
        return cupy.sum(cupy.maximum(y, 0.0) + cupy.exp(-x))

    def by_numpy(x):
        y = np.sin(x) + np.multiply(HOST, x) * HOST
        return np.sum(np.maximum(y, 0.0) + np.exp(-x))

    check(ad.grad(f)(device(HOST)), ad.grad(by_numpy)(HOST))
    check(ad.jit(f)(device(HOST)), by_numpy(HOST))


@pytest.mark.parametrize(
    "name", ["sum", "prod", "max", "min", "amax", "amin", "mean", "any", "all"]
)
def test_the_reduction_hook_records_numpys_function_of_the_name(name):
    kernel = SimpleNamespace(name=f"cupy_{name}")
    host = np.array([[0.5, -1.0, 2.0], [1.0, 3.0, -2.0]])

    def f(x):
        return x.__cupy_override_reduction_kernel__(kernel, 1, None, None, True)

    check(ad.jit(f)(device(host)), getattr(np, name)(host, axis=1, keepdims=True))


def test_the_elementwise_hook_takes_an_output_that_is_traced():
    def f(x):
        y = x * 1.0
        kernel = SimpleNamespace(name="cupy_add", nin=2)
        y.__cupy_override_elementwise_kernel__(kernel, x, x, y)
        return y

    check(ad.jit(f)(device(HOST)), 2 * HOST)


@pytest.mark.parametrize("function", [ad.jit, ad.vmap])
def test_kernels_that_are_no_function_of_numpy_are_refused(function):
    def f(x):
        return x.__cupy_override_elementwise_kernel__(SimpleNamespace(name="my_kernel"), x)

    with pytest.raises(TypeError, match=r"^cupy\.my_kernel: the kernel is not among those"):
        function(f)(device(HOST))

    def g(x):
        return x.__cupy_override_reduction_kernel__(
            SimpleNamespace(name="my_reduction"), None, None, None, False
        )

    with pytest.raises(TypeError, match=r"^cupy\.my_reduction: the reduction is not among those"):
        function(g)(device(HOST))


@pytest.mark.parametrize("number", [0.5, 2j, np.float32(0.5)])
def test_numbers_are_compared_with_arrays_of_the_device(number):
    def f(x):
        z = x * (1.0 + 0.0j)
        return np.equal(number, z), z != number, np.less_equal(np.real(number), x)

    check(ad.jit(f)(device(HOST)), f(HOST))


def test_a_traced_value_is_no_buffer_for_cupy():
    def f(x):
        assert not hasattr(x, "__cuda_array_interface__")
        assert not hasattr(x, "__cupy_get_ndarray__")
        return x

    ad.jit(f)(device(HOST))


def test_waiting_for_results_asks_the_device(monkeypatch):
    waited = []
    stream = SimpleNamespace(synchronize=lambda: waited.append(True))
    cuda = SimpleNamespace(get_current_stream=lambda: stream, runtime=cupy.cuda.runtime)
    monkeypatch.setattr(cupy, "cuda", cuda, raising=False)
    x = {"a": device(HOST)}
    assert ad.block_until_ready(x) is x
    assert waited == [True]
    ad.block_until_ready({"a": HOST})
    assert waited == [True]
