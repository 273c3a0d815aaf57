"""A card's run, on the emulator: every row, every question, the page and the last line."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

import autodiff as ad
from autodiff.runtime.devices import _usable_gpu
from bench.declare import OURS, Peer, Workload
from bench.gpu import __main__ as command
from bench.gpu import card as cards
from bench.gpu import contenders, page, rows, timing
from bench.gpu.answers import TRIALS, Answer, answers
from bench.gpu.card import Card, NoCardError, card_of, opened
from bench.gpu.contenders import COPY
from bench.gpu.timing import Outcome
from bench.measure import Measurement, arrays_of
from bench.programs import gpu as programs
from tests.composition import fake_cupy

MOVED, ROUNDS = command.EMULATOR[0], 1
NUMPY = Peer(name="numpy", version="1", numpy=np)


@pytest.fixture(scope="module")
def emulated_run():
    with opened("emulator") as card:
        peers, missing = contenders.load(card, ["cupy", "cupy.fuse"])
        assert not missing
        found = timing.run(card, peers, MOVED, ROUNDS)
        said = answers(card, found, MOVED)
    return card, found, said


def test_every_row_runs_with_every_contender(emulated_run):
    card, found, _ = emulated_run
    assert found.notes == []
    assert found.broken == []
    for row in rows.program_rows(MOVED):
        measured = found.measurements[row.name]
        expected = {OURS, "cupy", "cupy.fuse"} & set(row.contenders)
        assert set(measured) == (expected | {COPY} if row.is_memory_bound else expected)
    for name in (rows.FIRST, rows.KEPT, rows.FIRST_CALL):
        assert set(found.measurements[name]) == {OURS}
    goals = found.case(card).goals
    assert len(goals) == 3 + sum(row.at_the_limit for row in rows.program_rows(MOVED))
    for goal in goals:
        assert goal.value(found.results) > 0


def test_bytes_are_those_of_inputs_and_outputs(emulated_run):
    _, found, _ = emulated_run
    assert found.moved["negative"] == MOVED
    assert found.moved["sum"] == MOVED + 4
    assert found.moved["sum of squared differences"] == MOVED + 4
    elements = rows.program_rows(MOVED)[5].arguments()[0].size
    assert found.moved["AdamW over 5 tensors"] == 5 * elements * 28


def test_kernels_are_those_that_a_call_launches(emulated_run):
    _, found, _ = emulated_run
    assert found.kernels["negative"] == found.kernels["AdamW over 5 tensors"] == 1


def test_arrays_of_a_run_move_the_bytes_that_are_asked_for():
    tensors = rows.program_rows(1 << 24)[5]
    assert tensors.name == "AdamW over 100 tensors"
    arrays = tensors.arguments()
    assert len(arrays) == 400
    assert sum(x.nbytes for x in arrays) * 28 / 16 == pytest.approx(1 << 24, rel=0.01)


@pytest.mark.parametrize("count", rows.COUNTS)
def test_dependent_sums_are_as_many_kernels(count):
    with opened("emulator") as card:
        x = card.arrays.asarray(np.linspace(0.0, 1.0, 1024, dtype=np.float32).reshape(32, 32))
        program = programs.dependent_sums(count)
        found = ad.jit(program(NUMPY))(x)
        assert len(card.device.launched) == count
        np.testing.assert_allclose(found.get(), program(NUMPY)(x.get()), rtol=1e-5)


def test_every_question_is_answered(emulated_run):
    answered = {answer.question: answer.answer for answer in emulated_run[2]}
    assert len(answered) == 6 + len(TRIALS)
    missing = [question for question, answer in answered.items() if "not measured" in answer]
    assert missing == ["From how many kernels on does a CUDA graph pay?"]
    loaded = answered["Does the driver load the compiler's programs?"]
    assert loaded.startswith("yes, a library of the emulator")


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_constants_that_are_tried_make_other_kernels(trial):
    x, texts = np.ones(trial.shape(1 << 18), np.float32), set()
    for value in trial.values:
        with patch.object(trial.module, trial.name, value):
            texts.add(rows.text_of(trial.function(2.0), x, "sm_90"))
    assert len(texts) == len(trial.values)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_kernels_that_are_tried_compute_the_same(trial):
    with opened("emulator") as card:
        x = np.linspace(0.1, 4.0, 1 << 15, dtype=np.float32).reshape(trial.shape(1 << 15))
        for i, value in enumerate(trial.values):
            with patch.object(trial.module, trial.name, value):
                f = trial.function(2.5 + i)
                found = ad.jit(f)(card.arrays.asarray(x)).get()
            np.testing.assert_allclose(found, f(x), rtol=2e-5, atol=2e-5)


def test_a_question_that_fails_leaves_the_others(emulated_run):
    _, found, _ = emulated_run
    with opened("emulator") as card:
        broken = replace(card, device=SimpleNamespace(facts=card.device.facts, compile=None))
        loads, launches, reads = answers(broken, found, MOVED)[:3]
    assert loads.answer.startswith("not measured: TypeError")
    assert launches.answer.startswith("not measured: ")
    assert "GB/s by the sum" in reads.answer


def test_the_run_from_the_command_line_writes_three_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra bench or demo")
    few = [row for row in rows.program_rows(MOVED) if row.name in ("negative", "sum")]
    monkeypatch.setattr(rows, "program_rows", lambda moved: few)
    tested = []
    monkeypatch.setattr(command, "_tested", lambda device: tested.append(device) or 0)
    arguments = ["--device", "emulator", "--peers", "cupy", "--rounds", "1"]
    assert command.main([*arguments, "--results", str(tmp_path)]) == 0
    assert tested == ["emulator"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}
    (path,) = tmp_path.glob("emulator-*.json")
    (case,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert case["moved"]["negative"] == MOVED
    assert case["run"]["device"] == "emulator"
    assert case["run"]["command"] == "python -m bench.gpu --device emulator --rounds 1 --peers cupy"
    assert case["run"]["copy_rate"] > 0
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "| program | autodiff | kernels | moved | GB/s | of the copy | cupy |" in text
    assert "## What only a card can tell" in text
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == case["verdict"]
    assert last == "pass: everything ran (on the emulator, which says nothing of speed)"


def test_the_tests_of_gpus_run_first_and_their_status_counts():
    assert command._tested("emulator") == 0
    with opened("emulator") as card:
        case = Outcome().case(card)
    assert page.last_line(case, Outcome(), 1, is_emulated=True) == "FELL SHORT: tests failed"
    assert page.shortfalls(case, Outcome(), None) == ["the tests were not run"]


@pytest.mark.skipif(_usable_gpu()[0] is not None, reason="there is a card")
def test_tests_that_are_to_run_on_a_card_do_not_pass_without_one():
    assert command._tested("card") == 2


def test_without_a_card_the_last_line_says_so(monkeypatch, capsys):
    def none():
        raise NoCardError("CuPy finds no device")

    monkeypatch.setattr(cards, "_cupy", none)
    assert command.main([]) == 1  # and no test is tried
    assert capsys.readouterr().out == (
        "FELL SHORT: there is no card to measure: CuPy finds no device\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--peers", "nobody"], "--peers must be among cupy, cupy.fuse, jax, torch.compile, got"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0."),
        (["--megabytes", "0"], "--megabytes must be at least 1, got 0."),
    ],
)
def test_arguments_that_make_no_sense(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert sentence in capsys.readouterr().err


# ---- the verdict, on figures that are told


def told(**microseconds: float) -> Outcome:
    """Return an outcome of one row at the limit, one of launches and one of compiling."""

    def of(**peers: float):
        return {name.replace("_", "."): Measurement((value,)) for name, value in peers.items()}

    compared = {name: value for name, value in microseconds.items() if "_" not in name}
    found = Outcome(
        measurements={
            "sum": of(**compared),
            rows.launch_row(1): of(autodiff=microseconds["host_time"]),
        },
        moved={"sum": 1_000_000_000},
        kernels={"sum": 1},
    )
    peers = {peer: 1.0 for peer in rows.AHEAD_OF if peer in compared}
    found.workloads = [Workload(name="sum", entrants={}, faster_than=peers)]
    found.goals = [
        timing._rate_goal("sum"),
        timing._time_goal(rows.launch_row(1), 5.0, 1.0, " us"),
    ]
    return found


CARD = Card("Some GPU", fake_cupy.cupy, SimpleNamespace(facts={}), False, {})


def verdict(found: Outcome, tests: int | None = 0) -> str:
    return page.last_line(found.case(CARD), found, tests, is_emulated=False)


def test_a_card_that_reaches_every_goal_passes():
    found = told(autodiff=260.0, copy=250.0, jax=300.0, host_time=4.0)
    assert verdict(found) == "pass: every goal is reached (not compared with torch.compile)"
    found = told(autodiff=260.0, copy=250.0, jax=300.0, **{"torch.compile": 270.0}, host_time=4.0)
    assert verdict(found) == "pass: every goal is reached"
    assert page.copy_rate(found) == pytest.approx(4e12)


def test_what_falls_short_is_named():
    found = told(autodiff=300.0, copy=250.0, jax=270.0, host_time=6.0)
    assert verdict(found, tests=1) == (
        "FELL SHORT: tests failed; sum: jax takes 0.90x our time; "
        "sum: of the copy's rate: 83.3 % (at least 90 %); "
        "host's time of a program of 1 kernel: 6.0 us (at most 5 us)"
    )


def test_what_was_not_measured_is_no_pass():
    found = told(autodiff=260.0, jax=300.0, host_time=4.0)
    assert verdict(found) == ("FELL SHORT: sum: of the copy's rate: not measured (at least 90 %)")
    found = told(autodiff=260.0, copy=250.0, host_time=4.0)
    found.broken.append("softmax")
    assert verdict(found) == "FELL SHORT: softmax: did not run"


def test_the_table_has_rates_and_multiples():
    found = told(autodiff=250.0, copy=240.0, jax=500.0, host_time=6.0)
    content = page.table(found, "about", [OURS, COPY, "jax"])
    columns = ("program", "autodiff", "kernels", "moved", "GB/s", "of the copy", "jax")
    assert content.columns == columns
    assert content.rows == (("sum", "250 us", "1", "1,000.0 MB", "4,000.0", "96%", "2.00x"),)


def test_answers_and_notes_are_on_the_page():
    found = told(autodiff=250.0, copy=240.0, host_time=4.0)
    stamp = {
        "device": "Some GPU",
        "date": "2026-01-02",
        "command": "python -m bench.gpu",
        "rounds": 3,
        "facts": {"at the start": "Some GPU, 31 °C"},
        "copy_rate": 4.2e12,
        "cpu": "Processor 9",
        "cores": 2,
        "system": "Linux x86_64",
        "python": "3.11.7",
        "versions": {"numpy": "2.4.0"},
        "commit": "0123456789ab",
        "uncommitted": False,
    }
    content = page.table(found, "about", [OURS, COPY])
    text = page.markdown(stamp, content, [Answer("Why | how?", "so")], ["jax: none"], "pass")
    lines = text.splitlines()
    assert lines[0] == "# Some GPU, 2026-01-02"
    assert "- copy on the device: 4,200.0 GB/s" in lines
    assert "- at the start: Some GPU, 31 °C" in lines
    assert "| Why / how? | so |" in lines
    assert "- jax: none" in lines


# ---- contenders


def test_a_contender_that_fails_is_left_out_with_a_note():
    def fails(peer):
        raise ValueError("not\nat all")

    with opened("emulator") as card:
        peers = [Peer(name=name, version="1", numpy=None) for name in (OURS, "other")]
        found = Outcome()
        makes = {OURS: lambda peer: lambda: 1e-6, "other": fails}
        timing._measured(found, card, peers, "row", lambda peer: makes[peer.name](peer), 2)
        assert found.notes == ["row, other: ValueError: not"]
        assert found.broken == []
        assert set(found.measurements["row"]) == {OURS}
        timing._measured(found, card, peers[:1], "worse", fails, 2)
        assert found.broken == ["worse"]


def test_results_that_are_wrong_are_not_timed():
    row = rows.Row(
        name="wrong",
        program=lambda peer: lambda x: x * (1 if peer.name == "numpy" else 2),
        arguments=rows.uniform((64,)),
        toy=rows.uniform((5,)),
        contenders=("cupy",),
    )
    with opened("emulator") as card:
        peers, _ = contenders.load(card, ["cupy"])
        make = lambda peer: timing._program_call(Outcome(), card, row, peer)
        found = Outcome()
        timing._measured(found, card, peers, row.name, make, 1)
    assert len(found.notes) == 1
    assert found.notes[0].startswith(
        "wrong, cupy: DisagreementError: wrong by cupy: results differ"
    )


def test_a_library_with_streams_of_its_own_is_waited_for():
    waited = []
    peer = Peer(name="jax", version="1", numpy=None, ready=lambda value: waited.append(value))
    seconds = timing._timed(CARD, peer, lambda: "result")
    waited.clear()
    assert seconds() > 0
    assert waited == ["result"]


def test_libraries_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setitem(contenders._LOADERS, "jax", _missing)
    found, missing = contenders.load(CARD, ["cupy", "jax"])
    assert [peer.name for peer in found] == [OURS, COPY, "cupy"]
    assert missing == ["jax is left out: it finds no GPU."]


def _missing(card):
    raise ImportError("it finds no GPU")


# ---- the card


def test_a_card_is_what_cupy_says_of_it(monkeypatch):
    with opened("emulator"):
        card = card_of(fake_cupy.cupy)
    assert (card.name, card.slug, card.is_emulated) == ("stand-in", "stand-in", False)
    assert card.facts["driver runs CUDA"] == "13.0"
    assert card.facts["architecture"] == "sm_90"
    assert "at the start" in card.facts


def test_events_give_seconds_of_a_call(monkeypatch):
    moments = iter((1.0, 7.0))
    monkeypatch.setattr(fake_cupy, "perf_counter", lambda: next(moments))
    calls = []
    assert CARD.seconds(lambda: calls.append(1), loops=3) == pytest.approx(2.0)
    assert len(calls) == 3


# ---- the programs


def test_adamw_shrinks_what_has_no_gradient_and_follows_the_sign_of_one_that_stays():
    x, g = np.array([2.0, -3.0]), np.array([0.0, 4.0])
    correction = [1 - b**programs.STEPS for b in (programs.DECAY_1, programs.DECAY_2)]
    # The moments of a gradient that has been the same in all steps.
    b1, b2 = programs.DECAY_1, programs.DECAY_2
    m, v = g * (1 - b1 ** (programs.STEPS - 1)), g * g * (1 - b2 ** (programs.STEPS - 1))
    new, mean, square = programs.adamw(NUMPY)(x, g, m, v)
    np.testing.assert_allclose(mean, g * correction[0], rtol=1e-12)
    np.testing.assert_allclose(square, g * g * correction[1], rtol=1e-12)
    wanted = x - programs.STEP_SIZE * (np.sign(g) + programs.WEIGHT_DECAY * x)
    np.testing.assert_allclose(new, wanted, rtol=1e-9)


def test_a_layer_norm_has_rows_of_mean_and_deviation_as_they_are_given():
    x = np.random.default_rng(0).normal(size=(6, 50)) * 3 + 1
    found = programs.layer_norm(NUMPY)(x, np.full(50, 2.0), np.full(50, 0.5))
    np.testing.assert_allclose(found.mean(1), 0.5, atol=1e-12)
    np.testing.assert_allclose(found.std(1), 2.0, rtol=1e-4)


@pytest.mark.parametrize("row", rows.program_rows(MOVED), ids=lambda row: row.name)
def test_programs_give_finite_numbers_at_a_toy_size(row):
    for array in arrays_of(row.program(NUMPY)(*row.toy())):
        assert np.isfinite(array).all()
