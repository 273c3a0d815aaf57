"""Functions of `scipy.sparse`: the iterative solvers of `autodiff.scipy.sparse.linalg`."""

from autodiff.scipy.sparse import linalg as linalg

__all__ = ["linalg"]
