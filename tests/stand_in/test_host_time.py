"""The measurement of the host's time runs, whatever it finds."""

from __future__ import annotations

from bench.gpu import host_time


def test_every_call_is_measured(capsys):
    assert host_time.main(["--rounds", "1", "--loops", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count(" us  ") == 9
    assert "CuPy: an empty array" in out
