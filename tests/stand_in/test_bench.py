"""Measurements for GPUs run on real CuPy, whatever they find."""

from __future__ import annotations

import pytest

from bench.gpu import __main__ as acceptance
from bench.gpu import host_time


def test_every_call_is_measured(capsys):
    assert host_time.main(["--rounds", "1", "--loops", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count(" us  ") == 11
    assert "CuPy: an empty array" in out


@pytest.mark.usefixtures("cupy")
def test_the_acceptance_run_of_a_card_comes_to_its_end(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(acceptance, "CARD", acceptance.EMULATOR)  # toy sizes
    acceptance.main(["--no-tests", "--peers", "cupy", "--results", str(tmp_path)])
    first, *short = capsys.readouterr().out.splitlines()[-1].split("; ")
    assert first == "FELL SHORT: the tests were not run"
    # Nothing has failed to run, or differs: it is slow.
    assert all(x.endswith(")") and ("(at most" in x or "(at least" in x) for x in short), short
    (written,) = tmp_path.glob("stand-in-0-*.json")
    assert "chain of 21 operations" in written.read_text(encoding="utf-8")
