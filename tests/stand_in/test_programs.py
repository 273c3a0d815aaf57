"""Programs on real CuPy arrays: values against NumPy's, and where and how they run."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff import tree
from autodiff.runtime import backends, cupy_device, nvrtc

X = np.random.default_rng(0).normal(size=(6, 8))


def wave(x):
    return np.sin(x) * x


def loss(x):
    return np.sum(np.tanh(x) ** 2) * 0.5


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def doubled_until(x):
    return ad.while_loop(lambda c: np.max(np.abs(c)) < 100.0, lambda c: 2.0 * c, x)


PROGRAMS = {
    "elementwise": wave,
    "reduction": loss,
    "rows": softmax,
    "grad": ad.grad(loss),
    "value_and_grad": ad.value_and_grad(loss),
    "grad of rows": ad.grad(lambda x: np.sum(softmax(x) ** 2)),
    "vmap": ad.vmap(lambda x: wave(x) / np.sum(x * x)),
    "vmap of grad": ad.vmap(ad.grad(loss)),
    "jvp": lambda x: ad.jvp(wave, (x,), (np.cos(x),)),
    "hvp": lambda x: ad.hvp(loss, (x,), (np.cos(x),)),
    "several kernels": lambda x: np.sin(x - np.sum(x, axis=0)) * np.sum(x.T * x[0, :, None]),
    "several outputs": lambda x: {"sin": np.sin(x), "rest": (np.cos(x), np.max(x))},
    "views": lambda x: np.concatenate([x.T[::-1], 2.0 * x.T], axis=1),
    "take": lambda x: np.take(x, np.array([3, 0, 3]), axis=1),
    "where": lambda x: np.where(x > 0.0, x, np.exp(x)),
    "integers": lambda x: np.argmax(x, axis=1) + (x > 0.5).astype(np.int32).sum(axis=1),
    "complex": lambda x: np.abs(np.exp(1j * x) + x),
    "half": lambda x: (x.astype(np.float16) * 2).astype(np.float64),
    "scan": lambda x: ad.scan(lambda c, r: (c * 0.5 + r, np.sum(c)), np.zeros(8), x),
    "loop": doubled_until,
    "grad of a loop": ad.grad(lambda x: np.sum(ad.fori_loop(0, 3, lambda i, c: np.sin(c) + i, x))),
    "condition": lambda x: ad.cond(np.sum(x) > 0.0, np.sin, np.cos, x),
    "creation": lambda x: x + anp.arange(8) * anp.ones(8) + anp.zeros_like(x) + anp.full(8, 0.5),
    "random": lambda x: x + ad.random.uniform(ad.random.key(3), x.shape),
    "writes": lambda x: ad.at(np.zeros((2, 8)))[1].set(x[0]) + ad.at(x[1])[2:4].add(x[2, :2]),
    "sums at places": lambda x: ad.at(np.zeros((3, 8)))[np.array([2, 0, 2, 1, 0, 2])].add(x),
    "complex sums at places": lambda x: np.abs(
        ad.at(np.zeros((3, 8), complex))[np.array([2, 0, 2, 1, 0, 2])].add(x * (1 + 2j))
    ),
    "logsumexp": lambda x: np.logaddexp.reduce(x, axis=1),
    "products": lambda x: np.tanh(x @ x.T) @ x + np.einsum("ij,kj->ik", x, x)[:, :1],
    "callback": lambda x: ad.pure_callback(lambda y: y * 2, x, x),
}  # fmt: skip


@pytest.fixture(params=["jit", "one by one"])
def run(request):
    """Run programs as they are meant to be run, and equation by equation by CuPy's functions."""
    if request.param == "jit":
        yield ad.jit
        return
    with ad.override(reference=True):
        yield ad.jit


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_do_on_numpy(cupy, run, name):
    program = run(PROGRAMS[name])
    wanted = PROGRAMS[name](X)
    for _ in range(3):  # traced, run, and by the entry for arguments like these
        found = program(cupy.asarray(X))
        assert tree.structure(found) == tree.structure(wanted)
        for x, y in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
            assert type(x) is cupy.ndarray
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x.get(), y, rtol=1e-12, atol=1e-14)


VIEWS = {
    "transposed": lambda x: x.T,
    "backwards": lambda x: x[::-1, ::-1],
    "every second": lambda x: x[1::2, ::2],
    "misaligned": lambda x: x.ravel()[1:].reshape(-1),
    "a number": lambda x: x[2, 3],
    "empty": lambda x: x[:0],
    "one row": lambda x: x[3:4],
    "repeated": lambda x: np.broadcast_to(x[0], (3, 8)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_any_view_is_an_operand(cupy, view):
    square, value = ad.jit(lambda x: x * x), ad.jit(ad.grad(loss))
    for _ in range(2):
        x = VIEWS[view](cupy.asarray(X))
        host = np.asarray(VIEWS[view](X))
        np.testing.assert_array_equal(square(x).get(), host**2)
        np.testing.assert_allclose(value(x).get(), ad.grad(loss)(host), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint32", "complex64", "bool"])
def test_element_types(cupy, dtype):
    host = (X * 3).astype(dtype)
    program = ad.jit(lambda x: (x + x, np.sum(x, axis=0), x.ravel()[::-1] * x.ravel()))
    for _ in range(2):
        for x, y in zip(program(cupy.asarray(host)), program(host), strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x.get(), y, rtol=1e-3 if dtype == "float16" else 1e-6)


def test_bfloat16(cupy):
    import ml_dtypes

    host = X.astype(ml_dtypes.bfloat16)
    program = ad.jit(lambda x: x * x + x)
    found = program(cupy.asarray(host))
    assert found.dtype == host.dtype
    np.testing.assert_array_equal(found.get().astype(float), program(host).astype(float))


def test_numbers_are_arguments(cupy):
    f = ad.jit(lambda rate, x, n: rate * x + n)
    x = cupy.asarray(X.astype(np.float32))
    for rate, n in ((0.5, 1), (2.5, -3), (-0.0, 1 << 40), (1e300, 0)):
        with np.errstate(over="ignore"):
            wanted = np.float32(rate) * X.astype(np.float32) + np.float32(n)
        np.testing.assert_allclose(f(rate, x, n).get(), wanted, rtol=1e-6)
    for rate in (np.float32(0.5), np.float64(0.5), cupy.asarray(0.5, np.float32)):
        found = f(rate, x, 2)
        assert found.dtype == np.result_type(rate.dtype, np.float32)
        np.testing.assert_allclose(found.get(), f(0.5, x, 2).get(), rtol=1e-6)
    np.testing.assert_array_equal(f(x=x, rate=0.5, n=2).get(), f(0.5, x, 2).get())


def test_results_are_fresh(cupy):
    f = ad.jit(lambda x: (x, x.T, x + 0.0))
    for _ in range(3):
        x = cupy.asarray(X)
        outputs = f(x)
        addresses = {y.data.ptr for y in (x, *outputs)}
        assert len(addresses) == 4
        x[...] = 0.0
        np.testing.assert_array_equal(outputs[0].get(), X)


@pytest.mark.parametrize("name", ["elementwise", "reduction", "rows", "several kernels"])
def test_kernels_run_on_the_current_stream(cupy, emulation, name):
    program = ad.jit(PROGRAMS[name])
    x = cupy.asarray(X)
    wanted = program(x).get()
    program(x)
    for stream in (cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream.null):
        for _ in range(2):
            emulation.launches.clear()
            with stream:
                np.testing.assert_array_equal(program(x).get(), wanted)
            assert {launch.stream for launch in emulation.launches} == {stream.ptr}


def test_a_call_like_the_last_one_is_one_launch(cupy, emulation):
    program = ad.jit(ad.value_and_grad(lambda x: np.sum(wave(x))))
    for _ in range(4):
        emulation.launches.clear()
        program(cupy.asarray(X))
    assert [launch.name for launch in emulation.launches] == ["kernel"]


def test_donated_arguments_are_taken(cupy):
    f = ad.jit(lambda x, y: x * 2.0 + y, donate_argnums=0)
    for _ in range(3):
        x, y = cupy.asarray(X), cupy.asarray(X)
        np.testing.assert_array_equal(f(x, y).get(), X * 2.0 + X)
        np.testing.assert_array_equal(y.get(), X)


def test_settings_are_those_of_the_call(cupy, emulation):
    program = ad.jit(softmax)
    x = cupy.asarray(X)
    for _ in range(3):
        wanted = program(x).get()
    for changes in ({"kernels": False}, {"no_fusion": True}, {"reference": True}):
        emulation.launches.clear()
        with ad.override(**changes):
            np.testing.assert_allclose(program(x).get(), wanted, rtol=1e-14)
        names = {launch.name for launch in emulation.launches}
        assert ("kernel" in names) is ("no_fusion" in changes)
    with ad.override(check="nans"), pytest.raises(FloatingPointError, match="log"):
        ad.jit(lambda x: np.log(x))(cupy.asarray(-np.ones(3)))


def test_named_axes_are_those_of_the_call(cupy):
    total = ad.jit(lambda x: x * 2.0)
    inside = ad.jit(lambda x: x / ad.psum(x, "i"))
    x = cupy.asarray(X)
    for _ in range(3):
        np.testing.assert_array_equal(total(x).get(), X * 2.0)
        found = ad.vmap(lambda row: inside(total(row)), axis_name="i")(x)
        np.testing.assert_allclose(found.get(), X / X.sum(axis=0), rtol=1e-13)


def test_new_arrays_are_made_where_the_setting_says(cupy):
    with ad.override(device="gpu"):
        made = [anp.arange(3), anp.zeros((2, 2)), anp.ones(3), anp.full(2, 7.0), anp.eye(2)]
        made += [anp.linspace(0.0, 1.0, 5), anp.asarray([1.0, 2.0]), anp.array(3.0)]
        made.append(ad.random.normal(ad.random.key(0), (4,)))
    with ad.override(device="cpu"):
        wanted = [anp.arange(3), anp.zeros((2, 2)), anp.ones(3), anp.full(2, 7.0), anp.eye(2)]
        wanted += [anp.linspace(0.0, 1.0, 5), anp.asarray([1.0, 2.0]), anp.array(3.0)]
        wanted.append(ad.random.normal(ad.random.key(0), (4,)))
    for x, y in zip(made, wanted, strict=True):
        assert (type(x), x.dtype) == (cupy.ndarray, y.dtype)
        np.testing.assert_allclose(x.get(), y, rtol=1e-15)


def test_waiting_for_results(cupy):
    result = {"a": ad.jit(wave)(cupy.asarray(X))}
    assert ad.block_until_ready(result) is result


def test_mixed_arguments_are_refused(cupy):
    with pytest.raises(TypeError, match="must be on one device, got x as numpy"):
        ad.jit(lambda x, y: x + y)(X, cupy.asarray(X))


def test_the_text_is_shown(cupy, capsys):
    ad.show(wave, cupy.asarray(X), stage="source")
    assert "__global__" in capsys.readouterr().out


def test_what_is_compiled_is_what_nvrtc_takes(cupy, emulation, tmp_path):
    with ad.override(cache_dir=str(tmp_path / "cache")):
        ad.jit(lambda x: softmax(np.sinh(x)))(cupy.asarray(X))
    assert emulation.compiled
    for text in emulation.compiled:
        assert nvrtc._compiled(text, "--gpu-architecture=sm_90", ("--std=c++17",), "CUBIN")[0]


# ---- errors


def test_text_that_does_not_compile_leaves_everything_to_cupy(cupy, emulation, monkeypatch):
    def refused(source, architecture, options=()):
        raise nvrtc.CompileError("compile_cuda: no")

    monkeypatch.setattr(nvrtc, "compile_cuda", refused)
    monkeypatch.setattr(backends, "_unusable", set())
    program = ad.jit(lambda x: np.cosh(x) * 3.25 - np.sum(x))
    x = cupy.asarray(X)
    with (
        ad.override(verify=False),
        pytest.warns(RuntimeWarning, match="CompileError: compile_cuda"),
    ):
        found = program(x)
    np.testing.assert_allclose(found.get(), np.cosh(X) * 3.25 - np.sum(X), atol=1e-13)
    with warnings.catch_warnings(), ad.override(verify=False):
        warnings.simplefilter("error")
        np.testing.assert_array_equal(program(x).get(), found.get())
        other = ad.jit(lambda x: np.sinh(x) - 0.125)(x)
    np.testing.assert_allclose(other.get(), np.sinh(X) - 0.125, rtol=1e-13)


def test_a_loop_whose_body_does_not_compile_is_left_to_cupy(cupy, monkeypatch):
    def refused(source, architecture, options=()):
        raise nvrtc.CompileError("compile_cuda: no")

    monkeypatch.setattr(nvrtc, "compile_cuda", refused)
    monkeypatch.setattr(backends, "_unusable", set())
    program = ad.jit(lambda x: ad.fori_loop(0, 3, lambda i, c: np.sinh(c) * 0.375 + i, x))
    with ad.override(verify=False), pytest.warns(RuntimeWarning, match="CompileError"):
        found = program(cupy.asarray(X))
    np.testing.assert_allclose(found.get(), program(X), rtol=1e-13)


# ---- several GPUs


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run_on_the_gpu_of_their_arguments(cupy, emulation, name):
    program = ad.jit(PROGRAMS[name])
    wanted = PROGRAMS[name](X)
    for index in (1, 0, 1):
        with cupy.cuda.Device(index):
            x = cupy.asarray(X)
        emulation.launches.clear()
        for current in (index, 1 - index):
            with cupy.cuda.Device(current):
                for _ in range(2):
                    found = program(x)
        assert {launch.device for launch in emulation.launches} <= {index}
        for y, host in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
            assert y.device.id == index
            with y.device:
                np.testing.assert_allclose(y.get(), host, rtol=1e-12, atol=1e-14)
    assert cupy.cuda.Device().id == 0


def test_constants_are_copied_to_the_gpu_of_the_arguments(cupy):
    program = ad.jit(lambda x: x * np.arange(8.0) + X[0])
    for index in (0, 1, 0):
        with cupy.cuda.Device(index):
            x = cupy.asarray(X)
        found = program(x)
        assert found.device.id == index
        with found.device:
            np.testing.assert_allclose(found.get(), X * np.arange(8.0) + X[0], rtol=1e-14)


def test_a_gradient_that_is_not_jitted_is_on_the_gpu_of_its_argument(cupy):
    with cupy.cuda.Device(1):
        x = cupy.asarray(X)
    for _ in range(4):
        slope = ad.grad(loss)(x)
        assert slope.device.id == 1
    with slope.device:
        np.testing.assert_allclose(slope.get(), ad.grad(loss)(X), rtol=1e-12)


def test_arguments_on_several_gpus_are_refused(cupy):
    first = cupy.asarray(X)
    with cupy.cuda.Device(1):
        second = cupy.asarray(X)
    program = ad.jit(lambda params, x: params["w"] * x)
    program({"w": first}, first)
    with pytest.raises(ValueError) as caught:
        program({"w": first}, second)
    requirement, where, fix = str(caught.value).split("\n")
    assert requirement == (
        "jit: the arguments must be on one GPU, got params['w'] on GPU 0 and x on GPU 1."
    )
    assert "test_programs.py" in where
    assert fix.startswith("To fix: copy one of them: with cupy.cuda.Device(i): x = cupy.asarray(x)")
    with pytest.raises(ValueError, match="grad: the arguments must be on one GPU"):
        ad.grad(lambda x, y: np.sum(x * y))(first, second)


def test_constants_are_part_of_a_direct_call(cupy, emulation):
    on_gpu, turned = cupy.asarray(X[0]), cupy.asarray(X).T
    number = np.array(2.5)
    for f, wanted in (
        (lambda x: x * on_gpu + number, X * X[0] + 2.5),
        (lambda x: (x * on_gpu, np.sum(x, axis=0) * number), (X * X[0], X.sum(axis=0) * 2.5)),
        (lambda x: np.sin(x) * turned.T, np.sin(X) * X),
    ):
        program = ad.jit(f)
        for _ in range(3):
            emulation.launches.clear()
            found = program(cupy.asarray(X))
        assert {launch.name for launch in emulation.launches} == {"kernel"}
        for x, y in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(x.get(), y, rtol=1e-14)


def test_trees_are_arguments_and_results_of_direct_calls(cupy, emulation):
    def step(params, slopes, rate):
        return {name: w - rate * slopes[name] for name, w in params.items()}, rate

    program = ad.jit(lambda params, slopes, rate: step(params, slopes, rate)[0])
    host = {"w": X, "rest": {"b": X[0], "none": None}}
    flat = {"w": X, "b": X[0]}
    for _ in range(4):
        emulation.launches.clear()
        found = program(*[tree.map(cupy.asarray, flat)] * 2, 0.25)
        assert {launch.name for launch in emulation.launches} == {"kernel"}
        assert sorted(found) == ["b", "w"]
        np.testing.assert_allclose(found["w"].get(), 0.75 * X, rtol=1e-14)
        np.testing.assert_allclose(found["b"].get(), 0.75 * X[0], rtol=1e-14)
    nested = ad.jit(lambda p: {"w": p["w"] * 2.0, "rest": p["rest"]})
    for _ in range(3):
        found = nested(tree.map(cupy.asarray, host))
        assert found["rest"]["none"] is None
        np.testing.assert_array_equal(found["w"].get(), 2.0 * X)
    with pytest.raises(TypeError, match="every leaf"):
        nested({"w": "text", "rest": {}})
    with pytest.raises(KeyError):
        nested({"v": cupy.asarray(X)})


def test_calls_with_too_few_or_too_many_arguments_fail_as_the_function_does(cupy):
    program = ad.jit(lambda x, y: x * y)
    x = cupy.asarray(X)
    for _ in range(3):
        program(x, x)
    for args, named in (((x,), {}), ((x, x, x), {}), ((x, x), {"z": x}), ((), {})):
        with pytest.raises(TypeError, match="argument"):
            program(*args, **named)
    np.testing.assert_array_equal(program(x, y=x).get(), X * X)


def test_where_the_driver_is_not_offered_cupys_functions_launch(cupy, emulation, monkeypatch):
    monkeypatch.setattr(cupy_device, "_driver_launch", lambda: None)
    device = cupy_device.CupyDevice(cupy, 0)
    monkeypatch.setattr(backends, "_gpu", lambda module, index: device)
    for name in ("elementwise", "rows", "several kernels", "grad"):
        program = ad.jit(PROGRAMS[name])
        stream = cupy.cuda.Stream()
        for _ in range(3):
            emulation.launches.clear()
            with stream:
                found = program(cupy.asarray(X))
            assert {launch.stream for launch in emulation.launches} == {stream.ptr}
            np.testing.assert_allclose(found.get(), PROGRAMS[name](X), rtol=1e-12, atol=1e-14)
    number = ad.jit(lambda rate, x: rate * x)(0.75, cupy.asarray(X.astype(np.float32)))
    np.testing.assert_array_equal(number.get(), np.float32(0.75) * X.astype(np.float32))


def test_threads_call_one_function(cupy):
    program = ad.jit(lambda x, rate: np.sum(x, axis=1) * rate)
    program(cupy.asarray(X), 1.0)

    def run(k):
        with cupy.cuda.Device(k % 2), cupy.cuda.Stream():
            x = cupy.asarray(X + k)
            return [program(x, float(i)).get() for i in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for k, found in enumerate(pool.map(run, range(8))):
            for i, y in enumerate(found):
                np.testing.assert_allclose(y, (X + k).sum(axis=1) * i, rtol=1e-13)


@pytest.mark.parametrize("reference", [False, True])
def test_zeros_keep_their_sign(cupy, reference):
    programs = {
        "padded": lambda x: np.pad(x, 1, constant_values=-0.0),
        "a number": lambda x: (x, np.float64(-0.0)),
        "carried": lambda x: ad.fori_loop(0, 1, lambda i, c: c * 1.0, np.float64(-0.0) + 0 * x[0]),
        "multiplied": lambda x: x * np.array(-0.0),
    }
    for name, program in programs.items():
        with ad.override(reference=reference):
            found = tree.leaves(ad.jit(program)(cupy.asarray(np.ones(3))))
        for x, y in zip(found, tree.leaves(ad.jit(program)(np.ones(3))), strict=True):
            np.testing.assert_array_equal(np.signbit(x.get()), np.signbit(y), err_msg=name)
