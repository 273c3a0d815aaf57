"""The benchmark runner finds its cases, measures, reports and records. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import peers as adapters
from bench import run
from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.machine import ENVIRONMENT, ROOT, restarted_environment
from bench.measure import Measurement, NotMeasuredError, Results
from bench.programs import chain
from bench.report import goal_lines, markdown_lines, plain_lines, record, table, write_json


def _peer(name: str) -> Peer:
    return Peer(name=name, version="1", numpy=None)


def _entrant(seconds: float):
    return lambda peer: lambda: seconds


TRIVIAL = Case(
    name="trivial",
    about="Nothing much.",
    workloads=(
        Workload(
            name="told",
            entrants={OURS: _entrant(2e-6), "slow": _entrant(6e-6)},
            operations=2,
            unit="operation",
            reports_time=True,
        ),
        Workload(
            name="beyond",
            entrants={"base": _entrant(1e-3), OURS: _entrant(3e-3)},
            reports_time=True,
            less="base",
            rounds_at_most=2,
        ),
        Workload(name="timed", entrants={OURS: lambda peer: lambda: None}),
    ),
    goals=(
        Goal(text="told", value=lambda r: r.median("told", OURS), limit=1.5, unit=" us"),
        Goal(text="faster", value=lambda r: r.ratio("told", "slow", OURS), limit=4, at_least=True),
        Goal(text="absent", value=lambda r: r.ratio("told", "gone", OURS), limit=1, at_least=True),
    ),
)


@pytest.fixture(scope="module")
def results() -> Results:
    return run.run_case(TRIVIAL, [_peer(OURS), _peer("slow"), _peer("base")], rounds=3)


def test_every_file_of_the_cases_folder_is_a_case_of_its_name(tmp_path):
    for name in ("one", "another", "__init__"):
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    assert run.case_names(tmp_path) == ("another", "one")
    assert "eager" in run.case_names()
    for name in run.case_names():
        case = run.load_case(name)
        assert case.name == name
        names = [workload.name for workload in case.workloads]
        assert len(set(names)) == len(names)
        assert all(set(w.entrants) <= set(adapters.names()) for w in case.workloads)


def test_times_are_per_operation_and_ratios_are_theirs_over_ours(results):
    assert results.median("told", OURS) == pytest.approx(1.0)
    assert results.ratio("told", "slow", OURS) == pytest.approx(3.0)


def test_growth_is_per_unit_over_the_rounds_that_both_have(results):
    assert results.growth("told", "beyond", OURS) == pytest.approx(2000.0)


def test_the_baseline_is_taken_off_and_rounds_can_be_bounded(results):
    found = results.measurements["beyond"]
    assert found[OURS].median == pytest.approx(2000.0)
    assert found["base"].median == pytest.approx(1000.0)
    assert len(found[OURS].rounds) == 2


def test_a_call_without_a_time_of_its_own_is_timed(results):
    assert len(results.measurements["timed"][OURS].rounds) == 3
    assert all(value > 0 for value in results.measurements["timed"][OURS].rounds)


def test_what_was_not_measured_is_an_error_that_names_it(results):
    with pytest.raises(NotMeasuredError, match="told by gone"):
        results.median("told", "gone")


def test_spread_is_half_the_quartiles_distance_over_the_median():
    assert Measurement((1.0, 2.0, 3.0, 4.0, 5.0)).spread == pytest.approx(1 / 3)
    assert Measurement((2.0,)).spread == 0.0


def test_goals_are_met_or_not_or_not_measured(results):
    assert goal_lines(TRIVIAL, results) == [
        "met      told: 1.00 us (at most 1.5 us)",
        "NOT MET  faster: 3.00 (at least 4)",
        "not measured  absent (at least 1)",
    ]


def test_tables_as_text_and_as_markdown(results):
    content = table(TRIVIAL, results, [OURS, "slow", "base", "gone"])
    assert content.columns == (
        "workload",
        "us per",
        OURS,
        "slow (over ours)",
        "base (over ours)",
    )
    assert content.rows[0] == ("told", "operation", "1 ±0%", "3 ±0% (3.00x)", "")
    assert content.rows[1] == ("beyond", "call", "2,000 ±0%", "", "(1,000 taken off)")
    text = list(plain_lines(content))
    assert text[0] == "Nothing much."
    assert text[2].split() == ["told", "operation", "1", "±0%", "3", "±0%", "(3.00x)"]
    markdown = list(markdown_lines(content))
    assert markdown[3] == "|---|---|---:|---:|---:|"
    assert markdown[4] == "| told | operation | 1 ±0% | 3 ±0% (3.00x) |  |"


def test_the_record_has_every_round(results):
    found = record(TRIVIAL, results)
    told = found["workloads"][0]
    assert told["microseconds"]["slow"]["rounds"] == pytest.approx((3.0, 3.0, 3.0))
    assert told["ratios"] == {"slow": pytest.approx(3.0)}
    assert [goal["met"] for goal in found["goals"]] == [True, False, None]


def test_results_of_other_cases_in_the_file_are_kept(tmp_path):
    path = tmp_path / "results" / "machine.json"
    write_json(path, {"rounds": 1, "cases": [{"name": "a"}, {"name": "b"}]})
    write_json(path, {"rounds": 2, "cases": [{"name": "b"}]})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "cases": [{"name": "a", "run": {"rounds": 1}}, {"name": "b", "run": {"rounds": 2}}]
    }


def test_a_run_from_the_command_line_writes_json_and_markdown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "case_names", lambda: ("trivial",))
    monkeypatch.setattr(run, "load_case", lambda name: TRIVIAL)
    path, markdown = tmp_path / "found.json", tmp_path / "found.md"
    arguments = ["trivial", "--rounds", "2", "--peers", "numpy", "--json", str(path)]
    assert run.main([*arguments, "--markdown", str(markdown)]) == 0
    (found,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert set(found) == {"name", "about", "workloads", "goals", "run"}
    assert set(found["run"]) == {
        "cpu",
        "cores",
        "system",
        "python",
        "versions",
        "commit",
        "uncommitted",
        "date",
        "command",
        "rounds",
    }
    assert found["run"]["command"] == "python -m bench.run trivial --rounds 2 --peers numpy"
    assert "numpy" in found["run"]["versions"]
    assert markdown.read_text(encoding="utf-8").startswith("### Nothing much.")
    assert "met      told" in capsys.readouterr().out


def test_peers_that_are_not_installed_are_named_and_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "autograd", None)
    found, missing = adapters.load([OURS, "autograd", "numpy"])
    assert [peer.name for peer in found] == [OURS, "numpy"]
    assert len(missing) == 1
    assert missing[0].startswith("autograd is left out: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "CASE must be among "),
        (["--peers", "nobody"], "--peers must be among "),
        (["--rounds", "0"], "--rounds must be at least 1, got 0."),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert sentence in capsys.readouterr().err


def test_help_names_the_cases():
    shown = subprocess.run(
        [sys.executable, "-m", "bench.run", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in run.case_names():
        assert name in shown


def test_the_process_starts_again_only_where_its_environment_differs():
    assert restarted_environment({**ENVIRONMENT, "HOME": "x"}) is None
    changed = restarted_environment({"HOME": "x", "OMP_NUM_THREADS": "8"})
    assert changed == {**ENVIRONMENT, "HOME": "x"}


def test_the_chain_has_the_operations_it_is_asked_for():
    calls: list[str] = []

    class Counted:
        def __mul__(self, other):
            calls.append("operator")
            return self

        __add__ = __truediv__ = __mul__

    class Namespace:
        def __getattr__(self, name):
            return lambda x: calls.append(name) or x

    chain(Namespace(), 50)(Counted())
    assert len(calls) == 50


def test_results_folder_holds_only_readable_records():
    for path in (ROOT / "bench" / "results").glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["cases"]
