"""Automatic differentiation for plain NumPy and CuPy arrays.

    import autodiff as ad
    ad.grad(f)(x)

`grad`, `value_and_grad`, `jvp`, `vjp`, `linearize`, `jacfwd`, `jacrev`, `hessian`, `vmap` and `jit`
transform functions written with `autodiff.numpy` or with plain `numpy`.
"""

__version__ = "0.1.0"

import autodiff.primitives as _primitives  # noqa: F401 - fills the registry
from autodiff import debug, nn, numpy, random, scipy, testing, tree
from autodiff.api import checkpoint_policies
from autodiff.api.associative_scan import associative_scan
from autodiff.api.branches import cond, switch
from autodiff.api.callbacks import pure_callback
from autodiff.api.checkpoint import checkpoint, checkpoint_name
from autodiff.api.collectives import (
    all_gather,
    axis_index,
    axis_size,
    pmax,
    pmean,
    pmin,
    ppermute,
    psum,
    psum_scatter,
)
from autodiff.api.control import fori_loop, map, scan, while_loop
from autodiff.api.curvature import ggn_vp, hess_diag, hvp, laplacian
from autodiff.api.custom_rules import (
    closure_convert,
    custom_batching,
    custom_gradient,
    custom_jvp,
    custom_vjp,
)
from autodiff.api.devices import block_until_ready, default_device
from autodiff.api.implicit import custom_fixed_point, custom_root
from autodiff.api.inspection import eval_shape, make_graph, show
from autodiff.api.jacobians import hessian, jacfwd, jacobian, jacrev
from autodiff.api.jet import jet
from autodiff.api.jit import jit
from autodiff.api.linear_systems import custom_linear_solve
from autodiff.api.preaccumulate import preaccumulate, preaccumulation_cost
from autodiff.api.stop_gradient import stop_gradient
from autodiff.api.transforms import (
    grad,
    jvp,
    linear_transpose,
    linearize,
    value_and_grad,
    vjp,
)
from autodiff.api.user_primitives import primitive
from autodiff.api.vmap import vmap
from autodiff.base.errors import (
    ConcretizationError,
    GraphError,
    LeakedTracerError,
    MissingRuleError,
)
from autodiff.base.settings import configure, override
from autodiff.numpy.indexing import at
from autodiff.scipy.sparse.linalg import bicgstab, cg, gmres

remat = checkpoint

__all__ = [
    "ConcretizationError",
    "GraphError",
    "LeakedTracerError",
    "MissingRuleError",
    "all_gather",
    "associative_scan",
    "at",
    "axis_index",
    "axis_size",
    "bicgstab",
    "block_until_ready",
    "cg",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "closure_convert",
    "cond",
    "configure",
    "custom_batching",
    "custom_fixed_point",
    "custom_gradient",
    "custom_jvp",
    "custom_linear_solve",
    "custom_root",
    "custom_vjp",
    "debug",
    "default_device",
    "eval_shape",
    "fori_loop",
    "ggn_vp",
    "gmres",
    "grad",
    "hess_diag",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jet",
    "jit",
    "jvp",
    "laplacian",
    "linear_transpose",
    "linearize",
    "make_graph",
    "map",
    "nn",
    "numpy",
    "override",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "preaccumulate",
    "preaccumulation_cost",
    "primitive",
    "psum",
    "psum_scatter",
    "pure_callback",
    "random",
    "remat",
    "scan",
    "scipy",
    "show",
    "stop_gradient",
    "switch",
    "testing",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
