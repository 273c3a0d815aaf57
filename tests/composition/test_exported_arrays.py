"""Arguments that are arrays of other libraries: taken by DLPack or the CUDA array interface."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives
from autodiff.runtime import devices
from tests.composition import fake_cupy
from tests.emulator.device import emulated

HOST = np.array([0.5, -1.0, 2.0])


class Exporter:
    """An array of another library, which says by DLPack where it is; it has no other attribute."""

    def __init__(self, array, kind=1):
        self._array, self._kind = array, kind

    def __dlpack_device__(self):
        return self._kind, 0

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)


class OnGpu:
    """An array on a GPU that is offered by the CUDA array interface alone."""

    def __init__(self, array):
        self._array = array

    @property
    def __cuda_array_interface__(self):
        return self._array.__array_interface__


@pytest.fixture
def gpu():
    with emulated(), ad.override(device="cpu"):
        yield


def wave(x):
    return np.sin(x) * x


def loss(x):
    return np.sum(np.tanh(x) ** 2)


def _halved(x):
    return x * 0.5


@ad.custom_jvp
def with_tangent(x):
    return np.sin(x)


with_tangent.defjvp(lambda primals, tangents: (np.sin(primals[0]), 2.0 * tangents[0]))


@ad.custom_vjp
def with_cotangent(x):
    return np.sin(x)


with_cotangent.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (3.0 * ct,))


@ad.custom_batching
def with_batch(x):
    return np.sin(x)


with_batch.defbatch(lambda size, batched, x: (np.cos(x), True))

doubled = ad.primitive(
    "doubled_export",
    lambda x: 2.0 * x,
    doc="Twice the number.",
    jvp=lambda t, out, x: 2.0 * t,
)
del primitives["doubled_export"]  # it is of these tests alone

TRANSFORMATIONS = {
    "jit": lambda x: ad.jit(wave)(x),
    "keyword": lambda x: ad.jit(lambda *, x: wave(x))(x=x),
    "grad": lambda x: ad.grad(loss)(x),
    "another argument": lambda x: ad.grad(lambda a, b: loss(a * b))(HOST, x),
    "jvp": lambda x: ad.jvp(wave, (x,), (x,)),
    "vjp": lambda x: ad.vjp(wave, x)[1](x),
    "linearize": lambda x: ad.linearize(wave, x)[1](x),
    "linear_transpose": lambda x: ad.linear_transpose(lambda y: 2.0 * y, x)(x),
    "vmap": lambda x: ad.vmap(wave)(x),
    "unmapped": lambda x: ad.vmap(lambda a, b: a * b, in_axes=(0, None))(HOST, x),
    "jacfwd": lambda x: ad.jacfwd(wave)(x),
    "jacrev": lambda x: ad.jacrev(wave)(x),
    "hessian": lambda x: ad.hessian(loss)(x),
    "hvp": lambda x: ad.hvp(loss, (x,), (x,)),
    "ggn_vp": lambda x: ad.ggn_vp(wave, loss, x, x),
    "checkpoint": lambda x: ad.checkpoint(wave)(x),
    "preaccumulate": lambda x: ad.preaccumulate(wave)(x),
    "custom_jvp": lambda x: with_tangent(x),
    "grad of custom_jvp": lambda x: ad.grad(lambda a, b: np.sum(a * with_tangent(b)))(HOST, x),
    "custom_vjp": lambda x: with_cotangent(x),
    "pytree of custom_vjp": lambda x: ad.vjp(with_cotangent, x)[1](x),
    "custom_batching": lambda x: with_batch(x),
    "scan": lambda x: ad.scan(lambda c, r: (c + r, c * r), 0.5, x),
    "scan from": lambda x: ad.scan(lambda c, _: (c * 2.0, c), x, None, length=2),
    "while": lambda x: ad.while_loop(lambda c: np.max(np.abs(c)) > 0.1, _halved, x),
    "fori": lambda x: ad.fori_loop(0, 3, lambda i, c: c * 2.0, x),
    "map": lambda x: ad.map(wave, x),
    "associative_scan": lambda x: ad.associative_scan(lambda a, b: a * b, x),
    "cond": lambda x: ad.cond(True, np.sin, np.cos, x),
    "switch": lambda x: ad.switch(1, [np.sin, np.cos], x),
    "custom_root": lambda x: ad.custom_root(
        lambda y: 2.0 * y - 1.0, x, lambda f, y: y - f(y) / 2.0, lambda g, y: y / g(np.ones(3))
    ),
    "custom_linear_solve": lambda x: ad.custom_linear_solve(
        lambda y: 2.0 * y, x, lambda matvec, b: b / 2.0
    ),
    "cg": lambda x: ad.cg(lambda y: 2.0 * y, x)[0],
    "ad.primitive": lambda x: doubled(x),
    "callback": lambda x: ad.pure_callback(_halved, HOST, x),
    "in a dictionary": lambda x: ad.grad(lambda p: loss(p["w"]))({"w": x}),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_what_is_in_memory_of_the_host_is_taken_as_numpys_array(name):
    found = TRANSFORMATIONS[name](Exporter(HOST))
    expected = TRANSFORMATIONS[name](HOST)
    assert ad.tree.structure(found) == ad.tree.structure(expected)
    for leaf, wanted in zip(ad.tree.leaves(found), ad.tree.leaves(expected), strict=True):
        assert type(leaf) is np.ndarray
        np.testing.assert_array_equal(leaf, wanted)


def test_types_are_found_without_running():
    assert str(ad.eval_shape(wave, Exporter(HOST))) == "float64[3]"
    graph = ad.make_graph(wave)
    assert str(graph(Exporter(HOST))) == str(graph(HOST))


def test_programs_are_kept_by_the_shapes_of_what_is_offered():
    jitted = ad.jit(wave)
    for shape in ((3,), (2, 2), (3,)):
        x = np.ones(shape)
        np.testing.assert_array_equal(jitted(Exporter(x)), wave(x))


def test_the_memory_is_shared_until_it_is_computed_on():
    seen = []
    ad.pure_callback(lambda x: seen.append(x) or x, HOST, ad.jit(lambda x: x)(Exporter(HOST)))
    assert not np.shares_memory(seen[0], HOST)
    np.testing.assert_array_equal(devices.imported_array(Exporter(HOST)), HOST)
    assert np.shares_memory(devices.imported_array(Exporter(HOST)), HOST)


@pytest.mark.parametrize("offer", [lambda x: Exporter(x, kind=2), OnGpu], ids=["DLPack", "CUDA"])
def test_what_is_on_a_gpu_is_taken_as_cupys_array(gpu, offer):
    names = (
        "jit",
        "grad",
        "vmap",
        "jacrev",
        "in a dictionary",
        "custom_vjp",
        "scan",
        "while",
        "cond",
    )
    for name in (*names, "custom_linear_solve", "ad.primitive"):
        found = ad.tree.leaves(TRANSFORMATIONS[name](offer(HOST)))
        for leaf, wanted in zip(found, ad.tree.leaves(TRANSFORMATIONS[name](HOST)), strict=True):
            assert type(leaf) is fake_cupy.ndarray
            np.testing.assert_allclose(leaf._data, wanted, rtol=1e-14)


def test_both_devices_in_one_call_are_refused(gpu):
    with pytest.raises(TypeError, match="the arguments must be on one device"):
        ad.jit(lambda x, y: x * y)(Exporter(HOST, kind=2), HOST)


@pytest.mark.parametrize("offer", [lambda x: Exporter(x, kind=2), OnGpu], ids=["DLPack", "CUDA"])
def test_an_array_on_a_gpu_that_cannot_be_used_is_refused(monkeypatch, offer):
    monkeypatch.setattr(devices, "_usable_gpu", lambda: (None, "CuPy is not installed"))
    with pytest.raises(TypeError) as caught:
        ad.jit(wave)(offer(HOST))
    requirement, where, fix = str(caught.value).split("\n")
    assert requirement.startswith("jit: an argument that offers its memory as an array must be one")
    assert requirement.endswith("(it is on a GPU, and CuPy is not installed).")
    assert "test_exported_arrays.py" in where
    assert fix.startswith("To fix: convert it to a numpy.ndarray or a cupy.ndarray")


def test_an_array_on_another_device_is_refused():
    with pytest.raises(TypeError, match=r"it is on a device of kind 8 of DLPack"):
        ad.grad(loss)(Exporter(HOST, kind=8))
