"""The benchmark runner finds its cases, measures, reports and records. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from bench import peers as adapters
from bench import run
from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.machine import ENVIRONMENT, ROOT, restarted_environment
from bench.markdown import page
from bench.measure import (
    CLOCKS,
    DisagreementError,
    Measurement,
    NotMeasuredError,
    Results,
    check_agreement,
    measure,
)
from bench.programs.small import chain
from bench.report import goal_lines, plain_lines, record, table, write_results


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
            faster_than={"slow": 3.5},
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
        assert all(set(w.faster_than) <= set(w.entrants) - {OURS} for w in case.workloads)


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


def test_times_are_read_from_the_clock_that_is_named(monkeypatch):
    now = [0.0]
    monkeypatch.setitem(CLOCKS, "fake", lambda: now[0])

    def call():
        now[0] += 0.5

    workload = Workload(name="takes half a second", entrants={OURS: lambda peer: call})
    found = measure([workload], [_peer(OURS)], rounds=2, clock="fake")
    assert found.measurements[workload.name][OURS].rounds == (5e5, 5e5)


def test_the_first_call_is_not_timed_even_where_calls_report_their_time():
    seconds = iter((9.0, 1.0, 2.0))
    workload = Workload(
        name="told", entrants={OURS: lambda peer: lambda: next(seconds)}, reports_time=True
    )
    found = measure([workload], [_peer(OURS)], rounds=2)
    assert found.measurements["told"][OURS].rounds == (1e6, 2e6)


def test_what_was_not_measured_is_an_error_that_names_it(results):
    with pytest.raises(NotMeasuredError, match="told by gone"):
        results.median("told", "gone")


def test_spread_is_half_the_quartiles_distance_over_the_median():
    assert Measurement((1.0, 2.0, 3.0, 4.0, 5.0)).spread == pytest.approx(1 / 3)
    assert Measurement((2.0,)).spread == 0.0


def test_goals_are_reached_or_missed_or_not_measured(results):
    assert goal_lines(TRIVIAL, results) == [
        "reached  told: 1.00 us (at most 1.5 us)",
        "MISSED   faster: 3.00 (at least 4)",
        "not measured  absent (at least 1)",
    ]
    assert len(goal_lines(TRIVIAL, results, measured_only=True)) == 2


def test_tables_as_text(results):
    content = table(TRIVIAL, results, [OURS, "slow", "base", "gone"])
    assert content.columns == (
        "workload",
        "us per",
        OURS,
        "slow (over ours)",
        "base (over ours)",
    )
    assert content.rows[0] == ("told", "operation", "1 ±0%", "3 ±0% (3.00x, goal 3.5x: MISSED)", "")
    assert content.rows[1] == ("beyond", "call", "2,000 ±0%", "", "(1,000 taken off)")
    text = list(plain_lines(content))
    assert text[0] == "Nothing much."
    assert text[2].split()[:6] == ["told", "operation", "1", "±0%", "3", "±0%"]


def test_the_record_has_every_round(results):
    found = record(TRIVIAL, results)
    told = found["workloads"][0]
    assert told["microseconds"]["slow"]["rounds"] == pytest.approx((3.0, 3.0, 3.0))
    assert told["ratios"] == {"slow": pytest.approx(3.0)}
    assert told["faster_than"] == {"slow": 3.5}
    assert [goal["met"] for goal in found["goals"]] == [True, False, None]


RUN = {
    "cpu": "Processor 9",
    "cores": 2,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "versions": {"numpy": "2.4.0", "slow": "1"},
    "commit": "0123456789ab",
    "load": 0.25,
    "uncommitted": False,
    "date": "2026-01-02",
    "command": "python -m bench.run trivial",
    "rounds": 3,
}


ON_CORE = {**RUN, "clock": "cpu"}


def test_the_page_says_what_was_run_and_which_goals_are_reached(results):
    lines = page({"cases": [{**record(TRIVIAL, results), "run": RUN}]}).splitlines()
    assert "- `python -m bench.run trivial`" in lines
    assert "- Processor 9, 2 cores; Linux x86_64" in lines
    assert "- Python 3.11.7; numpy 2.4.0, slow 1" in lines
    assert "- commit 0123456789ab" in lines
    assert "1 of 3 goals are reached." in lines
    assert "| told: slow | 3.00x | at least 3.5x |" in lines
    assert "| faster | 3.00 | at least 4 |" in lines
    assert "| program | autodiff | slow | base |" in lines
    assert "| told | 1 us per operation | 3.00x (goal 3.5x: **missed**) |  |" in lines
    assert "| beyond | 2 ms |  | 1 ms |" in lines
    assert "- told: 1.00 us (goal at most 1.5 us: reached)" in lines
    assert "- faster: 3.00 (goal at least 4: **missed**)" in lines
    assert "- load of the machine at the start: 0.2 (idle is 0)" in lines
    assert not any("had a core" in line for line in lines)
    assert "had a core" in page({"cases": [{**record(TRIVIAL, results), "run": ON_CORE}]})


def test_cases_of_one_run_stand_together_and_those_of_another_apart(results):
    cases = [{**record(TRIVIAL, results), "name": name} for name in "abc"]
    runs = [RUN, {**RUN, "date": "2026-01-03"}, RUN]
    text = page({"cases": [{**case, "run": run} for case, run in zip(cases, runs, strict=True)]})
    headings = [line for line in text.splitlines() if line.startswith("##")]
    assert headings == ["## Run of 2026-01-02", "### a", "### c", "## Run of 2026-01-03", "### b"]


def _one(name: str) -> Workload:
    return Workload(name=name, entrants={OURS: _entrant(1e-3)}, reports_time=True)


def test_parts_run_as_cases_of_their_own_and_each_once(monkeypatch):
    inner = Case(name="inner", about="", workloads=(_one("red"), _one("blue")))
    outer = Case(name="outer", about="", parts=(inner, TRIVIAL))
    cases = {"inner": inner, "outer": outer, "trivial": TRIVIAL}
    monkeypatch.setattr(run, "case_names", lambda: tuple(cases))
    monkeypatch.setattr(run, "load_case", cases.__getitem__)
    assert [case.name for case in run.selected([])] == ["inner", "trivial"]
    assert [case.name for case in run.selected(["outer"])] == ["inner", "trivial"]
    (kept,) = run.selected(["outer"], only="ed")[:1]
    assert [workload.name for workload in kept.workloads] == ["red"]
    assert [case.name for case in run.selected(["outer"], only="blue")] == ["inner"]


def test_results_that_differ_are_an_error_before_anything_is_timed():
    def giving(value):
        return lambda peer: lambda: (np.ones(3), [np.asarray(value)])

    def measured(value):
        entrants = {OURS: giving(np.arange(4.0)), "slow": giving(value)}
        workload = Workload(name="given", entrants=entrants, tolerance=1e-3)
        return measure([workload], [_peer(OURS), _peer("slow")], rounds=1)

    assert measured([0.0, 1.0, 2.0, 3.002]).measurements["given"].keys() == {OURS, "slow"}
    for value in ([0.0, 1.0, 2.0, 3.004], [0.0, 1.0, np.nan, 3.0], [0.0, 1.0], np.arange(4)):
        with pytest.raises(DisagreementError, match="given by slow"):
            measured(value)


def test_agreement_is_relative_to_the_largest_element():
    check_agreement([np.array([1e3, 0.5])], [np.array([1e3, 0.0])], 1e-3, "what")
    with pytest.raises(DisagreementError, match=r"what: results differ by 0\.5, the largest"):
        check_agreement([np.array([0.5])], [np.array([0.0])], 1e-3, "what")
    check_agreement([np.zeros((0, 3))], [np.zeros((0, 3))], 0.0, "what")


def test_results_of_other_cases_in_the_file_are_kept(tmp_path):
    path = tmp_path / "results" / "machine.json"
    bare = {"about": "", "workloads": [], "goals": []}
    first, second = RUN, {**RUN, "rounds": 2}
    write_results(path, {**first, "cases": [{"name": "a", **bare}, {"name": "b", **bare}]})
    write_results(path, {**second, "cases": [{"name": "b", **bare}]})
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == {
        "cases": [{"name": "a", **bare, "run": first}, {"name": "b", **bare, "run": second}]
    }
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page(found)


def test_a_run_from_the_command_line_writes_json_and_markdown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "case_names", lambda: ("trivial",))
    monkeypatch.setattr(run, "load_case", lambda name: TRIVIAL)
    path = tmp_path / "found.json"
    arguments = ["trivial", "--rounds", "2", "--peers", "numpy", "--json", str(path)]
    assert run.main(arguments) == 0
    (found,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert set(found) == {"name", "about", "workloads", "goals", "run"}
    assert set(found["run"]) == {
        "cpu",
        "cores",
        "system",
        "python",
        "versions",
        "commit",
        "load",
        "uncommitted",
        "date",
        "command",
        "rounds",
        "clock",
    }
    assert found["run"]["command"] == "python -m bench.run trivial --rounds 2 --peers numpy"
    assert "numpy" in found["run"]["versions"]
    assert "### trivial" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert "reached  told" in capsys.readouterr().out


def test_a_part_of_the_rows_is_written_only_where_the_command_line_says(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "case_names", lambda: ("trivial",))
    monkeypatch.setattr(run, "load_case", lambda name: TRIVIAL)
    arguments = ["trivial", "--only", "told", "--rounds", "1", "--peers", "numpy"]
    assert run.main(arguments) == 0
    assert not any(tmp_path.iterdir())
    output = capsys.readouterr().out
    assert "told" in output
    assert "beyond" not in output
    assert "not measured" not in output
    path = tmp_path / "some.json"
    assert run.main([*arguments, "--json", str(path)]) == 0
    (found,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert [workload["name"] for workload in found["workloads"]] == ["told"]
    assert found["run"]["command"].endswith("--peers numpy --only told")


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
