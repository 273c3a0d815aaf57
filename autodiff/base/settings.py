"""Every setting and environment variable of the library, in one table.

A setting is read from its environment variable when the library is imported, changed for the whole
process by `configure`, and changed for a block of code (and its thread) by `override`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import CellType
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `changes_code` puts the value into every compiled program's key."""

    name: str
    environment: str
    default: Any
    parse: Callable[[str], Any]
    description: str
    changes_code: bool = False


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("one of 0, 1, true, false")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return parse


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number < 0:
        raise ValueError("a whole number, 0 or more")
    return number


def _folder(text: str) -> str:
    if not text:
        raise ValueError("auto, off or a folder")
    return text


def _words(*choices: str) -> Callable[[str], frozenset[str]]:
    def parse(text: str) -> frozenset[str]:
        words = frozenset(word for word in text.split(",") if word)
        if not words <= set(choices):
            raise ValueError(f"a comma-separated list of {', '.join(choices)}")
        return words

    return parse


TABLE: tuple[Setting, ...] = (
    Setting(
        "device",
        "AUTODIFF_DEVICE",
        "auto",
        _one_of("auto", "cpu", "gpu"),
        "Device of arrays that creation functions make: auto takes a usable GPU, else the CPU.",
        changes_code=True,
    ),
    Setting(
        "default_float",
        "AUTODIFF_DEFAULT_FLOAT",
        "float64",
        _one_of("float32", "float64"),
        "Type of float literals that meet no array, and of what creation functions make.",
        changes_code=True,
    ),
    Setting(
        "threefry_partitionable",
        "AUTODIFF_THREEFRY_PARTITIONABLE",
        True,
        _boolean,
        "Layout of the random numbers drawn from a key: 1 as JAX since 0.5, 0 the older one.",
        changes_code=True,
    ),
    Setting(
        "compile_after",
        "AUTODIFF_COMPILE_AFTER",
        2,
        int,
        "How often an un-jitted transformation runs a graph of one structure equation by equation "
        "before it is compiled.",
    ),
    Setting(
        "reference",
        "AUTODIFF_REFERENCE",
        False,
        _boolean,
        "Run every graph equation by equation through the reference evaluator.",
        changes_code=True,
    ),
    Setting(
        "check",
        "AUTODIFF_CHECK",
        frozenset(),
        _words("nans", "residuals"),
        "Check while running, comma separated: nans, which raises where the first NaN appears and "
        "names the operation, its line and the sweep (every graph then runs equation by equation); "
        "residuals, which raises where a solver returns what does not solve its equation.",
        changes_code=True,
    ),
    Setting(
        "verify",
        "AUTODIFF_VERIFY",
        False,
        _boolean,
        "Check every graph's invariants after each pass.",
    ),
    Setting(
        "debug",
        "AUTODIFF_DEBUG",
        frozenset(),
        _words("trace", "passes", "source"),
        "Print to standard error, comma separated: trace, passes, source.",
    ),
    Setting(
        "dump",
        "AUTODIFF_DUMP",
        "",
        str,
        "Folder into which every compiled program's graphs, kernels and source are written.",
    ),
    Setting(
        "retrace_notice",
        "AUTODIFF_RETRACE_NOTICE",
        8,
        int,
        "How many times `jit` traces one function before it says once what differed.",
    ),
    Setting(
        "kernels",
        "AUTODIFF_KERNELS",
        True,
        _boolean,
        "Compute compiled graphs by generated kernels where these can: several "
        "operations at a time, each within its stated error.",
        changes_code=True,
    ),
    Setting(
        "no_fusion",
        "AUTODIFF_NO_FUSION",
        False,
        _boolean,
        "Make a kernel of every operation by itself, to compare with those that are fused.",
        changes_code=True,
    ),
    Setting(
        "contract",
        "AUTODIFF_CONTRACT",
        True,
        _boolean,
        "Let kernels round a product and the sum it goes into once (fused multiply-add).",
        changes_code=True,
    ),
    Setting(
        "cpu_target",
        "AUTODIFF_CPU_TARGET",
        "auto",
        _one_of("auto", "avx512", "avx2", "sse2", "neon"),
        "Instruction set of kernels for the CPU: auto takes the widest the machine has.",
        changes_code=True,
    ),
    Setting(
        "threads",
        "AUTODIFF_THREADS",
        0,
        _count,
        "Most threads a kernel is divided over; 0 stands for the cores this process may use.",
    ),
    Setting(
        "cache_dir",
        "AUTODIFF_CACHE_DIR",
        "auto",
        _folder,
        "Folder of compiled kernels kept on disk: auto is `autodiff` in the user's cache folder, "
        "off keeps none.",
    ),
    Setting(
        "cache_megabytes",
        "AUTODIFF_CACHE_MEGABYTES",
        256,
        _count,
        "Size of that folder beyond which the kernels used longest ago are removed.",
    ),
    Setting(
        "kept_megabytes",
        "AUTODIFF_KEPT_MEGABYTES",
        512,
        _count,
        "Most memory of large results that is kept for later ones once they are gone.",
    ),
    Setting(
        "user_cache_home",
        "XDG_CACHE_HOME",
        "",
        str,
        "The user's cache folder; ~/.cache where it is unset or no absolute path.",
    ),
)
_BY_NAME = {setting.name: setting for setting in TABLE}


class Settings:
    """An immutable set of values, one attribute for each row of the table."""

    __slots__ = ("__dict__", "code_key")

    device: str
    default_float: str
    threefry_partitionable: bool
    compile_after: int
    reference: bool
    check: frozenset[str]
    verify: bool
    debug: frozenset[str]
    dump: str
    retrace_notice: int
    kernels: bool
    no_fusion: bool
    contract: bool
    cpu_target: str
    threads: int
    cache_dir: str
    cache_megabytes: int
    kept_megabytes: int
    user_cache_home: str
    code_key: tuple[Any, ...]

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)
        self.code_key = tuple(values[setting.name] for setting in TABLE if setting.changes_code)

    def replaced(self, changes: Mapping[str, Any]) -> Settings:
        """Return a copy with `changes`, each checked as its environment variable would be."""
        for name, value in changes.items():
            if name not in _BY_NAME:
                raise TypeError(
                    f"configure: the name must be one of {', '.join(_BY_NAME)}, got name={name!r}."
                )
            if isinstance(value, str):
                _parsed(_BY_NAME[name], value, name)
        return Settings({**self.__dict__, **changes})


def _parsed(setting: Setting, text: str, name: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ValueError(f"settings: {name} must be {error}, got {name}={text!r}.") from None


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the table's values as `environment` sets them, defaults elsewhere."""
    values = {}
    for setting in TABLE:
        text = environment.get(setting.environment)
        values[setting.name] = (
            setting.default if text is None else _parsed(setting, text, setting.environment)
        )
    return Settings(values)


#: The values of the whole process, and those of a block of code, which go before them.
process_wide: CellType = CellType(from_environment(os.environ))
local: ContextVar[Settings | None] = ContextVar("autodiff_settings", default=None)


def settings() -> Settings:
    """Return the values in force here."""
    return local.get() or process_wide.cell_contents


def configure(**changes: Any) -> None:
    """Change settings for the whole process."""
    process_wide.cell_contents = process_wide.cell_contents.replaced(changes)


@contextmanager
def override(**changes: Any) -> Iterator[None]:
    """Change settings for a block of code.

    >>> with override(default_float="float32"):
    ...     settings().default_float
    'float32'
    """
    token = local.set(settings().replaced(changes))
    try:
        yield
    finally:
        local.reset(token)
