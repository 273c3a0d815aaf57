"""A card's run as text: the table on the screen, the page of Markdown, and the last line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.declare import OURS, Case
from bench.gpu.answers import Answer
from bench.gpu.contenders import COPY
from bench.gpu.rows import AHEAD_OF
from bench.gpu.timing import Outcome
from bench.markdown import duration
from bench.measure import Results
from bench.report import Table, goal_value

_LEGEND = (
    f"The column of {OURS} is the median time of one call, which launches so many `kernels` of its "
    "own. `moved` are the bytes of the arrays that a program reads and writes, each once; the next "
    "columns say how fast that is, and how fast beside a copy on the device of as many bytes, "
    "timed in turn with it. Other columns say "
    f"how many times as long another library takes: 3x is three times as long as {OURS}. Times are "
    "the device's (CUDA events) over several calls under way; JAX's, which has streams of its own, "
    "are the host's until the last call is over. Results are compared before anything is timed."
)


def table(outcome: Outcome, title: str, peers: Sequence[str]) -> Table:
    """Return the rows of a run as text; `peers` names all contenders, this library first."""
    others = [name for name in peers if name not in (OURS, COPY)]
    rows = tuple(tuple(_cells(outcome, workload.name, others)) for workload in outcome.workloads)
    columns = ("program", OURS, "kernels", "moved", "GB/s", "of the copy", *others)
    return Table(title, columns, rows)


def _cells(outcome: Outcome, name: str, others: Sequence[str]) -> Iterator[str]:
    results = outcome.results
    measured = outcome.measurements[name]
    yield name
    yield duration(measured[OURS].median) if OURS in measured else "FAILED"
    yield str(outcome.kernels.get(name, ""))
    moved = outcome.moved.get(name)
    if moved is None or OURS not in measured:
        yield from ("", "", "")
    else:
        yield f"{moved / 1e6:,.1f} MB"
        yield f"{moved / measured[OURS].median * 1e-3:,.1f}"
        yield f"{results.ratio(name, COPY, OURS):.0%}" if COPY in measured else ""
    for peer in others:
        if peer not in measured:
            yield ""
        elif OURS in measured:
            yield f"{results.ratio(name, peer, OURS):.2f}x"
        else:
            yield duration(measured[peer].median)


def copy_rate(outcome: Outcome) -> float | None:
    """Return the bytes per second of the copy: the median over rows."""
    rates = sorted(
        moved / outcome.measurements[name][COPY].median * 1e6
        for name, moved in outcome.moved.items()
        if COPY in outcome.measurements.get(name, {})
    )
    return rates[len(rates) // 2] if rates else None


def shortfalls(case: Case, outcome: Outcome, tests: int | None) -> list[str]:
    """Return a phrase for everything that fell short of the goals or was not measured.

    Args:
        case: the workloads with their goals, from `Outcome.case`.
        outcome: what was measured.
        tests: exit status of the tests; None where they were left out.
    """
    found = []
    if tests is None:
        found.append("the tests were not run")
    elif tests != 0:
        found.append("tests failed")
    found += [f"{name}: did not run" for name in outcome.broken]
    found += _slower(case, outcome.results)
    for goal in case.goals:
        value = goal_value(goal, outcome.results)
        limit = f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}{goal.unit}"
        if value is None:
            found.append(f"{goal.text}: not measured ({limit})")
        elif not goal.is_met(value):
            found.append(f"{goal.text}: {value:.1f}{goal.unit} ({limit})")
    return found


def _slower(case: Case, results: Results) -> Iterator[str]:
    for workload in case.workloads:
        for peer, goal in workload.faster_than.items():
            ratio = results.ratio(workload.name, peer, OURS)
            if ratio < goal:
                yield f"{workload.name}: {peer} takes {ratio:.2f}x our time"


def last_line(case: Case, outcome: Outcome, tests: int | None, *, is_emulated: bool) -> str:
    """Return the line that says `pass`, or names what fell short.

    An emulator's times say nothing: there, what has to hold is that tests pass and every row runs.
    """
    if is_emulated:
        short = [f"{name}: did not run" for name in outcome.broken]
        short += ["tests failed"] if tests else []
        return _verdict(
            short, "pass: everything ran (on the emulator, which says nothing of speed)"
        )
    compared = {peer for workload in case.workloads for peer in workload.faster_than}
    absent = [peer for peer in AHEAD_OF if peer not in compared]
    without = f" (not compared with {', '.join(absent)})" if absent else ""
    return _verdict(shortfalls(case, outcome, tests), f"pass: every goal is reached{without}")


def _verdict(short: Sequence[str], passed: str) -> str:
    return f"FELL SHORT: {'; '.join(short)}" if short else passed


def markdown(
    run: Mapping[str, Any],
    content: Table,
    answers: Sequence[Answer],
    notes: Sequence[str],
    last: str,
) -> str:
    """Return a run as a page for readers who know nothing of it."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    changed = " with uncommitted changes" if run["uncommitted"] else ""
    lines = [
        f"# {run['device']}, {run['date']}",
        "",
        f"**{last}**",
        "",
        f"- `{run['command']}`, {run['rounds']} rounds",
        *[f"- {name}: {value}" for name, value in run["facts"].items()],
        f"- copy on the device: {run['copy_rate'] * 1e-9:,.1f} GB/s" if run["copy_rate"] else "",
        f"- host: {run['cpu']}, {run['cores']} cores; {run['system']}, Python {run['python']}",
        f"- {versions}",
        f"- commit {run['commit']}{changed}",
        "",
        _LEGEND,
        "",
        _row(content.columns),
        "|---|" + "---:|" * (len(content.columns) - 1),
        *map(_row, content.rows),
        "",
        "## What only a card can tell",
        "",
        "| question | answer |",
        "|---|---|",
        *[_row((answer.question, answer.answer)) for answer in answers],
        "",
    ]
    if notes:
        lines += ["## Left out", "", *[f"- {note}" for note in notes], ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
