"""What compiled programs are made of, written into a folder: for reading, comparing and reporting.

With `AUTODIFF_DUMP=folder` every program that is compiled gets a folder of its own, `0000`, `0001`,
..., in the order of their making:

    graph.txt        the graph as it came
    simplified.txt   after the simplifying passes
    schedule.txt     the kernels, and why other equations are none (where kernels are on)
    source-0.txt     the program, then the text of each kernel and of what held graphs become
    repro.py         a script that runs the graph on numbers of its types
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from autodiff.ir.graph import Graph

_numbers = count()

_REPRO = '''"""Run the graph beside this file on numbers of its types: python repro.py"""

from pathlib import Path

import numpy as np

import autodiff  # the registry of operations
from autodiff.ir.parser import parse_graph
from autodiff.runtime.executor import Executable

graph = parse_graph(Path(__file__).with_name("graph.txt").read_text())
random = np.random.default_rng(0)
arguments = [
    np.asarray(random.uniform(-1.0, 1.0, aval.shape)).astype(aval.dtype)
    for aval in graph.input_types
]
with autodiff.override(reference=True):
    expected = Executable(graph, compile_now=True)(*arguments)
for found, wanted in zip(Executable(graph, compile_now=True)(*arguments), expected, strict=True):
    print(found.dtype, found.shape, "equal" if np.array_equal(found, wanted) else found - wanted)
'''


def dump(
    folder: str, graph: Graph, simplified: Graph, schedule: str | None, sources: list[str]
) -> None:
    """Write what a program is made of into the next numbered folder of `folder`."""
    place = Path(folder) / f"{next(_numbers):04d}"
    place.mkdir(parents=True, exist_ok=True)
    texts = {"graph.txt": str(graph), "simplified.txt": str(simplified), "repro.py": _REPRO}
    if schedule is not None:
        texts["schedule.txt"] = schedule
    texts |= {f"source-{i}.txt": text for i, text in enumerate(sources)}
    for name, text in texts.items():
        (place / name).write_text(text + "\n", encoding="utf-8")
