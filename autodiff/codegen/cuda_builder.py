"""Text of CUDA C++, written by the operations of a `VectorBuilder`.

Rules of declarations and the functions of `autodiff.codegen.cpu_math` are formulas over a builder's
operations. `CudaBuilder` offers the same ones, so all of them hold here; but a value is an
expression of one thread, not a register: what is used once is written where it is used, what is
used again, has a name or would make a long line becomes a variable.

Integers are held unsigned (`u8` to `u64`), so that they wrap; an operation that has a sign casts.

Reading order: `CudaBuilder` from its constructor down: text, statements, operations, functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from autodiff.codegen import cpu_math, cuda_math
from autodiff.codegen.cuda_rendering import (
    AND,
    ATOM,
    BITS,
    CHOICE,
    COMPARED,
    NAMES,
    OR,
    PRODUCT,
    SIGNED,
    SUM,
    UNARY,
    Block,
    Node,
    Rendering,
    Statement,
    type_name,
)
from autodiff.codegen.scalar_types import F32, F64, I1, I32, I64, ScalarType, Value
from autodiff.codegen.vectors import VectorBuilder
from autodiff.schedule.target import Target

#: Names that no variable may have.
_RESERVED = frozenset(
    [
        "alignas",
        "alignof",
        "and",
        "and_eq",
        "asm",
        "atomic",
        "auto",
        "bitand",
        "bitor",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "compl",
        "concept",
        "const",
        "constexpr",
        "const_cast",
        "continue",
        "decltype",
        "default",
        "delete",
        "do",
        "double",
        "dynamic_cast",
        "else",
        "enum",
        "explicit",
        "export",
        "extern",
        "false",
        "float",
        "for",
        "friend",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "mutable",
        "namespace",
        "new",
        "noexcept",
        "not",
        "not_eq",
        "nullptr",
        "operator",
        "or",
        "or_eq",
        "private",
        "protected",
        "public",
        "register",
        "reinterpret_cast",
        "requires",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "static_assert",
        "static_cast",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "typedef",
        "typeid",
        "typename",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "wchar_t",
        "while",
        "xor",
        "xor_eq",
        "i8",
        "u8",
        "i16",
        "u16",
        "i32",
        "u32",
        "i64",
        "u64",
        "Lanes",
    ]
)

_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_OPPOSITE = {"lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*"}
_BITWISE = {"and": "&", "or": "|", "xor": "^"}
_LOGICAL = {"and": ("&&", AND), "or": ("||", OR), "xor": ("!=", COMPARED)}

#: LLVM's intrinsics that C has a function for, without the letter that says its type.
_INTRINSICS = {
    "llvm.fma": "fma",
    "llvm.sqrt": "sqrt",
    "llvm.fabs": "fabs",
    "llvm.copysign": "copysign",
    "llvm.roundeven": "rint",
    "llvm.floor": "floor",
    "llvm.ceil": "ceil",
    "llvm.trunc": "trunc",
}


def number_text(number: Any, type: ScalarType) -> str:
    """Return a number as C++ writes it, read back exactly.

    >>> number_text(0.1, F32), number_text(-2.0, F64), number_text(float("inf"), F32)
    ('0.1f', '-2.0', 'AD_INF_F32')
    >>> number_text(-1, I32), number_text(7, I64), number_text(True, I1)
    ('0xffffffffu', '7ull', 'true')
    """
    if type is I1:
        return "true" if number else "false"
    if type in (F32, F64):
        return _float_text(float(number), type)
    size = type.bits
    unsigned = int(number) & ((1 << size) - 1)
    text = str(unsigned) if unsigned < 1 << 16 else hex(unsigned)
    if size < 32:
        return f"{NAMES[type]}({text})"
    return text + ("u" if size == 32 else "ull")


def _float_text(number: float, type: ScalarType) -> str:
    suffix, name = ("f", "F32") if type is F32 else ("", "F64")
    if number != number:
        return f"AD_NAN_{name}"
    if number in (np.inf, -np.inf):
        return f"{'-' if number < 0 else ''}AD_INF_{name}"
    if type is F32:
        rounded = np.float32(number)
        text = str(rounded)
        if np.float32(float(text)) != rounded:  # a compiler may round twice
            return f"{float(rounded).hex()}f"
        number = float(rounded)
    else:
        text = repr(number)
    return (text if any(c in text for c in ".e") else f"{text}.0") + suffix


class CudaBuilder(VectorBuilder):
    """What one thread computes, as text of CUDA C++.

    >>> from autodiff.schedule.target import cuda_target
    >>> b = CudaBuilder(cuda_target("sm_90"))
    >>> b.contract = True
    >>> x = Value("x", F32)
    >>> y = b.fadd(b.fmul(x, x), b.const(0.5, F32))
    >>> b.statement("y[i] = {0};", b.select(b.fcmp("olt", y, x), y, b.fneg(y)))
    >>> print(*b.rendered(), sep="\\n")
    const float t0 = x * x + 0.5f;
    y[i] = t0 < x ? t0 : -t0;

    A product that may not be rounded together with a sum (where `contract` is False) is
    `__fmul_rn`, which the compiler never fuses.

    Attributes:
        functions: device functions that the text calls, by name, each after those it calls.
        is_costly: whether the text divides or calls a function of the math library.
    """

    def __init__(self, target: Target, reserved: Sequence[str] = ()) -> None:
        super().__init__(target, 1)
        self.has_fma = True
        self._has_avx512 = False
        self.functions: dict[str, str] = {}
        self.is_costly = False
        self._items: list[Any] = []
        self._nodes: dict[str, Node] = {}
        self._numbers: dict[tuple[str, ScalarType], Any] = {}
        self._taken = set(reserved) | _RESERVED
        self._ever = set(self._taken)

    # ---- text

    def text_of(self, type: ScalarType) -> str:
        """Return how values of `type` are declared."""
        return type_name(type)

    def comment(self, text: str) -> None:
        """Append a line that says what the next ones compute."""
        self._items.append(Statement(f"// {_escaped(text)}"))

    def fresh(self, stem: str) -> str:
        """Return a name that nothing has yet: `stem`, or `stem` with a number."""
        return self._fresh(stem, self._taken)

    def _fresh(self, stem: str, taken: set[str]) -> str:
        name, count = stem, 2
        while name in taken:
            name, count = f"{stem}_{count}", count + 1
        self._taken.add(name)
        self._ever.add(name)
        return name

    def named(self, value: Value, stem: str) -> Value:
        """Return a value that is a variable of this name in the text."""
        node = self._nodes.get(value.text)
        if node is not None and node.name is None:
            node.name = self.fresh(stem)
            return value
        if (value.text, value.type) in self._numbers:
            return value
        return value if node is None else self._node(value.type, "{0}", ATOM, value)

    def statement(self, form: str, *values: Value) -> None:
        """Append a line; `{0}`, `{1}`, ... stand for values."""
        self._items.append(Statement(form, tuple([value.text for value in values])))

    @contextmanager
    def within(self, head: str, *values: Value) -> Iterator[None]:
        """Append `head { ... }` around what is appended within; its variables are known there."""
        block = Block(head, tuple([value.text for value in values]))
        self._items.append(block)
        outside, self._items = self._items, block.items
        taken = set(self._taken)
        try:
            yield
        finally:
            self._items, self._taken = outside, taken

    def variable(self, name: str, type: ScalarType) -> Value:
        """Return a variable that a statement declares."""
        return Value(name, type)

    def rendered(self, indent: int = 0) -> list[str]:
        """Return the lines of what has been appended."""
        rendering = Rendering(lambda stem: self._fresh(stem, self._ever))
        rendering.count(self._items)
        return rendering.lines(self._items, indent)

    # ---- operations

    def const(self, number: float | int, type: ScalarType) -> Value:
        """Return `number`, rounded to `type` where it is a float."""
        text = number_text(number, type)
        self._numbers[text, type] = number
        return Value(text, type)

    def _node(
        self,
        type: ScalarType,
        form: str,
        level: int,
        *operands: Value,
        inside: Sequence[int] | None = None,
        is_product: bool = False,
    ) -> Value:
        """Return the expression of `form`; `inside` are the weakest levels its operands may have.

        Without it operands stand between commas or in parentheses.
        """
        value = Value(f"%{len(self._nodes)}", type)
        levels = tuple(inside) if inside is not None else (CHOICE,) * len(operands)
        texts = tuple([operand.text for operand in operands])
        node = Node(value, form, texts, levels, level, None, is_product)
        self._nodes[value.text] = node
        self._items.append(node)
        return value

    def expression(self, type: ScalarType, form: str, *operands: Value) -> Value:
        """Return a call: `form` with its operands between commas."""
        return self._node(type, form, ATOM, *operands)

    def assign(self, instruction: str, type: ScalarType) -> Value:
        """Refuse: an instruction of LLVM is no C++."""
        raise AssertionError(f"no C++ for {instruction}")

    def _binary(self, operation: str, x: Value, y: Value) -> Value:
        name, _, flag = operation.partition(" ")
        type = x.type
        if type.is_float:
            return self._float_operation(name, bool(flag), x, y)
        if type is I1:
            return self._of_masks(name, x, y)
        if name in _ARITHMETIC:
            sign = _ARITHMETIC[name]
            level = PRODUCT if name == "mul" else SUM
            return self._wrapped(type, f"{{0}} {sign} {{1}}", level, (level, level - 1), x, y)
        if name == "xor" and self._number(y) == -1:
            return self._wrapped(type, "~{0}", UNARY, (UNARY,), x)
        if name in _BITWISE:
            form = f"{{0}} {_BITWISE[name]} {{1}}"
            return self._node(type, form, BITS, x, y, inside=(UNARY, UNARY))
        if name in ("shl", "lshr"):
            sign = "<<" if name == "shl" else ">>"
            return self._wrapped(type, f"{{0}} {sign} {{1}}", BITS, (UNARY, UNARY), x, y)
        signed, sign = SIGNED[type], {"div": "/", "rem": "%"}.get(name[1:], ">>")
        if name in ("udiv", "urem"):
            form, level = f"{{0}} {sign} {{1}}", PRODUCT
            return self._wrapped(type, form, level, (level, level - 1), x, y)
        assert name in ("sdiv", "srem", "ashr"), operation
        right = "{1}" if name == "ashr" else f"{signed}({{1}})"
        inside = (CHOICE, UNARY) if name == "ashr" else (CHOICE, CHOICE)
        form = f"{NAMES[type]}({signed}({{0}}) {sign} {right})"
        return self._node(type, form, ATOM, x, y, inside=inside)

    def _wrapped(
        self, type: ScalarType, form: str, level: int, inside: Sequence[int], *operands: Value
    ) -> Value:
        """Return an operation of integers; C computes those below 32 bits in more."""
        if type.bits < 32:
            return self._node(type, f"{NAMES[type]}({form})", ATOM, *operands, inside=inside)
        return self._node(type, form, level, *operands, inside=inside)

    def _float_operation(self, name: str, may_fuse: bool, x: Value, y: Value) -> Value:
        type, letter = x.type, "f" if x.type is F32 else "d"
        self.is_costly |= name == "fdiv"
        if name in ("fadd", "fsub") and (negated := self._negated(y)) is not None:
            name, y = "fsub" if name == "fadd" else "fadd", negated
        elif name == "fadd" and (negated := self._negated(x)) is not None:
            name, x, y = "fsub", y, negated
        sign, level = {"fadd": ("+", SUM), "fsub": ("-", SUM), "fmul": ("*", PRODUCT)}.get(
            name, ("/", PRODUCT)
        )
        if not may_fuse:
            fusible = any(self._is_product(operand) for operand in (x, y))
            if name == "fmul" or (name != "fdiv" and fusible):
                function = f"__{letter}{name[1:]}_rn"
                return self._node(type, f"{function}({{0}}, {{1}})", ATOM, x, y)
        return self._node(
            type,
            f"{{0}} {sign} {{1}}",
            level,
            x,
            y,
            inside=(level, level - 1),
            is_product=name == "fmul",
        )

    def _negated(self, x: Value) -> Value | None:
        """Return the value whose negative this is, None if it is none."""
        node = self._nodes.get(x.text)
        is_one = node is not None and node.form == "-{0}" and node.name is None
        return Value(node.operands[0], x.type) if node is not None and is_one else None

    def _is_product(self, x: Value) -> bool:
        node = self._nodes.get(x.text)
        while node is not None and node.form in ("-{0}", "{0}"):
            node = self._nodes.get(node.operands[0])
        return node is not None and node.is_product

    def _of_masks(self, name: str, x: Value, y: Value) -> Value:
        if name == "xor" and self._number(y) == -1:
            return self._node(I1, "!{0}", UNARY, x, inside=(UNARY,))
        sign, level = _LOGICAL[name]
        form = f"{{0}} {sign} {{1}}"
        return self._node(I1, form, level, x, y, inside=(PRODUCT, PRODUCT))

    def _number(self, x: Value) -> Any:
        return self._numbers.get((x.text, x.type))

    def fneg(self, x: Value) -> Value:
        """Return -x, of zeros and NaNs too."""
        return self._node(x.type, "-{0}", UNARY, x, inside=(ATOM,))

    def intrinsic(self, name: str, type: ScalarType, *values: Value, tail: str = "") -> Value:
        """Return the function of C that stands for LLVM's `name`."""
        places = ", ".join(f"{{{i}}}" for i in range(len(values)))
        if name in _INTRINSICS:
            suffix = "f" if type is F32 else ""
            return self.expression(type, f"{_INTRINSICS[name]}{suffix}({places})", *values)
        wide = "ll" if type is I64 else ""
        if name == "llvm.ctpop":
            return self.expression(type, f"{NAMES[type]}(__popc{wide}({places}))", *values)
        assert name == "llvm.ctlz", name
        counted = f"__clz{wide}({places})" + ("" if type.bits >= 32 else f" - {32 - type.bits}")
        return self.expression(type, f"{NAMES[type]}({counted})", *values)

    def fcmp(self, predicate: str, x: Value, y: Value) -> Value:
        """Return the truth value of LLVM's float comparison `predicate`."""
        order, name = predicate[0], predicate[1:]
        inside = (SUM, SUM)
        if predicate in ("uno", "ord"):
            sign, joint = ("!=", " || ") if predicate == "uno" else ("==", " && ")
            form = f"{{0}} {sign} {{0}}"
            if x == y:
                return self._node(I1, form, COMPARED, x, inside=(SUM,))
            form += f"{joint}{{1}} {sign} {{1}}"
            return self._node(I1, form, OR, x, y, inside=inside)
        if predicate in ("one", "ueq"):
            form = "{0} < {1} || {0} > {1}"
            if predicate == "ueq":
                return self._node(I1, f"!({form})", UNARY, x, y, inside=inside)
            return self._node(I1, form, OR, x, y, inside=inside)
        if order == "u" and name in _OPPOSITE:
            return self._node(I1, f"!({{0}} {_OPPOSITE[name]} {{1}})", UNARY, x, y, inside=inside)
        return self._node(I1, f"{{0}} {_COMPARISONS[name]} {{1}}", COMPARED, x, y, inside=inside)

    def icmp(self, predicate: str, x: Value, y: Value) -> Value:
        """Return the truth value of LLVM's integer comparison `predicate`."""
        sign = _COMPARISONS[predicate[-2:]]
        if x.type is I1 and predicate not in ("eq", "ne"):
            form = f"u32({{0}}) {sign} u32({{1}})"
            return self._node(I1, form, COMPARED, x, y)
        if predicate[0] == "s":
            left, right = self._signed(x, 0), self._signed(y, 1)
            return self._node(I1, f"{left} {sign} {right}", COMPARED, x, y)
        return self._node(I1, f"{{0}} {sign} {{1}}", COMPARED, x, y, inside=(SUM, SUM))

    def _signed(self, x: Value, place: int) -> str:
        number = self._number(x)
        if number is None:
            return f"{SIGNED[x.type]}({{{place}}})"
        suffix = "ll" if x.type is I64 else ""
        lowest = -(1 << (x.type.bits - 1))
        if number == lowest:  # C has no literal of it
            return f"({lowest + 1}{suffix} - 1)"
        return f"{number}{suffix}"

    def select(self, mask: Value, x: Value, y: Value) -> Value:
        """Return x where the mask is set, y elsewhere."""
        inside = (OR, OR, CHOICE)
        return self._node(x.type, "{0} ? {1} : {2}", CHOICE, mask, x, y, inside=inside)

    def _cast(self, operation: str, x: Value, type: ScalarType) -> Value:
        name = NAMES[type]
        if operation == "bitcast":
            return self._bits(x, type)
        if operation in ("sitofp", "sext"):
            form = f"{name}({SIGNED[x.type]}({{0}}))"
        elif operation == "fptosi":
            form = f"{name}({SIGNED[type]}({{0}}))"
        elif operation == "trunc" and type is I1:
            form = "({0} & 1) != 0"
            return self._node(I1, form, COMPARED, x, inside=(UNARY,))
        else:
            form = f"{name}({{0}})"
        return self.expression(type, form, x)

    def _bits(self, x: Value, type: ScalarType) -> Value:
        forms = {
            (F32, I32): "__float_as_uint({0})",
            (I32, F32): "__uint_as_float({0})",
            (F64, I64): "u64(__double_as_longlong({0}))",
            (I64, F64): "__longlong_as_double(i64({0}))",
        }
        return x if x.type is type else self.expression(type, forms[x.type, type], x)

    @property
    def _rounds_in_hardware(self) -> bool:
        return True

    # ---- functions and rare paths

    def call(self, function: str, *values: Value) -> Value:
        """Return `function(*values)`: CUDA's, where it keeps the promise of the math library's.

        Else the math library's own formula, as a device function.
        """
        self.is_costly = True
        places = ", ".join(f"{{{i}}}" for i in range(len(values)))
        type = values[0].type
        own = cuda_math.device_function(function, type)
        if own is None:
            own = f"{function}_{type.suffix}"
            if own not in self.functions:
                self._define(own, function, values)
        return self.expression(type, f"{own}({places})", *values)

    def _define(self, name: str, function: str, values: Sequence[Value]) -> None:
        claim, inner = cpu_math.CLAIMS[function], CudaBuilder(self.target)
        inner.functions = self.functions
        letters = [inner.fresh(letter) for letter in "xyz"[: len(values)]]
        operands = [Value(x, value.type) for x, value in zip(letters, values, strict=True)]
        result = cpu_math.FUNCTIONS[function](inner, *operands)
        inner.statement("return {0};", result)
        taken = ", ".join(f"const {NAMES[x.type]} {x.text}" for x in operands)
        bound = claim.f32 if values[0].type is F32 else claim.f64
        self.functions[name] = "\n".join(
            [
                f"// {function} within {bound} ulp",
                f"inline __device__ {NAMES[result.type]} {name}({taken}) {{",
                *inner.rendered(1),
                "}",
            ]
        )

    def any(self, mask: Value) -> str:
        """Return the truth value itself."""
        return mask.text

    def rare(self, mask: Value, function: str, otherwise: Value, *values: Value) -> Value:
        """Return the C function `function(*values)` where the mask is set, else `otherwise`."""
        self.is_costly = True
        places = ", ".join(f"{{{i + 2}}}" for i in range(len(values)))
        inside = (OR, CHOICE) + (CHOICE,) * len(values)
        form = f"{{0}} ? {function}({places}) : {{1}}"
        return self._node(otherwise.type, form, CHOICE, mask, otherwise, *values, inside=inside)

    def _branch(
        self,
        mask: Value,
        compute: Callable[[], tuple[Value, ...]],
        otherwise: tuple[Value, ...],
    ) -> tuple[Value, ...]:
        results = []
        for value in otherwise:
            name = self.fresh("r")
            self.statement(f"{NAMES[value.type]} {name} = {{0}};", value)
            results.append(Value(name, value.type))
        with self.within("if ({0})", mask):
            for result, value in zip(results, compute(), strict=True):
                self.statement(f"{result.text} = {{0}};", value)
        return tuple(results)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
