"""A card's acceptance run: `python -m bench.gpu`.

The tests of GPUs run first. Then programs are timed beside a copy on the device of as many bytes
and beside other libraries, launches and compilers are timed, and questions are answered that only a
card can. Results go to `bench/results/<device>-<date>` as JSON, Markdown and a picture. The last
line says `pass`, or names what fell short of the goals; so does the exit status.

`--device emulator` runs all of it on the CPU at toy sizes, to try the run itself.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from bench.declare import Case, Peer
from bench.gpu import contenders, page
from bench.gpu.answers import answers
from bench.gpu.card import Card, NoCardError, opened
from bench.gpu.timing import Outcome, run
from bench.machine import ROOT, describe
from bench.plot import plot
from bench.report import print_table, record

PACKAGES = (
    *("autodiff", "numpy", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc"),
    *("nvidia-cuda-nvrtc-cu12", "jax", "jaxlib", "torch"),
)

#: Bytes that programs move, and rounds: on a card, and on the emulator.
CARD, EMULATOR = (1 << 30, 15), (1 << 13, 2)

#: The tests of a run on the emulator, which runs all of them with every other test.
FEW_TESTS = "views or training"


def parser() -> ArgumentParser:
    """Return the command line's description."""
    result = ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    result.add_argument(
        "--device", choices=("card", "emulator"), default="card", help="default %(default)s"
    )
    result.add_argument(
        "--peers",
        default=",".join(contenders.NAMES),
        metavar="A,B",
        help="libraries to compare with, where they are installed; default %(default)s",
    )
    result.add_argument("--rounds", type=int, metavar="N", help=f"default {CARD[1]}")
    result.add_argument(
        "--megabytes", type=int, metavar="N", help="memory that programs move; default 1074"
    )
    result.add_argument("--no-tests", action="store_true", help="do not run the tests first")
    result.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="where results are written; default bench/results, for an emulator nowhere",
    )
    return result


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    description = parser()
    options = description.parse_args(arguments)
    peers = options.peers.split(",")
    for name in peers:
        if name not in contenders.NAMES:
            description.error(f"--peers must be among {', '.join(contenders.NAMES)}, got {name!r}.")
    for name in ("rounds", "megabytes"):
        if (value := getattr(options, name)) is not None and value < 1:
            description.error(f"--{name} must be at least 1, got {value}.")
    try:
        with opened(options.device) as card:
            tests = None if options.no_tests else _tested(options.device)
            last = _measured(card, options, peers, tests)
    except NoCardError as error:
        last = f"FELL SHORT: there is no card to measure: {error}"
    print(last)
    return 0 if last.startswith("pass") else 1


def _tested(device: str) -> int:
    """Run the tests of GPUs in a process of their own; return its exit status."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--gpu", device, "tests/gpu"]
    if device == "emulator":
        command += ["-k", FEW_TESTS]
    print(f"Tests: {shlex.join(['python', *command[1:]])}", flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _measured(card: Card, options: Namespace, wanted: Sequence[str], tests: int | None) -> str:
    """Measure everything, write it down, and return the last line."""
    moved, rounds = EMULATOR if card.is_emulated else CARD
    moved = moved if options.megabytes is None else options.megabytes * 1_000_000
    rounds = options.rounds or rounds
    peers, missing = contenders.load(card, wanted)
    outcome = run(card, peers, moved, rounds, lambda name: print(f"... {name}", flush=True))
    outcome.notes[:0] = missing
    found = answers(card, outcome, moved)
    case = outcome.case(card)
    content = page.table(outcome, case.about, [peer.name for peer in peers])
    print_table(content)
    for answer in found:
        print(f"{answer.question} {answer.answer}")
    for note in outcome.notes:
        print(note)
    last = page.last_line(case, outcome, tests, is_emulated=card.is_emulated)
    folder = options.results or (None if card.is_emulated else ROOT / "bench" / "results")
    if folder is not None:
        stamp = _stamp(card, outcome, options, rounds, moved, tests)
        written = {
            "cases": [
                {
                    **record(case, outcome.results),
                    "moved": outcome.moved,
                    "kernels": outcome.kernels,
                    "answers": [asdict(answer) for answer in found],
                    "notes": outcome.notes,
                    "verdict": last,
                    "run": stamp,
                }
            ]
        }
        text = page.markdown(stamp, content, found, outcome.notes, last)
        _write(folder / f"{card.slug}-{stamp['date']}", written, text, case, outcome, peers)
    return last


def _stamp(
    card: Card, outcome: Outcome, options: Namespace, rounds: int, moved: int, tests: int | None
) -> dict[str, Any]:
    """Return how to repeat a run, and on what it was made."""
    command = ["python", "-m", "bench.gpu"]
    if card.is_emulated:
        command += ["--device", "emulator"]
    for name in ("rounds", "megabytes"):
        if (value := getattr(options, name)) is not None:
            command += [f"--{name}", str(value)]
    return {
        **describe(list(PACKAGES)),
        "device": card.name,
        "facts": card.facts,
        "copy_rate": page.copy_rate(outcome),
        "date": date.today().isoformat(),
        "command": shlex.join([*command, "--peers", options.peers]),
        "rounds": rounds,
        "moved": moved,
        "tests": tests,
    }


def _write(
    path: Path,
    written: dict[str, Any],
    text: str,
    case: Case,
    outcome: Outcome,
    peers: Sequence[Peer],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_suffix(".json"), path.with_suffix(".md")]
    files[0].write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    files[1].write_text(text, encoding="utf-8")
    picture = path.with_suffix(".png")
    if plot(case, outcome.results, [peer.name for peer in peers], picture):
        files.append(picture)
    else:
        print("No picture: matplotlib is not installed.")
    print(f"Results: {', '.join(str(file) for file in files)}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
