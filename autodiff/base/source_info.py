"""Where in the user's program an equation was written.

Recording must cost next to nothing, so a record is the frame's code object and instruction
offset; the line number is worked out only when somebody reads it.
"""

from __future__ import annotations

import linecache
import sys
from os.path import basename, dirname, join
from types import CodeType, FrameType

import numpy as np

PACKAGE_DIRECTORY = dirname(dirname(__file__))
_NUMPY_DIRECTORY = dirname(np.__file__)

#: How the file names of text that is written while programs run begin.
WRITTEN = "<autodiff "

#: A folder of this package whose files are programs written with it, as a user's are.
_PROGRAMS = join(PACKAGE_DIRECTORY, "demo")

#: Code object, instruction offset, and of what a pass has recorded for a derivative the sweep.
SourceLine = tuple[CodeType, int] | tuple[CodeType, int, str]

#: Sweeps: where a function's values are computed, the derivatives by which tangents are multiplied
#: with the tangents, and where cotangents go from the outputs to the inputs.
VALUES, TANGENTS, COTANGENTS = "values", "tangents", "cotangents"

#: File name to whether it is this library's or NumPy's. By name, since a code object hashes its
#: constants anew on every look-up: 220 ns against 28 ns.
_is_library_file: dict[str, bool] = {}


def _belongs_to_library(name: str) -> bool:
    inside = name.startswith(PACKAGE_DIRECTORY) and not name.startswith(_PROGRAMS)
    known = inside or name.startswith((_NUMPY_DIRECTORY, WRITTEN))
    if len(_is_library_file) > 20_000:
        _is_library_file.clear()
    _is_library_file[name] = known
    return known


def is_library_code(code: CodeType) -> bool:
    """Return whether a frame's code is this library's, or NumPy's."""
    known = _is_library_file.get(code.co_filename)
    return _belongs_to_library(code.co_filename) if known is None else known


def user_line(depth: int = 1) -> SourceLine | None:
    """Return the innermost frame outside this library and NumPy, as (code, instruction offset).

    `depth`: how many callers are known to be the library's, and need not be looked at.
    """
    frame: FrameType | None = sys._getframe(depth)
    known = _is_library_file
    while frame is not None:
        code = frame.f_code
        library = known.get(code.co_filename)
        if library is None:
            library = _belongs_to_library(code.co_filename)
        if not library:
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def in_sweep(line: SourceLine | None, sweep: str) -> SourceLine | None:
    """Return the same place, marked as recorded for a sweep of its derivative."""
    return None if line is None else (line[0], line[1], sweep)


def sweep_of(line: SourceLine | None) -> str | None:
    """Return the sweep in which what was recorded at a place is computed; None: not known."""
    if line is None:
        return None
    return line[2] if len(line) == 3 else VALUES


def file_and_line(line: SourceLine) -> tuple[str, int]:
    """Return the file name and the line number of a recorded place."""
    code, offset = line[:2]
    positions = list(code.co_positions())
    number = positions[offset // 2][0] if offset // 2 < len(positions) else None
    return code.co_filename, number if number is not None else code.co_firstlineno


def describe_line(line: SourceLine) -> str:
    """Return `file:number, in function` and the text of the line, for error messages."""
    filename, number = file_and_line(line)
    text = linecache.getline(filename, number).strip()
    return f"{filename}:{number}, in {line[0].co_name}" + (f": {text}" if text else "")


def short_line(line: SourceLine | None) -> str:
    """Return `file.py:number`, for the comments of a printed graph."""
    if line is None:
        return ""
    filename, number = file_and_line(line)
    return f"{basename(filename)}:{number}"
