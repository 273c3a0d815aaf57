"""Functions of SciPy's for traced values and plain arrays: `special`, and `sparse.linalg`."""

from autodiff.scipy import sparse as sparse
from autodiff.scipy import special as special

__all__ = ["sparse", "special"]
