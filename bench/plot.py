"""Bars of every workload's times, one picture per case."""

from __future__ import annotations

from pathlib import Path

from bench.declare import Case
from bench.measure import Results


def plot(case: Case, results: Results, peers: list[str], path: Path) -> bool:
    """Draw medians on a logarithmic axis into `path`; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    workloads = case.workloads
    height = 0.8 / len(peers)
    figure = Figure(figsize=(9, 1.5 + 0.35 * len(workloads)), layout="constrained")
    axes = figure.add_subplot()
    for i, peer in enumerate(peers):
        points = [
            (row + i * height, found.median)
            for row, workload in enumerate(workloads)
            if (found := results.measurements[workload.name].get(peer)) is not None
            and peer != workload.less
        ]
        if points:
            places, times = zip(*points, strict=True)
            axes.barh(places, times, height, label=peer)
    axes.set_yticks(
        [row + 0.4 - height / 2 for row in range(len(workloads))],
        [f"{workload.name}\nper {workload.unit}" for workload in workloads],
        fontsize=7,
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("microseconds")
    axes.set_title(case.about, fontsize=9)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return True
