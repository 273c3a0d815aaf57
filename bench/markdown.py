"""The records of a results file as a page of Markdown, for readers who know nothing of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.declare import OURS

_LEGEND = (
    f"The column of {OURS} is the median time of one call, or of the unit named. The other columns "
    "say how many times as long another library takes for the same: 3x is three times as long as "
    f"{OURS}, 0.5x half as long. Where a goal is set, it is the least multiple that counts as "
    "reached. All libraries run in turn, round after round, on one core; a multiple is the median "
    "over the rounds. Before anything is timed, results are compared."
)


def page(records: Mapping[str, Any]) -> str:
    """Return the page of a results file's content: its runs, and the cases of each."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for case in records["cases"]:
        runs.setdefault(json.dumps(case["run"]), []).append(case)
    lines = ["# Benchmark results", "", _LEGEND, ""]
    for run, cases in runs.items():
        lines += [*_run_lines(json.loads(run)), "", *_summary_lines(cases), ""]
        for case in cases:
            lines += [f"### {case['name']}", "", case["about"], "", *_table_lines(case), ""]
    return "\n".join(lines)


def _run_lines(run: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    changed = " with uncommitted changes" if run["uncommitted"] else ""
    yield f"## Run of {run['date']}"
    yield ""
    yield f"- `{run['command']}`"
    yield f"- {run['cpu']}, {run['cores']} cores; {run['system']}"
    yield f"- Python {run['python']}; {versions}"
    yield f"- commit {run['commit']}{changed}"
    if run.get("clock", "wall") != "wall":
        yield "- times of programs in this process are those for which it has had a core"
    if run.get("load") is not None:
        yield f"- load of the machine at the start: {run['load']:.1f} (idle is 0)"


def _summary_lines(cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    goals = [goal for case in cases for goal in (*_row_goals(case), *_case_goals(case))]
    if not goals:
        return
    missed = [goal for goal in goals if not goal.reached]
    yield f"{len(goals) - len(missed)} of {len(goals)} goals are reached."
    if missed:
        yield ""
        yield "| missed | measured | goal |"
        yield "|---|---:|---:|"
    for goal in missed:
        yield f"| {goal.text} | {goal.measured} | {goal.limit} |"


@dataclass(frozen=True, slots=True)
class _Goal:
    text: str
    measured: str
    limit: str
    reached: bool


def _row_goals(case: Mapping[str, Any]) -> Iterator[_Goal]:
    for row in case["workloads"]:
        for peer, limit in row.get("faster_than", {}).items():
            if (ratio := row["ratios"].get(peer)) is not None:
                text = f"{row['name']}: {peer}"
                yield _Goal(text, f"{ratio:.2f}x", f"at least {limit:g}x", ratio >= limit)


def _case_goals(case: Mapping[str, Any]) -> Iterator[_Goal]:
    for goal in case["goals"]:
        if goal["met"] is not None:
            unit = goal.get("unit", "")
            limit = f"{'at least' if goal['at_least'] else 'at most'} {goal['limit']:g}{unit}"
            yield _Goal(goal["text"], f"{goal['value']:.2f}{unit}", limit, goal["met"])


def _table_lines(case: Mapping[str, Any]) -> Iterator[str]:
    workloads = case["workloads"]
    peers = list(dict.fromkeys(peer for row in workloads for peer in row["microseconds"]))
    yield f"| program | {' | '.join(peers)} |"
    yield f"|---|{'---:|' * len(peers)}"
    for row in workloads:
        cells = [_cell(row, peer) for peer in peers]
        yield f"| {row['name']} | {' | '.join(cells)} |"
    goals = tuple(_case_goals(case))
    if goals:
        yield ""
    for goal in goals:
        verdict = "reached" if goal.reached else "**missed**"
        yield f"- {goal.text}: {goal.measured} (goal {goal.limit}: {verdict})"


def _cell(row: Mapping[str, Any], peer: str) -> str:
    if peer not in row["microseconds"]:
        return ""
    if peer not in row["ratios"]:
        time = duration(row["microseconds"][peer]["median"])
        return time if row["unit"] == "call" else f"{time} per {row['unit']}"
    ratio, goal = row["ratios"][peer], row.get("faster_than", {}).get(peer)
    if goal is None:
        return f"{ratio:.2f}x"
    return f"{ratio:.2f}x (goal {goal:g}x: {'reached' if ratio >= goal else '**missed**'})"


def duration(microseconds: float) -> str:
    """Return a time to three figures, in the unit that suits it.

    >>> duration(0.01234), duration(123.4), duration(12345.0), duration(2.5e6)
    ('12.3 ns', '123 us', '12.3 ms', '2.5 s')
    """
    for factor, unit in ((1e3, "ns"), (1.0, "us"), (1e-3, "ms")):
        if abs(microseconds) * factor < 999.5:
            return f"{microseconds * factor:.3g} {unit}"
    return f"{microseconds * 1e-6:.3g} s"
