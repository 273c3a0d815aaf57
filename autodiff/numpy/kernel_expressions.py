"""The text of CuPy's elementwise kernels as functions of traced values.

`recorded_kernel` runs through the text of a kernel once and records what it says: declarations,
assignments, `if`, and expressions of scalars with functions of mathematics. Element types follow
C++: `x * 0.5` of a `float x` is of type `double`, until it is assigned. What has no meaning for one
element alone, or is not known here, is refused by an `Unreadable` with the place.

Reading order: `recorded_kernel`, `_Reader` (statements, then expressions by precedence), `_common`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.avals import type_of
from autodiff.ir.primitive import array_functions
from autodiff.primitives.families import convert

_TOKEN = re.compile(
    r"\s*(?:(?P<comment>//[^\n]*|/\*.*?\*/)"
    r"|(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fFuUlL]*)"
    r"|(?P<name>[A-Za-z_]\w*(?:::\w+)*)"
    r"|(?P<sign><<=|>>=|&&|\|\||[=!<>]=|<<|>>|\+\+|--|->|[-+*/%&|^]=|[-+*/%&|^~!<>=?:;,(){}\[\].]))",
    re.DOTALL,
)

#: C++'s names of element types.
_TYPES: dict[str, Any] = {
    "bool": np.bool_,
    "char": np.int8,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "short": np.int16,
    "unsigned short": np.uint16,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long": np.int64,
    "unsigned long": np.uint64,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "size_t": np.uint64,
    "ptrdiff_t": np.int64,
    "float16": np.float16,
    "float": np.float32,
    "double": np.float64,
    "complex<float>": np.complex64,
    "complex<double>": np.complex128,
    **{f"{kind}{bits}_t": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
_TYPE_WORDS = {word for name in _TYPES for word in name.split()}

#: Binary operators from the loosest to the tightest.
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", "<=", ">", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
_UFUNCS = {
    "||": np.logical_or, "&&": np.logical_and, "|": np.bitwise_or, "^": np.bitwise_xor,
    "&": np.bitwise_and, "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal, "<<": np.left_shift, ">>": np.right_shift,
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod,
}  # fmt: skip
_ASSIGNMENTS = ("=", *(f"{sign}=" for sign in ("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>")))


class Unreadable(Exception):
    """What in a kernel's text cannot be recorded."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value of one element, traced for all of them, of a C++ type."""

    value: Any
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Raw:
    """An operand that is read at places of its own: a flat array."""

    value: Any
    dtype: np.dtype


def recorded_kernel(
    text: str,
    inputs: Mapping[str, Scalar | Raw],
    outputs: Mapping[str, Scalar | np.dtype],
    types: Mapping[str, np.dtype],
) -> list[Any]:
    """Return the outputs of a kernel's text, recorded on the inputs.

    Args:
        text: statements of C++ for one element.
        inputs: by name; they are not assigned to.
        outputs: by name, the value before or, if there is none, the element type.
        types: those that the text calls by names such as `T`.

    Raises:
        Unreadable: the text says what cannot be recorded.
    """
    reader = _Reader(text, inputs, outputs, types)
    while reader.token:
        reader.statement()
    results = []
    for name in outputs:
        found = reader.values.get(name)
        if found is None:
            raise Unreadable(f"`{name}` is not assigned to wherever the text may lead")
        results.append(found.value)
    return results


class _Reader:
    """Reads tokens one by one, with the variables' values so far."""

    def __init__(
        self,
        text: str,
        inputs: Mapping[str, Scalar | Raw],
        outputs: Mapping[str, Scalar | np.dtype],
        types: Mapping[str, np.dtype],
    ) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.position = 0
        self.types = types
        self.inputs = inputs
        self.values: dict[str, Scalar] = {}
        self.declared: dict[str, np.dtype] = {}
        self.constants: set[str] = set()
        for name, found in outputs.items():
            if isinstance(found, Scalar):
                self.values[name] = found
                self.declared[name] = found.dtype
            else:
                self.declared[name] = found

    # ---- tokens

    @property
    def token(self) -> str:
        """The next token, empty at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        """Return the next token and pass it."""
        token = self.token
        self.position += 1
        return token

    def accept(self, token: str) -> bool:
        """Pass a token if it is the next one."""
        if self.token != token:
            return False
        self.position += 1
        return True

    def expect(self, token: str) -> None:
        """Pass a token."""
        if not self.accept(token):
            raise Unreadable(f"`{self.token or 'the end'}` stands where `{token}` is expected")

    # ---- statements

    def statement(self) -> None:
        """Record one statement."""
        if self.accept(";"):
            return
        if self.accept("{"):
            outside = dict(self.declared)
            while not self.accept("}"):
                if not self.token:
                    raise Unreadable("a `}` is missing")
                self.statement()
            self._leave(outside)
        elif self.accept("if"):
            self._branches()
        elif self.token in ("for", "while", "do", "switch", "return", "goto", "break", "continue"):
            raise Unreadable(f"`{self.token}` is no expression of one element")
        elif self._is_declaration():
            self._declaration()
        else:
            self._assignment()

    def _leave(self, outside: dict[str, np.dtype]) -> None:
        for name in self.declared.keys() - outside.keys():
            self.values.pop(name, None)
            self.constants.discard(name)
        self.declared = outside

    def _branches(self) -> None:
        self.expect("(")
        condition = _truth(self.expression())
        self.expect(")")
        before, declared = dict(self.values), dict(self.declared)
        self.statement()
        self._leave(declared)
        then, self.values = self.values, dict(before)
        if self.accept("else"):
            self.statement()
            self._leave(dict(declared))
        otherwise, self.values = self.values, {}
        for name in declared:
            if name in then and name in otherwise:
                x, y = then[name], otherwise[name]
                self.values[name] = (
                    x if x is y else Scalar(np.where(condition, x.value, y.value), x.dtype)
                )

    def _is_declaration(self) -> bool:
        if self.token in ("const", "constexpr", "auto"):
            return True
        here = self.position
        is_type = self._type() is not None
        named = self.token
        self.position = here
        return is_type and named.isidentifier()

    def _declaration(self) -> None:
        is_constant = self.token in ("const", "constexpr")
        while self.token in ("const", "constexpr"):
            self.take()
        dtype = None if self.accept("auto") else self._type()
        is_constant |= self.accept("const")
        while True:
            name = self.take()
            if not name.isidentifier():
                raise Unreadable(f"`{name}` stands where a variable's name is expected")
            if name in self.declared or name in self.inputs:
                raise Unreadable(f"`{name}` is declared a second time")
            if self.token in ("[", "("):
                raise Unreadable(f"`{name}` is declared as an array or by a constructor")
            if self.accept("="):
                value = self.expression()
                kind = dtype or value.dtype
                self.values[name] = Scalar(convert(value.value, kind), kind)
                self.declared[name] = kind
            elif dtype is None:
                raise Unreadable(f"`auto {name}` has no value")
            else:
                self.declared[name] = dtype
            if is_constant:
                self.constants.add(name)
            if not self.accept(","):
                break
        self._end()

    def _assignment(self) -> None:
        name = self.take()
        sign = self.take()
        if name in self.inputs or name in self.constants:
            raise Unreadable(f"`{name}` cannot be assigned to")
        if name not in self.declared:
            raise Unreadable(f"`{name} {sign}` is no assignment to a variable that is declared")
        if sign not in _ASSIGNMENTS:
            raise Unreadable(f"`{name} {sign}` is no assignment to one element")
        value = self.expression()
        if sign != "=":
            value = _binary(sign[:-1], self._variable(name), value)
        dtype = self.declared[name]
        self.values[name] = Scalar(convert(value.value, dtype), dtype)
        self._end()

    def _end(self) -> None:
        if self.token:  # the last statement may end without
            self.expect(";")

    def _type(self) -> np.dtype | None:
        """Pass a type's name and return the type, None if the next token is none."""
        name = self.token.removeprefix("std::").removeprefix("thrust::")
        if name in self.types:
            self.take()
            return self.types[name]
        if name == "complex" and self.tokens[self.position + 1 : self.position + 2] == ["<"]:
            self.position += 2
            inner = self._type()
            self.expect(">")
            if inner not in (np.float32, np.float64):
                raise Unreadable("`complex` is of float or double")
            return np.result_type(inner, np.complex64)
        words = []
        while self.token.removeprefix("std::") in _TYPE_WORDS:
            words.append(self.take().removeprefix("std::"))
        if not words:
            return None
        if len(words) > 1 and words[-1] == "int" and words != ["unsigned", "int"]:
            words.pop()
        found = _TYPES.get(" ".join(words))
        if found is None:
            raise Unreadable(f"`{' '.join(words)}` is no element type that is known")
        return np.dtype(found)

    # ---- expressions

    def expression(self) -> Scalar:
        """Record an expression, choices by `?` included."""
        condition = self._level(0)
        if not self.accept("?"):
            return condition
        first = self.expression()
        self.expect(":")
        second = self.expression()
        dtype = first.dtype if first.dtype == second.dtype else _common(first.dtype, second.dtype)
        x, y = convert(first.value, dtype), convert(second.value, dtype)
        return Scalar(np.where(_truth(condition), x, y), dtype)

    def _level(self, level: int) -> Scalar:
        if level == len(_LEVELS):
            return self._unary()
        value = self._level(level + 1)
        while self.token in _LEVELS[level]:
            sign = self.take()
            value = _binary(sign, value, self._level(level + 1))
        return value

    def _unary(self) -> Scalar:
        sign = self.token
        if sign in ("-", "+", "~", "!"):
            self.take()
            operand = self._unary()
            if sign == "!":
                return Scalar(np.logical_not(_truth(operand)), np.dtype(bool))
            dtype = _promoted(operand.dtype)
            value = convert(operand.value, dtype)
            if sign == "+":
                return Scalar(value, dtype)
            return Scalar(np.negative(value) if sign == "-" else np.invert(value), dtype)
        if sign == "(":
            here = self.position
            self.take()
            dtype = self._type()
            if dtype is not None and self.accept(")"):
                return Scalar(convert(self._unary().value, dtype), dtype)
            self.position = here
        return self._primary()

    def _primary(self) -> Scalar:
        if self.accept("("):
            value = self.expression()
            self.expect(")")
            return value
        dtype = self._type()
        if dtype is not None:
            return self._converted(dtype)
        token = self.take()
        if token in ("true", "false"):
            return Scalar(np.bool_(token == "true"), np.dtype(bool))
        if token[:1].isdigit() or (token[:1] == "." and len(token) > 1):
            return _number(token)
        if token == "static_cast" and self.accept("<"):
            dtype = self._type()
            self.expect(">")
            if dtype is None:
                raise Unreadable("`static_cast` is to no element type")
            return self._converted(dtype)
        if self.token == "(":
            return self._called(token)
        if self.token in (".", "->", "++", "--") or token in ("*", "&", "++", "--"):
            raise Unreadable(f"`{token}{self.token}` is no expression of scalars")
        return self._variable(token)

    def _converted(self, dtype: np.dtype) -> Scalar:
        self.expect("(")
        value = self.expression()
        self.expect(")")
        return Scalar(convert(value.value, dtype), dtype)

    def _called(self, name: str) -> Scalar:
        self.expect("(")
        arguments: list[Scalar] = []
        while not self.accept(")"):
            if arguments:
                self.expect(",")
            arguments.append(self.expression())
        return _function(name.rpartition("::")[2], arguments)

    def _variable(self, name: str) -> Scalar:
        found = self.inputs.get(name) or self.values.get(name)
        if isinstance(found, Raw):
            if not self.accept("["):
                raise Unreadable(f"`{name}` is raw and not read at an index")
            index = self.expression()
            self.expect("]")
            if index.dtype.kind not in "iu":
                raise Unreadable(f"`{name}` is read at an index that is no integer")
            taken = np.take(found.value, index.value)
            return Scalar(taken, found.dtype)
        if found is not None:
            return found
        if name in self.declared:
            raise Unreadable(f"`{name}` is read where it may have no value")
        raise Unreadable(f"`{name or 'the end'}` is not known")


def mentions(text: str, name: str) -> bool:
    """Return whether a kernel's text has a name in it.

    Raises:
        Unreadable: the text has what is no token.
    """
    return name in _tokens(text)


def _tokens(text: str) -> list[str]:
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            word = text[position:].split()[0]
            raise Unreadable(f"`{word}` is no expression of scalars")
        position = found.end()
        if found.lastgroup != "comment":
            tokens.append(found[found.lastgroup or 0])
    return tokens


def _number(token: str) -> Scalar:
    """Return a literal, of the type that C++ gives it."""
    if token[:2] in ("0x", "0X") or not set(token) & set(".eEfF"):
        digits = token.rstrip("uUlL")
        suffix = token[len(digits) :].lower()
        if len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX":
            number = int(digits, 8)
        else:
            number = int(digits, 0)
        kinds = ("uint32", "uint64") if "u" in suffix else ("int32", "int64")
        for kind in kinds[1:] if "l" in suffix else kinds:
            if number <= np.iinfo(kind).max:
                return Scalar(np.dtype(kind).type(number), np.dtype(kind))
        raise Unreadable(f"`{token}` is too large")
    dtype = np.dtype(np.float32 if token[-1] in "fF" else np.float64)
    return Scalar(dtype.type(float(token.rstrip("fFlL"))), dtype)


# ------------------------------------------------------------------------------ types and operators


def _promoted(dtype: np.dtype) -> np.dtype:
    """Return the type in which C++ computes with an element: small ones are widened."""
    kind = dtypes.kind(dtype)
    if kind == "f":
        return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    return np.dtype(np.int32) if kind in "biu" and dtype.itemsize < 4 else dtype


def _common(one: np.dtype, other: np.dtype) -> np.dtype:
    """Return the type to which C++ converts two operands (ISO C++, "usual arithmetic conversions").

    >>> _common(np.dtype(np.float32), np.dtype(np.int64)).name
    'float32'
    >>> _common(np.dtype(np.uint8), np.dtype(np.int8)).name
    'int32'
    """
    one, other = _promoted(one), _promoted(other)
    kinds = dtypes.kind(one) + dtypes.kind(other)
    if one == other:
        return one
    if "c" in kinds or "f" in kinds:
        inexact = [x for x in (one, other) if dtypes.kind(x) in "fc"]
        return np.result_type(*inexact)
    if one.itemsize != other.itemsize:
        return max(one, other, key=lambda x: x.itemsize)
    return one if dtypes.kind(one) == "u" else other


def _truth(x: Scalar) -> Any:
    return x.value if x.dtype == bool else np.not_equal(x.value, x.dtype.type(0))


def _binary(sign: str, x: Scalar, y: Scalar) -> Scalar:
    """Return the value of a binary operator, in the types of C++."""
    ufunc = _UFUNCS[sign]
    if sign in ("||", "&&"):
        return Scalar(ufunc(_truth(x), _truth(y)), np.dtype(bool))
    if sign in ("<<", ">>"):
        dtype = _promoted(x.dtype)
    else:
        dtype = _common(x.dtype, y.dtype)
    if dtypes.kind(dtype) in "fc" and sign in ("%", "&", "|", "^", "<<", ">>"):
        raise Unreadable(f"`{sign}` is of integers only")
    first, second = convert(x.value, dtype), convert(y.value, dtype)
    if sign == "/" and dtypes.kind(dtype) in "iu":  # towards zero
        rest = np.fmod(first, second)
        value = np.floor_divide(np.subtract(first, rest), second)
    else:
        value = ufunc(first, second)
    is_test = sign in ("==", "!=", "<", "<=", ">", ">=")
    return Scalar(value, np.dtype(bool) if is_test else dtype)


# ---------------------------------------------------------------------------------------- functions


def _round(x: Any) -> Any:
    """Return x rounded to an integer, halves away from zero."""
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(whole.dtype.type(1), x), whole)


def _special(name: str) -> Callable[..., Any]:
    return lambda x: getattr(array_functions["special namespace"], name)(x)


#: Functions of C++ and CUDA that NumPy and SciPy call otherwise, or by whose name they mean others.
_FUNCTIONS_OF_C: dict[str, Callable[..., Any]] = {
    "cyl_bessel_i0": _special("i0"),
    "cyl_bessel_i1": _special("i1"),
    "erf": _special("erf"),
    "erfc": _special("erfc"),
    "erfinv": _special("erfinv"),
    "exp10": lambda x: np.power(x.dtype.type(10), x),
    "fabs": np.absolute,
    "fma": lambda x, y, z: x * y + z,
    "lgamma": _special("gammaln"),
    "max": np.fmax,
    "min": np.fmin,
    "normcdf": _special("ndtr"),
    "normcdfinv": _special("ndtri"),
    "round": _round,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
#: Functions of C whose names NumPy has for others.
_OTHERWISE_IN_NUMPY = ("remainder",)
#: Functions that take integers as they are, all others as `double`.
_OF_INTEGERS_TOO = ("abs", "min", "max")


@cache
def _function_named(name: str) -> Callable[..., Any] | None:
    """Return the function of arrays for one of C++'s, recorded on traced values."""
    if name in _OTHERWISE_IN_NUMPY:
        return None
    if name in _FUNCTIONS_OF_C:
        return _FUNCTIONS_OF_C[name]
    function = getattr(np, name, None)
    is_recorded = isinstance(function, np.ufunc) and function in array_functions
    return function if is_recorded else None


def _function(name: str, arguments: list[Scalar]) -> Scalar:
    function, single = _function_named(name), False
    if function is None and name.endswith("f"):
        function, single = _function_named(name[:-1]), True
    if function is None or not arguments:
        raise Unreadable(f"`{name}` is no function that is known")
    dtype = _promoted(arguments[0].dtype)
    for x in arguments[1:]:
        dtype = _common(dtype, x.dtype)
    if single:
        dtype = np.dtype(np.float32)
    elif dtypes.kind(dtype) in "biu" and name not in _OF_INTEGERS_TOO:
        dtype = np.dtype(np.float64)
    elif len({dtypes.kind(x.dtype) in "biu" for x in arguments}) > 1:
        dtype = np.result_type(dtype, np.float64)
    try:
        value = function(*[convert(x.value, dtype) for x in arguments])
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise Unreadable(f"`{name}` does not take these arguments: {reason}") from None
    return Scalar(value, type_of(value).dtype)
