"""Automatic differentiation for plain NumPy and CuPy arrays."""

__version__ = "0.1.0"

import autodiff.primitives
from autodiff import numpy as numpy
from autodiff.api.transforms import (
    grad,
    jvp,
    linear_transpose,
    linearize,
    value_and_grad,
    vjp,
)
