"""Pytrees: nested tuples, lists, dicts and registered classes, with arrays as leaves.

Every function of this library that takes or returns arrays takes and returns pytrees of them. The
nodes of a pytree are tuple, list, dict, OrderedDict, defaultdict, namedtuples, None and the classes
given to `register_node` or `register_dataclass`; everything else is a leaf. Dicts are walked in the
order of their sorted keys.

>>> from autodiff import tree
>>> params = {"w": [1.0, 2.0], "b": 3.0}
>>> tree.map(lambda leaf: 10 * leaf, params)
{'b': 30.0, 'w': [10.0, 20.0]}
>>> leaves, structure = tree.flatten(params)
>>> leaves, structure
([3.0, 1.0, 2.0], TreeDef({'b': *, 'w': [*, *]}))
>>> tree.unflatten(structure, leaves) == params
True
"""

from autodiff.base.pytree import (
    Attribute,
    Child,
    Item,
    Partial,
    TreeDef,
    all,
    flatten,
    flatten_with_path,
    leaves,
    map,
    map_with_path,
    path_string,
    reduce,
    register_dataclass,
    register_node,
    structure,
    transpose,
    unflatten,
)
from autodiff.tree.raveling import ravel

__all__ = [
    "Attribute",
    "Child",
    "Item",
    "Partial",
    "TreeDef",
    "all",
    "flatten",
    "flatten_with_path",
    "leaves",
    "map",
    "map_with_path",
    "path_string",
    "ravel",
    "reduce",
    "register_dataclass",
    "register_node",
    "structure",
    "transpose",
    "unflatten",
]
