"""A run as text, and as JSON with a page of Markdown beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.declare import OURS, Case, Goal, Workload
from bench.markdown import page
from bench.measure import NotMeasuredError, Results


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, column names and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def microseconds(value: float) -> str:
    """Return a time in microseconds to three figures.

    >>> microseconds(0.01234), microseconds(12.34), microseconds(123456.0)
    ('0.0123', '12.3', '123,456')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(case: Case, results: Results, peers: Sequence[str]) -> Table:
    """Return the table of a case: microseconds, their spread, and every peer's time over ours."""
    shown = [p for p in peers if any(p in results.measurements[w.name] for w in case.workloads)]
    rows = []
    for workload in case.workloads:
        cells = [_cell(workload, peer, results) for peer in shown]
        rows.append((workload.name, workload.unit, *cells))
    headings = [p if p == OURS else f"{p} (over ours)" for p in shown]
    return Table(case.about, ("workload", "us per", *headings), tuple(rows))


def _cell(workload: Workload, peer: str, results: Results) -> str:
    measured = results.measurements[workload.name]
    if peer not in measured:
        return ""
    found = measured[peer]
    if peer == workload.less:
        return f"({microseconds(found.median)} taken off)"
    text = f"{microseconds(found.median)} ±{found.spread:.0%}"
    if peer != OURS and OURS in measured:
        ratio, goal = results.ratio(workload.name, peer, OURS), workload.faster_than.get(peer)
        text += f" ({ratio:.2f}x"
        if goal is not None:
            text += f", goal {goal:g}x: {'reached' if ratio >= goal else 'MISSED'}"
        text += ")"
    return text


def goal_lines(case: Case, results: Results, *, measured_only: bool = False) -> list[str]:
    """Return one sentence for each goal of the case: figure, limit, whether it is reached."""
    lines = []
    for goal in case.goals:
        value = goal_value(goal, results)
        limit = f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}{goal.unit}"
        if value is None and measured_only:
            continue
        if value is None:
            lines.append(f"not measured  {goal.text} ({limit})")
            continue
        verdict = "reached" if goal.is_met(value) else "MISSED "
        lines.append(f"{verdict}  {goal.text}: {value:.2f}{goal.unit} ({limit})")
    return lines


def goal_value(goal: Goal, results: Results) -> float | None:
    """Return a goal's figure, None where the run has not measured what it needs."""
    try:
        return goal.value(results)
    except NotMeasuredError:
        return None


def print_table(content: Table) -> None:
    """Print a table through rich, or as plain text where rich is missing."""
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print("\n".join(plain_lines(content)))
        return
    console = Console()
    if not console.is_terminal:
        print("\n".join(plain_lines(content)))
        return
    drawn = RichTable(title=content.title, title_justify="left")
    for i, column in enumerate(content.columns):
        drawn.add_column(column, justify="left" if i < 2 else "right")
    for row in content.rows:
        drawn.add_row(*row)
    console.print(drawn)


def plain_lines(content: Table) -> Iterator[str]:
    """Yield a table as aligned lines."""
    rows = [content.columns, *content.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(content.columns))]
    yield content.title
    for row in rows:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def record(case: Case, results: Results) -> dict[str, Any]:
    """Return a case as JSON holds it: every round's microseconds, and the goals."""
    workloads = []
    for workload in case.workloads:
        measured = results.measurements[workload.name]
        workloads.append(
            {
                "name": workload.name,
                "unit": workload.unit,
                "operations": workload.operations,
                "microseconds": {
                    peer: {
                        "median": found.median,
                        "quartiles": found.quartiles,
                        "rounds": found.rounds,
                    }
                    for peer, found in measured.items()
                },
                "ratios": {
                    peer: results.ratio(workload.name, peer, OURS)
                    for peer in measured
                    if peer not in (OURS, workload.less) and OURS in measured
                },
                "faster_than": dict(workload.faster_than),
            }
        )
    goals = []
    for goal in case.goals:
        value = goal_value(goal, results)
        goals.append(
            {
                "text": goal.text,
                "value": value,
                "limit": goal.limit,
                "unit": goal.unit,
                "at_least": goal.at_least,
                "met": None if value is None else goal.is_met(value),
            }
        )
    return {"name": case.name, "about": case.about, "workloads": workloads, "goals": goals}


def write_results(path: Path, run: dict[str, Any]) -> None:
    """Write a run to a file of JSON, and a page of Markdown of the file's name beside it.

    A file already there keeps its cases, but for those run again.
    """
    cases = {case["name"] for case in run["cases"]}
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        earlier = {"cases": []}
    stamp = {key: value for key, value in run.items() if key != "cases"}
    kept = [case for case in earlier["cases"] if case["name"] not in cases]
    kept += [{**case, "run": stamp} for case in run["cases"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"cases": kept}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(content), encoding="utf-8")
