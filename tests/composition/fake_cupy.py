"""A module with CuPy's manners and NumPy's arithmetic, to show on any machine how CuPy is treated.

As CuPy does, it refuses NumPy arrays as operands, refuses to become one silently, answers NumPy's
protocols, and asks foreign operands of its ufuncs for `__cupy_override_elementwise_kernel__`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from time import perf_counter
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special

HOOK = "__cupy_override_elementwise_kernel__"
transfers: list[str] = []

#: Returns an array as it lies in the device's memory: itself if it does, else a copy.
placed: Callable[[np.ndarray], np.ndarray] = np.asarray


class ndarray:
    """An array "on the device": a NumPy array that NumPy itself cannot see."""

    __array_priority__ = 100

    def __init__(self, data: Any) -> None:
        self._data = placed(np.asarray(data))

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    nbytes = property(lambda self: self._data.nbytes)
    itemsize = property(lambda self: self._data.itemsize)
    strides = property(lambda self: self._data.strides)
    flags = property(lambda self: self._data.flags)
    T = property(lambda self: ndarray(self._data.T))
    data = property(lambda self: SimpleNamespace(ptr=self._data.ctypes.data, device_id=0))

    @property
    def real(self) -> ndarray:
        return ndarray(self._data.real)

    @real.setter
    def real(self, value: Any) -> None:
        self._data.real = unwrapped(value)

    @property
    def imag(self) -> ndarray:
        return ndarray(self._data.imag)

    @imag.setter
    def imag(self, value: Any) -> None:
        self._data.imag = unwrapped(value)

    def get(self) -> np.ndarray:
        transfers.append("to the host")
        return self._data.copy()

    def item(self, *index: int) -> Any:
        return self._data.item(*index)

    def tolist(self) -> Any:
        return self._data.tolist()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        if ufunc in _COMPARISONS:  # NumPy's scalars come to those as arrays without axes
            inputs = tuple([_number(x) for x in inputs])
        return call(ufunc, *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(kind, ndarray) for kind in types):
            return NotImplemented
        return call(function, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self._data, name)
        return lambda *args, **kwargs: wrapped(method(*unwrapped(args), **unwrapped(kwargs)))

    def __getitem__(self, index: Any) -> Any:
        return wrapped(self._data[unwrapped(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._data[unwrapped(index)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __complex__(self) -> complex:
        return complex(self._data)

    def __index__(self) -> int:
        return operator.index(self._data)

    def __repr__(self) -> str:
        return f"cupy.{self._data!r}"

    __hash__ = None  # type: ignore[assignment]


ndarray.__module__ = "cupy"

_COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else value


def unwrapped(value: Any) -> Any:
    """Return `value` with the device's arrays as NumPy's; NumPy's own are refused."""
    if type(value) is ndarray:
        return value._data
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(unwrapped(item) for item in value)
    if isinstance(value, dict):
        return {key: unwrapped(item) for key, item in value.items()}
    return value


def wrapped(value: Any) -> Any:
    """Return `value` with NumPy's arrays and array scalars as the device's: CuPy has no scalars."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(value)
    if isinstance(value, tuple | list):
        return (
            type(value)(*map(wrapped, value))
            if hasattr(value, "_fields")
            else type(value)(map(wrapped, value))
        )
    return value


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run one of NumPy's functions on the device; a ufunc asks foreign operands first."""
    if isinstance(function, np.ufunc):
        for arg in args:
            if hasattr(arg, HOOK):
                kernel = SimpleNamespace(name=f"cupy_{function.__name__}", nin=function.nin)
                return getattr(arg, HOOK)(kernel, *args, **kwargs)
    elif args and hasattr(args[0], HOOK):  # as cupy.sum(a) calls a.sum()
        return getattr(args[0], function.__name__)(*args[1:], **kwargs)
    out = kwargs.get("out")
    result = wrapped(function(*unwrapped(args), **unwrapped(kwargs)))
    if out is not None:
        return out[0] if isinstance(out, tuple) else out
    return result


def _operator(ufunc: Any, reflected: bool = False, in_place: bool = False) -> Any:
    def method(self: ndarray, other: Any) -> Any:
        first, second = (other, self) if reflected else (self, other)
        return call(ufunc, first, second, out=self) if in_place else call(ufunc, first, second)

    return method


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power,
    "floordiv": np.floor_divide, "mod": np.remainder, "matmul": np.matmul, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, reflected=True))
    setattr(ndarray, f"__i{_name}__", _operator(_ufunc, in_place=True))
for _name, _ufunc in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
for _name, _ufunc in {
    "neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", lambda self, ufunc=_ufunc: call(ufunc, self))


#: The ufuncs whose `at` CuPy has.
_WITH_AT = ("add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor")


class _Ufunc:
    """One of the module's ufuncs."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self.ufunc = ufunc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return call(self.ufunc, *args, **kwargs)

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        """Combine in place, for the ufuncs that CuPy has a scatter kernel of."""
        if self.ufunc.__name__ not in _WITH_AT:
            raise NotImplementedError(f"`{self.ufunc.__name__}.at` is not supported yet")
        self.ufunc.at(unwrapped(a), unwrapped(indices), unwrapped(b))


class _Event:
    """A moment of the stream, where all is over when it returns."""

    moment = 0.0

    def record(self) -> None:
        """Take down the moment."""
        self.moment = perf_counter()

    def synchronize(self) -> None:
        """Return at once."""


class ElementwiseKernel:
    """A kernel of the user's: its text, and its arguments as a declaration says them."""

    def __init__(
        self, in_params: str, out_params: str, operation: str, name: str = "kernel",
        reduce_dims: bool = True, preamble: str = "", no_return: bool = False,
        return_tuple: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.in_params, self.out_params = _parameters(in_params), _parameters(out_params)
        self.nin, self.nout = len(self.in_params), len(self.out_params)
        self.operation, self.name, self.preamble = operation, name, preamble
        self.return_tuple, self.kwargs = return_tuple, kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask foreign operands; the device has no compiler of its own."""
        if len(args) not in (self.nin, self.nin + self.nout):
            raise TypeError(f"Wrong number of arguments for {self.name!r}.")
        for consumed in ("size", "block_size"):
            kwargs.pop(consumed, None)
        for arg in args:
            if hasattr(arg, HOOK):
                return getattr(arg, HOOK)(self, *args, **kwargs)
        raise NotImplementedError(self.name)


def _parameters(text: str) -> tuple[SimpleNamespace, ...]:
    parameters = []
    for words in (part.split() for part in text.split(",") if part.strip()):
        kind, name = words[-2:]
        dtype = None if len(kind) == 1 else np.dtype(kind)
        parameters.append(
            SimpleNamespace(name=name, dtype=dtype, ctype=kind, raw=words[0] == "raw")
        )
    return tuple(parameters)


class _Cupy(ModuleType):
    """The module: any function of NumPy's, made to run on the device."""

    ndarray = ndarray
    ElementwiseKernel = ElementwiseKernel
    cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(compute_capability="90", synchronize=lambda: None),
        Event=_Event,
        get_current_stream=lambda: SimpleNamespace(ptr=0, synchronize=lambda: None),
        get_elapsed_time=lambda start, end: (end.moment - start.moment) * 1e3,
        runtime=SimpleNamespace(
            getDevice=lambda: 0,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda index: {"name": b"stand-in"},
            driverGetVersion=lambda: 13000,
        ),
    )

    def fuse(self, function: Any) -> Any:
        """Return a function as it is: here nothing is gained by fusing."""
        return function

    def get_default_memory_pool(self) -> Any:
        """Return a pool that keeps nothing."""
        return SimpleNamespace(free_all_blocks=lambda: None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found
        return _Ufunc(found) if isinstance(found, np.ufunc) else partial(call, found)

    def asarray(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Upload a NumPy array, or return a device array as it is."""
        if type(value) is ndarray:
            return (
                value if not args and not kwargs else ndarray(value._data.astype(*args, **kwargs))
            )
        if hasattr(value, "__cuda_array_interface__"):
            interface = {"__array_interface__": value.__cuda_array_interface__}
            return ndarray(np.asarray(SimpleNamespace(**interface)))
        transfers.append("to the device")
        return ndarray(np.array(value, *args, **kwargs))

    array = asarray

    def asnumpy(self, value: Any) -> np.ndarray:
        """Return a host copy."""
        return value.get()


cupy = _Cupy("cupy")
cupy.__spec__ = ModuleSpec("cupy", None)
cupy.__version__ = "13.6.0"


class _OnTheDevice(ModuleType):
    """A module of the functions of one of SciPy's, made to run on the device."""

    def __init__(self, name: str, host: ModuleType) -> None:
        super().__init__(name)
        self.host = host

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        function = getattr(self.host, name)
        return lambda *args, **kwargs: wrapped(function(*unwrapped(args), **unwrapped(kwargs)))


#: What an import of CuPy brings, by module name.
modules: dict[str, ModuleType] = {
    "cupy": cupy,
    "cupyx": ModuleType("cupyx"),
    "cupyx.scipy": ModuleType("cupyx.scipy"),
    "cupyx.scipy.special": _OnTheDevice("cupyx.scipy.special", scipy.special),
    "cupyx.scipy.linalg": _OnTheDevice("cupyx.scipy.linalg", scipy.linalg),
}
