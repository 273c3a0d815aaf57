"""NumPy's functions for traced values and plain arrays alike.

Given a traced value they record; given plain arrays they call NumPy's or CuPy's function of the same
name. Elementwise functions come from the declarations of operations, the others from the modules of
this folder.
"""

from importlib import import_module
from pkgutil import iter_modules

from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.dispatch import primitive_function, public

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

for _primitive in primitives.values():
    if _primitive.public is not None and _primitive.public not in public:
        public[_primitive.public] = primitive_function(_primitive)
        for _function in _primitive.numpy:
            public.setdefault(_function.__name__, public[_primitive.public])

globals().update(public)
__all__ = sorted(public)  # noqa: PLE0605
array_functions["namespace"] = import_module(__name__)
