"""Long elementwise formulas, block by block, so that the intermediate arrays stay in cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from autodiff.base.array_modules import common_module

#: Elements computed at a time on the CPU. Of 2**11 to 2**15, 2**14 was the fastest for both the
#: threefry hash and the polynomials in float64 (NumPy 2.4, a core of x86-64 with AVX-512).
_BLOCK = 2**14


def in_blocks(
    formula: Callable[..., Sequence[Any]], operands: Sequence[Any], dtypes: Sequence[Any]
) -> tuple[Any, ...]:
    """Return the arrays that `formula` gives for `operands`, broadcast together.

    `formula` gets one-dimensional arrays, of one length or of length 1, and returns as many arrays
    as there are `dtypes`, the element types of the results.

    >>> in_blocks(lambda x, y: (x + y,), (np.float32(1), np.ones((2, 2), np.float32)), [np.float32])
    (array([[2., 2.], [2., 2.]], dtype=float32),)
    """
    module = common_module(operands)
    arrays = [module.asarray(x) for x in operands]
    shape = np.broadcast_shapes(*[x.shape for x in arrays])
    size = prod(shape)
    flat = [
        (x if x.size == 1 or x.shape == shape else module.broadcast_to(x, shape)).reshape(-1)
        for x in arrays
    ]
    outs = [module.empty(size, dtype) for dtype in dtypes]
    block = _BLOCK if module is np else max(size, 1)
    with np.errstate(all="ignore"):
        for start in range(0, size, block):
            part = slice(start, start + block)
            results = formula(*[x if x.size == 1 else x[part] for x in flat])
            for out, result in zip(outs, results, strict=True):
                out[part] = result
    return tuple([out.reshape(shape) for out in outs])
