"""Which functions of CUDA's math library stand for the math library's own.

The largest errors are those of the CUDA C++ Programming Guide, appendix "Mathematical functions",
standard functions (full range, default options), in units in the last place. What is not listed, or
is worse than `LIMIT`, is computed by the formula of `autodiff.codegen.cpu_math`.
"""

from __future__ import annotations

from autodiff.codegen.scalar_types import F32, ScalarType

#: The largest error that a function of CUDA's may have.
LIMIT = 2.0

#: From a function to the largest error of CUDA's function of that name for F32 and for F64.
CUDA_ULP: dict[str, tuple[float, float]] = {
    "sqrt": (0.0, 0.0),
    "rsqrt": (2.0, 1.0),
    "cbrt": (1.0, 1.0),
    "hypot": (3.0, 2.0),
    "exp": (2.0, 1.0),
    "exp2": (2.0, 1.0),
    "expm1": (1.0, 1.0),
    "log": (1.0, 1.0),
    "log2": (1.0, 1.0),
    "log10": (2.0, 1.0),
    "log1p": (1.0, 1.0),
    "sin": (2.0, 2.0),
    "cos": (2.0, 2.0),
    "tan": (4.0, 2.0),
    "asin": (4.0, 2.0),
    "acos": (3.0, 2.0),
    "atan": (2.0, 2.0),
    "atan2": (3.0, 2.0),
    "sinh": (3.0, 2.0),
    "cosh": (2.0, 1.0),
    "tanh": (2.0, 1.0),
    "asinh": (3.0, 3.0),
    "acosh": (4.0, 3.0),
    "atanh": (3.0, 2.0),
    "pow": (9.0, 2.0),
    "erf": (2.0, 2.0),
    "erfc": (4.0, 5.0),
    "erfinv": (2.0, 5.0),
    "lgamma": (6.0, 4.0),
}


def device_function(name: str, type: ScalarType) -> str | None:
    """Return CUDA's function for a function of the math library, None if it is not exact enough.

    >>> device_function("exp", F32), device_function("tan", F32)
    ('expf', None)
    """
    errors = CUDA_ULP.get(name)
    if errors is None or errors[0 if type is F32 else 1] > LIMIT:
        return None
    return f"{name}f" if type is F32 else name
