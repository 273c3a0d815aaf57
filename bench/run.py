"""Run benchmark cases: `python -m bench.run eager --rounds 15 --peers autograd,jax`.

All contenders run in one process on one core, in turn, round after round; a figure is the median
of its rounds. Results go to `bench/results/<processor>-<date>.json`, with what is needed to repeat
them, and as a page to read into the file of the same name that ends in `.md`.
"""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import peers as adapters
from bench.declare import OURS, Case, Peer
from bench.machine import ROOT, describe, device_slug, prepare_process
from bench.measure import CLOCKS, Results, measure
from bench.plot import plot
from bench.report import goal_lines, print_table, record, table, write_results

CASES = ROOT / "bench" / "cases"
PACKAGES = ["autodiff", "numpy", "scipy", "autograd", "jax", "jaxlib", "torch"]


def case_names(folder: Path = CASES) -> tuple[str, ...]:
    """Return the names of the cases: the files of the folder."""
    return tuple(sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__"))


def load_case(name: str) -> Case:
    """Return the case that a file of `bench/cases/` defines."""
    return import_module(f"bench.cases.{name}").CASE


def selected(names: Sequence[str], only: str = "") -> tuple[Case, ...]:
    """Return the cases of these names and their parts, each once.

    Args:
        names: names of cases; none means all.
        only: keep the workloads whose name has this in it, and cases that have any.
    """
    found: dict[str, Case] = {}
    for name in names or case_names():
        for case in load_case(name).flattened():
            kept = tuple(workload for workload in case.workloads if only in workload.name)
            if kept:
                found.setdefault(case.name, replace(case, workloads=kept))
    return tuple(found.values())


def parser() -> ArgumentParser:
    """Return the command line's description."""
    names = case_names()
    result = ArgumentParser(prog="python -m bench.run", description=__doc__)
    result.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"any of {', '.join(names)}; none means all"
    )
    result.add_argument("--rounds", type=int, default=15, metavar="N", help="default %(default)s")
    result.add_argument(
        "--peers",
        default=",".join(adapters.names()),
        metavar="A,B",
        help="libraries to compare with; default %(default)s",
    )
    result.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="wall",
        help="cpu: time the process has had a core, for busy machines; rows whose programs run in "
        "processes of their own, and first calls, stay with the wall's; default %(default)s",
    )
    result.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="only rows with TEXT in their name; results are then written where --json says",
    )
    result.add_argument(
        "--json", type=Path, metavar="PATH", help="write results here, not to bench/results/"
    )
    result.add_argument("--no-json", action="store_true", help="write no results")
    result.add_argument("--plot", action="store_true", help="draw bars into bench/plots/")
    return result


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _checked(parser(), arguments)
    wanted = [OURS, *(name for name in options.peers.split(",") if name != OURS)]
    contenders, missing = adapters.load(wanted)
    for sentence in missing:
        print(sentence)
    names = [peer.name for peer in contenders]
    path = options.json
    if path is None and not (options.no_json or options.only):
        path = ROOT / "bench" / "results" / f"{_stem()}.json"
    stamp = _stamp(options)
    for case in selected(options.cases, options.only):
        results = run_case(case, contenders, options.rounds, options.clock)
        print_table(table(case, results, names))
        for line in goal_lines(case, results, measured_only=bool(options.only)):
            print(line)
        if options.plot:
            _draw(case, results, names)
        if path is not None:  # after each case, so that what has been measured is never lost
            write_results(path, {**stamp, "cases": [record(case, results)]})
    if path is not None:
        print(f"Results: {path} and {path.with_suffix('.md').name}")
    return 0


def run_case(case: Case, contenders: Sequence[Peer], rounds: int, clock: str = "wall") -> Results:
    """Measure a case, with a line of progress where somebody watches."""

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "" if done < total else "\n"
            print(f"\r{case.name}: round {done} of {total}", end=end, file=sys.stderr, flush=True)

    return measure(case.workloads, contenders, rounds, progress, clock)


def _checked(description: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    options = description.parse_args(arguments)
    for given, known, what in (
        (options.cases, case_names(), "CASE"),
        (options.peers.split(","), adapters.names(), "--peers"),
    ):
        for name in given:
            if name not in known:
                description.error(f"{what} must be among {', '.join(known)}, got {name!r}.")
    if options.rounds < 1:
        description.error(f"--rounds must be at least 1, got {options.rounds}.")
    return options


def _stem() -> str:
    return f"{device_slug()}-{date.today().isoformat()}"


def _stamp(options: Namespace) -> dict[str, Any]:
    """Return how to repeat a run; where its files went is nobody else's concern."""
    measured = [*options.cases, "--rounds", str(options.rounds), "--peers", options.peers]
    if options.clock != "wall":
        measured += ["--clock", options.clock]
    if options.only:
        measured += ["--only", options.only]
    return {
        **describe(PACKAGES),
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "-m", "bench.run", *measured]),
        "rounds": options.rounds,
        "clock": options.clock,
    }


def _draw(case: Case, results: Results, names: list[str]) -> None:
    path = ROOT / "bench" / "plots" / f"{_stem()}-{case.name}.png"
    drawn = plot(case, results, names, path)
    print(f"Plot: {path}" if drawn else "No plot: matplotlib is not installed.")


if __name__ == "__main__":
    prepare_process("bench.run", sys.argv[1:])
    raise SystemExit(main(sys.argv[1:]))
