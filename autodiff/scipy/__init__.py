"""Functions of SciPy's for traced values and plain arrays: `autodiff.scipy.special`."""

from autodiff.scipy import special as special

__all__ = ["special"]
