"""How error tests compare whole texts: `with refused(TypeError, "..."): call  # here`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

#: A user's line in these tests ends with `# here`, by which a message is seen to show it.
_LINE = re.compile(r"^At \S*/(test_\w+\.py):\d+, in [\w<>.]+: .*# here$", re.MULTILINE)


def normalized(text: str) -> str:
    """Return a message with the user's line, wherever it is, as `At here`."""
    return _LINE.sub("At here", text)


@contextmanager
def refused(
    kind: type[Exception], requirement: str, *, at: bool = True, fix: str | None = None
) -> Iterator[None]:
    """Expect an error of exactly `kind` whose whole text is these parts.

    `at`: the text names the line that ends with `# here`. `fix`: what follows "To fix: ".
    """
    with pytest.raises(Exception) as caught:
        yield
    expected = requirement + ("\nAt here" if at else "")
    if fix is not None:
        expected += f"\nTo fix: {fix}"
    assert normalized(str(caught.value)) == expected
    assert type(caught.value) is kind
