"""Programs whose kernels for GPUs are compiled and run in tests: one or more for every shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

import autodiff as ad
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cuda_kernels import emitted, schedule_for_cuda
from autodiff.schedule.fuse import Schedule
from autodiff.schedule.target import Target

anp = ad.numpy
F16, BF16, F32, F64 = np.float16, ml_dtypes.bfloat16, np.float32, np.float64


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A function and arguments to try it on.

    `ulps`: units in the last place, of the largest result, that kernels may differ by from NumPy.
    `wide`: whether kernels read and write 16 bytes at a time.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    ulps: float = 8.0
    wide: bool = False


def _array(*shape: int, dtype: Any = F32, low: float = -2.0, high: float = 2.0) -> Any:
    random = np.random.default_rng(sum(shape))
    return random.uniform(low, high, shape).astype(dtype)


def chain(x, w):
    h = np.sin(x) * np.exp(-x * x) + 2.0 * x
    return np.cos(h) * h * w + np.where(h > 0, np.sqrt(np.abs(h)), h / (1.0 + h * h))


def polynomial(x):
    return ((x * 0.5 + 1.5) * x - 0.25) * x + 3.0


def softmax(x, axis=-1):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def cross_entropy(x, target):
    return -np.sum(target * log_softmax(x)) / x.shape[0]


def layer_norm(x, gain, shift):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * gain + shift


def gelu(x):
    return x * (1.0 + ad.scipy.special.erf(x * 0.7071067811865476)) * 0.5


def adam(parameters, gradient, mean, square, rate):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient * gradient
    return parameters - rate * mean / (np.sqrt(square) + 1e-8), mean, square


def adamw_of_each(parameters, gradients, means, squares, rate):
    updated = []
    for x, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        slope = m / (1.0 - 0.9**3) / (np.sqrt(v / (1.0 - 0.999**3)) + 1e-8)
        updated.append((x - rate * (slope + 0.01 * x), m, v))
    return updated


def momentum_of_each(parameters, gradients, means, rate):
    updated = []
    for x, g, m in zip(parameters, gradients, means, strict=True):
        m = 0.9 * m + g.astype(m.dtype)
        updated.append(((x.astype(m.dtype) - rate * m).astype(x.dtype), m))
    return updated


def lorenz(x, y, z):
    def slope(x, y, z):
        return 10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z

    def moved(k, h):
        return x + h * k[0], y + h * k[1], z + h * k[2]

    first = slope(x, y, z)
    second = slope(*moved(first, 0.005))
    third = slope(*moved(second, 0.005))
    fourth = slope(*moved(third, 0.01))
    steps = zip(first, second, third, fourth, strict=True)
    a, b, c = (0.01 / 6.0 * (p + 2.0 * (q + r) + s) for p, q, r, s in steps)
    return x + a, y + b, z + c


def sum_of_gradient(function: Callable[..., Any], *positions: int) -> Callable[..., Any]:
    """Return the gradient of the sum of a function's results, weighted by the first argument."""
    return ad.grad(lambda *x: np.sum(function(*x) * np.sin(3.0 * x[0])), positions or 0)


def gradient_of_squares(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gradient of the sum of the squares of a function's results."""
    return ad.grad(lambda x: np.sum(function(x) ** 2))


def integers(x, y):
    return (x * 3 + y) // 7 % 5, (x << 2) ^ (y >> 1), np.minimum(x, y) & ~y


def truths(x, y):
    return (x < y) & (y > 0), np.isnan(x) | (x == y), ~(x >= y)


def random_bits(key):
    return ad.random.bits(key, (1000,))


def normal(key):
    return ad.random.normal(key, (1000,), F32)


def mean_and_variance(x):
    mean = np.mean(x, axis=1)
    return mean, np.mean((x - mean[:, None]) ** 2, axis=1)


def _arrays(*shapes: Any, dtype: Any = F32) -> list[Any]:
    return [_array(*shape, dtype=dtype, low=0.1) for shape in shapes]


#: Shapes of parameters: odd, of one element, of more than one block.
SHAPES = ((7, 5), (1,), (1025,), (3, 4, 11), (64,), (4099,))


def embedding_loss(table, tokens):
    return np.sum(np.sin(table[tokens]) ** 2)


def interaction(users, items, i, j):
    return np.sum(np.tanh(users[i] * items[j]))


def added(x, i, update, mode=None):
    return ad.at(x)[i].add(update, mode=mode)


def normalized_running_sum(x):
    total = np.cumsum(x * x, axis=1)
    return total / np.max(total, axis=1, keepdims=True)


def two_running_results(x, w):
    return np.cumsum(x * w, axis=1) - np.logaddexp.accumulate(x, axis=1), np.max(x, axis=1)


def running_sum(x):
    return np.cumsum(x, axis=-1)


#: Units in the last place of the largest sum so far that NumPy's own running sums of some thousands
#: of elements are off: about the root of their number.
RUNNING = 256.0

KEY = np.array([17, 42], np.uint32)
#: Indices that repeat, some of them much.
MANY = np.where(np.arange(900) % 3, np.arange(900) * 7 % 23, 5)
GAIN, SHIFT = _array(160), _array(160) + 1

PROGRAMS: tuple[Program, ...] = (
    # flat
    Program("polynomial", polynomial, (_array(1001),), wide=True),
    Program("chain", chain, (_array(4, 257), _array(4, 257)), wide=True),
    Program("chain_float64", chain, (_array(999, dtype=F64), _array(999, dtype=F64)), wide=True),
    Program("chain_float16", chain, (_array(515, dtype=F16), _array(515, dtype=F16)), wide=True),
    Program("chain_bfloat16", chain, (_array(515, dtype=BF16), _array(515, dtype=BF16)), wide=True),
    Program("half_to_single", lambda x, y: x.astype(F32) * y, (_array(77, dtype=F16), _array(77))),
    Program("gradient_of_chain", sum_of_gradient(chain, 0, 1), (_array(321), _array(321)), ulps=16),
    Program("integers", integers, (np.arange(-50, 51), np.arange(101) % 11 - 5), wide=True),
    Program(
        "small_integers",
        integers,
        (np.arange(200, dtype=np.uint8), np.arange(200, dtype=np.uint8)[::-1].copy() // 3),
        wide=True,
    ),
    Program("truths", truths, (_array(130), _array(130)[::-1].copy()), wide=True),
    Program("gelu", gelu, (_array(300),), wide=True),
    Program("gradient_of_gelu", sum_of_gradient(gelu), (_array(300),), ulps=16),
    Program(
        "gamma_functions",
        lambda x: ad.scipy.special.gammaln(x) + ad.scipy.special.digamma(x),
        (_array(200, low=0.2, high=9.0),),
    ),
    Program(
        "powers",
        lambda x, y: np.power(x, y) + np.hypot(x, y) * np.arctan2(y, x),
        (_array(200, low=0.1), _array(200)),
    ),
    Program(
        "remainders", lambda x, y: (x % y, np.fmod(x, y), x // y), (_array(200), _array(200) + 3)
    ),
    Program(
        "adam", adam, (*[_array(500 + i, low=0.1)[:500] for i in range(4)], F32(0.01)), wide=True
    ),
    Program("lorenz", lorenz, tuple(_array(400 + i)[:400] for i in range(3)), ulps=64, wide=True),
    Program("random_bits", random_bits, (KEY,), ulps=0),
    Program("random_normal", normal, (KEY,)),
    Program(
        "complex_chain",
        lambda z, w: np.exp(z) * w / (1.0 + z * np.conj(z)) + np.sqrt(w),
        (_array(101) + 1j * _array(102)[1:], _array(103)[2:] + 1j * _array(104)[3:]),
        ulps=16,
        wide=True,
    ),
    Program(
        "complex_rows",
        lambda z: (np.sum(z * z, axis=1), np.sum(z, axis=0), np.prod(1 + 0.01j * z)),
        ((_array(9, 33) + 1j * _array(33, 9).T).astype(np.complex64),),
        ulps=64,  # of a product of 297 factors
    ),
    Program(
        "gradient_of_modulus",
        ad.grad(lambda x, y: np.sum(np.abs(np.exp(x + 1j * y) + x) ** 2), (0, 1)),
        (_array(66, dtype=F64), _array(66, dtype=F64)),
        ulps=16,
        wide=True,
    ),
    Program("single_number", lambda x: np.exp(x) * 2.0, (np.array(0.5, F32),)),
    # many arrays
    Program(
        "adamw_of_each",
        adamw_of_each,
        (*[_arrays(*SHAPES) for _ in range(4)], F32(0.01)),
        wide=True,
    ),
    Program(
        "momentum_of_float16",
        momentum_of_each,
        (*[_arrays(*SHAPES, dtype=F16) for _ in range(2)], _arrays(*SHAPES), F32(0.1)),
        wide=True,
    ),
    Program(
        "momentum_of_bfloat16",
        momentum_of_each,
        (*[_arrays(*SHAPES, dtype=BF16) for _ in range(2)], _arrays(*SHAPES), F32(0.1)),
        wide=True,
    ),
    Program(
        "descent_of_complex",
        lambda z, g, rate: [x - rate * np.conj(y) * x for x, y in zip(z, g, strict=True)],
        (
            *[[x - 2j * x[::-1] for x in _arrays((33,), (1,), (257,), (6, 3))] for _ in range(2)],
            np.complex64(0.1 - 0.2j),
        ),
        wide=True,
    ),
    Program(
        "scaled_each_by_its_own",
        lambda arrays, numbers: [x * k + 1.0 for x, k in zip(arrays, numbers, strict=True)],
        (_arrays((70,), (4, 9), (999,)), [np.array(k, F32) for k in (0.5, 2.0, -1.0)]),
        wide=True,
    ),
    Program(
        "parts_of_one_array",
        lambda x: [np.tanh(x[a:b]) for a, b in ((0, 7), (8, 40), (41, 1300))],
        (_array(1500),),
        wide=True,
    ),
    Program(
        "heavy_of_each",
        lambda arrays: [ad.scipy.special.gammaln(np.sin(x) ** 2 + 0.5) for x in arrays],
        (_arrays((300,), (7,), (2, 3)),),
        ulps=16,
    ),
    Program(
        "bytes_of_each",
        lambda x, y: [a & b | (a ^ 3) for a, b in zip(x, y, strict=True)],
        ([np.arange(n, dtype=np.uint8) for n in (200, 17, 64)],) * 2,
        wide=True,
    ),
    # views and broadcasts
    Program("bias", lambda x, b: np.tanh(x + b), (_array(33, 64), _array(64)), wide=True),
    Program("scaled_rows", lambda x, c: x * c[:, None], (_array(33, 64), _array(33)), wide=True),
    Program("outer", lambda x, y: x[:, None] * y, (_array(40), _array(52)), wide=True),
    Program("odd_rows", lambda x, b: x + b, (_array(33, 7), _array(7))),
    Program("four_axes", lambda x, b: x * b, (_array(3, 4, 5, 8), _array(4, 1, 8)), wide=True),
    Program("transposed", lambda x, y: x.T + y, (_array(45, 70), _array(70, 45))),
    Program("transposed_axes", lambda x: x.transpose(2, 0, 1) * 2, (_array(3, 37, 66, dtype=F64),)),
    Program(
        "transposed_half",
        lambda x, y, b: x.T * y + b[:, None],
        (_array(70, 45, dtype=F16), _array(45, 70, dtype=F16), _array(45, dtype=F16)),
    ),
    Program("reversed_axes", lambda x: x.T + x.T[:, ::-1], (_array(40, 33),)),
    Program("taken", lambda x, i: np.sin(x[i] * 2.0), (_array(50), np.arange(300) % 50)),
    Program(
        "taken_rows",
        lambda x, i: np.sum(x[i] * 2.0, axis=1),
        (_array(20, 33), np.arange(70, dtype=np.int32) % 20),
    ),
    Program(
        "taken_out_of_range",
        lambda x, i: np.take(x, i, mode="clip") + np.take(x, i, mode="wrap"),
        (_array(50, dtype=F64), np.arange(-70, 130)),
    ),
    Program(
        "taken_at_pairs",
        lambda x, i, j: x[i, j] + 1.0,
        (_array(9, 11), np.arange(40) % 9, np.arange(40) * 3 % 11),
    ),
    Program("padded", lambda x: np.pad(x, (2, 3)) * 2.0 + 1.0, (_array(1500),)),
    Program(
        "joined",
        lambda x, y: np.sin(np.concatenate([x, y], axis=1)),
        (_array(7, 9), _array(7, 12)),
    ),
    Program("rolled", lambda x: x - np.roll(x, 3, axis=0), (_array(40, 17),)),
    Program(
        "gradient_of_differences",
        ad.grad(lambda x: np.sum(np.diff(x) ** 2)),
        (_array(300),),
        ulps=32,
    ),
    Program(
        "padded_rows",
        lambda x: np.sum(np.pad(x, ((1, 1), (2, 0))), axis=1),
        (_array(20, 33),),
    ),
    Program("counted", lambda x: x * np.arange(500, dtype=F32) + np.arange(500), (_array(500),)),
    Program("upper_triangle", lambda x: np.triu(x) + x, (_array(33, 40),)),
    Program("neighbours", lambda x: x[2:] - 2.0 * x[1:-1] + x[:-2], (_array(5000),)),
    Program("reversed", lambda x: x[::-1] * x, (_array(1000),)),
    Program("every_second", lambda x, y: x[::2] + y, (_array(1000), _array(500))),
    # updates at places
    Program("gradient_of_embedding", ad.grad(embedding_loss), (_array(23, 33), MANY), ulps=64),
    Program(
        "gradient_of_half_embedding",
        ad.grad(embedding_loss),
        (_array(23, 6, dtype=F16), MANY[:70]),
        ulps=64,
    ),
    Program(
        "gradient_of_interaction",
        ad.grad(interaction, (0, 1)),
        (_array(23, 3), _array(23, 3, dtype=F32) + 1, MANY, MANY[::-1].copy()),
        ulps=64,
    ),
    Program("gradient_of_wide_rows", ad.grad(embedding_loss), (_array(23, 150), MANY), ulps=64),
    Program(
        "gradient_along_a_middle_axis",
        ad.grad(lambda x, i: np.sum(np.sin(x[:, i]) ** 2)),
        (_array(4, 23, 40), MANY[:300]),
        ulps=64,
    ),
    Program("added_where", added, (_array(40), np.arange(-70, 90) % 60, _array(160)), ulps=0),
    Program(
        "weights_of_few_bins",
        added,
        (_array(7, dtype=F64), MANY % 7, _array(900, dtype=F64)),
        ulps=0,
    ),
    Program(
        "complex_updates",
        lambda z, i, w: ad.at(z)[i, i // 2].multiply(w),
        (1 + _array(23, 12) * 1j, MANY, 1 + 0.01j * _array(900)),
        ulps=64,
    ),
    Program(
        "last_updates",
        lambda x, i, y: ad.at(x)[i].set(y),
        (_array(23, 4), MANY, _array(900, 4)),
        ulps=0,
    ),
    Program(
        "smallest_updates",
        lambda x, i, y: ad.at(x)[i].min(y),
        (_array(23), MANY, _array(900)),
        ulps=0,
    ),
    Program(
        "counted_in_bins",
        lambda i: ad.at(np.zeros(23, np.int64))[i].add(1),
        (np.tile(MANY, 6),),
        ulps=0,
    ),
    Program(
        "counted_in_many_bins",
        lambda i: ad.at(np.zeros((3000, 2), np.int32))[i].max(i[:, None].astype(np.int32)),
        (MANY * 130,),
        ulps=0,
    ),
    Program(
        "small_integers_multiplied",
        lambda x, i: ad.at(x)[i].multiply(3),
        (np.arange(1, 24, dtype=np.int16), MANY),
        ulps=0,
    ),
    Program(
        "updates_of_one_place", lambda x, y: ad.at(x)[3].add(np.exp(y)), (_array(9, 40), _array(40))
    ),
    # rows
    Program("short_rows", lambda x: np.sum(x * x, axis=1), (_array(100, 3),)),
    Program("rows_of_a_warp", lambda x: np.sum(np.exp(x), axis=1), (_array(21, 160),), wide=True),
    Program("rows_of_a_block", lambda x: np.max(x * 2.0, axis=1), (_array(5, 5000),), wide=True),
    Program("moments_of_long_rows", mean_and_variance, (_array(3, 40000),), wide=True),
    Program("half_rows", lambda x: np.sum(x * x, axis=1), (_array(9, 200, dtype=F16),), wide=True),
    Program("softmax", softmax, (_array(21, 1000),), wide=True),
    Program("softmax_of_odd_rows", softmax, (_array(10, 77, dtype=F64),)),
    Program("softmax_of_block_rows", softmax, (_array(4, 3000),), wide=True),
    Program(
        "gradient_of_softmax", sum_of_gradient(softmax), (_array(12, 160),), ulps=64, wide=True
    ),
    Program(
        "gradient_of_cross_entropy",
        ad.grad(cross_entropy),
        (_array(12, 40), np.eye(12, 40, dtype=F32)),
        ulps=64,
        wide=True,
    ),
    Program("layer_norm", layer_norm, (_array(11, 160), GAIN, SHIFT), ulps=32, wide=True),
    Program(
        "gradient_of_layer_norm",
        sum_of_gradient(layer_norm, 0, 1, 2),
        (_array(11, 160), GAIN, SHIFT),
        ulps=256,
    ),
    # columns
    Program("columns", lambda x: np.sum(x * x, axis=0), (_array(70, 45),)),
    Program("tall_columns", lambda x: np.max(np.abs(x), axis=0), (_array(3000, 9),)),
    Program("middle_axis", lambda x: np.sum(x + 1.0, axis=1), (_array(3, 50, 40),)),
    Program("softmax_of_columns", lambda x: softmax(x, 0), (_array(60, 33),)),
    # everything
    Program(
        "sum_of_squares", lambda x, y: np.sum((x - y) ** 2), (_array(40000), _array(40001)[1:])
    ),
    Program("sum_of_few", lambda x: np.sum(x * x), (_array(700),), wide=True),
    Program("largest", lambda x: np.max(x * 3.0), (_array(33333, dtype=F64),), wide=True),
    Program("product", lambda x: np.prod(x + 1.0), (_array(40, low=0.1, high=0.3),), wide=True),
    Program("any_and_all", lambda x: (np.any(x > 1.9), np.all(x < 3)), (_array(20000),), wide=True),
    Program("sum_of_integers", lambda x: np.sum(x * x), (np.arange(30000),), wide=True),
    Program("softmax_of_everything", lambda x: softmax(x, None), (_array(300, 200),), wide=True),
    # NumPy adds up columns one element after the other.
    Program("tall_softmax", lambda x: softmax(x, 0), (_array(2000, 20),), ulps=64),
    Program("norm", lambda x: x / np.sqrt(np.sum(x * x)), (_array(900),), wide=True),
    # running results; NumPy adds one element after the other
    Program(
        "running_sum", lambda x: np.cumsum(x * x) + x, (_array(40001),), ulps=RUNNING, wide=True
    ),
    Program("running_sum_of_few", lambda x: np.cumsum(x) * 2.0, (_array(700),), wide=True),
    Program("running_sum_of_rows", running_sum, (_array(21, 160),), wide=True),
    Program("running_sum_of_short_rows", running_sum, (_array(100, 3),)),
    Program("running_sum_of_odd_rows", running_sum, (_array(10, 77, dtype=F64),)),
    Program("running_sum_of_block_rows", running_sum, (_array(3, 3000),), ulps=RUNNING, wide=True),
    Program(
        "running_sum_of_many_rows",
        running_sum,
        (_array(140, 2200, dtype=F64),),
        ulps=RUNNING,
        wide=True,
    ),
    Program("running_sum_of_columns", lambda x: np.cumsum(x - 0.5, axis=0), (_array(70, 45),)),
    Program(
        "running_sum_of_tall_columns",
        lambda x: np.cumsum(x, axis=0),
        (_array(900, 40),),
        ulps=RUNNING,
    ),
    Program("running_sum_of_middle_axis", lambda x: np.cumsum(x, axis=1), (_array(3, 300, 40),)),
    Program(
        "running_sum_of_halves",
        running_sum,
        (_array(9, 200, dtype=F16),),
        ulps=100,  # NumPy rounds to 16 bits after each of 200 elements, half a unit each
        wide=True,
    ),
    Program("running_sum_of_integers", lambda x: np.cumsum(x * x), (np.arange(30000),), wide=True),
    Program(
        "running_sum_of_complex_numbers",
        lambda z: np.cumsum(z * z),
        (_array(9001) + 1j * _array(9002)[1:],),
        ulps=RUNNING,
        wide=True,
    ),
    Program(
        "running_product_of_complex_numbers",
        lambda z: np.cumprod(1 + 0.1j * z, axis=1),
        (_array(9, 64, dtype=F64) + 1j * _array(64, 9, dtype=F64).T,),
        ulps=64,
        wide=True,
    ),
    Program(
        "running_product",
        lambda x: np.cumprod(1.0 + x / 64),
        (_array(9000),),
        ulps=64,
        wide=True,
    ),
    Program("running_largest", np.maximum.accumulate, (np.sort(_array(30000)),), wide=True),
    Program("running_least_of_bytes", np.minimum.accumulate, (np.arange(900, dtype="u1")[::-1],)),
    Program(
        "running_logsumexp",
        lambda x: np.logaddexp.accumulate(x, axis=1),
        (_array(7, 600),),
        ulps=RUNNING,
        wide=True,
    ),
    Program("running_sum_of_softmax", lambda x: np.cumsum(softmax(x), -1), (_array(12, 160),)),
    Program(
        "running_sum_of_long_softmax",
        lambda x: np.cumsum(softmax(x), -1),
        (_array(2, 20000),),
        ulps=RUNNING,
        wide=True,
    ),
    Program("normalized_running_sum", normalized_running_sum, (_array(12, 160, low=0.1),)),
    Program(
        "normalized_long_running_sum",
        normalized_running_sum,
        (_array(2, 12000, low=0.1),),
        ulps=RUNNING,
    ),
    Program(
        "running_sum_of_running_sum",
        lambda x: np.cumsum(np.cumsum(x * 2.0) - x),
        (_array(12000, dtype=F64),),
        ulps=RUNNING,
        wide=True,
    ),
    Program("two_running_results", two_running_results, (_array(5, 300), _array(300)), ulps=32),
    Program(
        "gradient_of_running_sum",
        gradient_of_squares(lambda x: np.cumsum(x * x)),
        (_array(9001, dtype=F64) / 9,),
        ulps=RUNNING,
        wide=True,
    ),
    Program(
        "gradient_of_running_product",
        gradient_of_squares(lambda x: np.cumprod(1.0 + x / 8, axis=1)),
        (_array(9, 320),),
        ulps=RUNNING,
        wide=True,
    ),
    Program(
        "gradient_of_long_running_product",
        gradient_of_squares(lambda x: np.cumprod(1.0 + x / 64)),
        (_array(9000, dtype=F64),),
        ulps=RUNNING,
        wide=True,
    ),
    Program(
        "gradient_of_running_product_of_columns",
        gradient_of_squares(lambda x: np.cumprod(x, axis=0)),
        (_array(300, 40, low=0.9, high=1.1),),
        ulps=RUNNING,
    ),
    Program(
        "gradient_of_running_largest",
        gradient_of_squares(np.maximum.accumulate),
        (np.round(_array(9000, low=0, high=99)),),
        ulps=RUNNING,
        wide=True,
    ),
    Program(
        "gradient_of_running_logsumexp",
        gradient_of_squares(np.logaddexp.accumulate),
        (_array(6000, dtype=F64),),
        ulps=RUNNING,
        wide=True,
    ),
)


def schedule_of(program: Program) -> Schedule:
    """Return the schedule of a program for GPUs."""
    return schedule_for_cuda(simplify(ad.make_graph(program.function)(*program.arguments)))


@cache
def kernels_of(program: Program, target: Target) -> tuple[CudaKernel, ...]:
    """Return the kernels of a program; their names begin with the program's."""
    return tuple(emitted(schedule_of(program).graph, target, program.name))
