"""Random numbers from explicit keys: a key always gives the same numbers, and they are JAX's.

A key is an array of two `uint32` words. `key` makes one from a seed, `split` and `fold_in` make
independent keys from a key, every other function draws from a key without changing it. Because
nothing is hidden, drawing works inside `jit`, `vmap` (over keys) and `grad` (through the
parameters of a distribution) as any other computation does.

The bits come from the hash threefry2x32 (Salmon et al. 2011); which counters are hashed for which
element is the layout, of which there are two: JAX's since version 0.5, and the older one, by the
setting `threefry_partitionable=False` (environment `AUTODIFF_THREEFRY_PARTITIONABLE=0`).

Element types that are not given follow the default float: float64, int64 and uint64, and with
`AUTODIFF_DEFAULT_FLOAT=float32` float32, int32 and uint32: as JAX with and without 64-bit types.

>>> from autodiff import random
>>> key = random.key(0)
>>> weights_key, bias_key = random.split(key)
>>> random.normal(weights_key, (3,), "float32")
array([ 1.0040143, -0.9063372, -0.7481722], dtype=float32)
"""

from autodiff.random.continuous import exponential, gumbel, normal, truncated_normal, uniform
from autodiff.random.discrete import bernoulli, categorical, randint
from autodiff.random.keys import fold_in, key, split
from autodiff.random.layout import bits
from autodiff.random.selection import choice, permutation

__all__ = [
    "bernoulli",
    "bits",
    "categorical",
    "choice",
    "exponential",
    "fold_in",
    "gumbel",
    "key",
    "normal",
    "permutation",
    "randint",
    "split",
    "truncated_normal",
    "uniform",
]
