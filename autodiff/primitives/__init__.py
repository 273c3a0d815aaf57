"""Layer 2: every operation, each declared once. Importing this package fills the registry.

Every module of the folder is imported, so a new file of declarations needs no entry anywhere.
"""

from importlib import import_module
from pkgutil import iter_modules

# First, since the rules of most others are written with it.
from autodiff.primitives import arithmetic as arithmetic

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
