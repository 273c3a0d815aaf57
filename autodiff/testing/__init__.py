"""Check the derivatives of a function of your own against differences.

>>> import numpy as np
>>> from autodiff.testing import check_grads
>>> check_grads(lambda x: np.sin(x) * x, (np.array([0.3, 2.0]),), order=2)
"""

from autodiff.testing.differences import check_grads

__all__ = ["check_grads"]
