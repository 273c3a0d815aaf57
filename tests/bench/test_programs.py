"""The programs that are timed compute what they say, and every row can be run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import autodiff as ad
from bench import peers as adapters
from bench import run
from bench.cases import cold_start, elementwise
from bench.comparison import TOY_PEERS
from bench.declare import OURS, Peer, Workload
from bench.machine import ROOT
from bench.measure import arrays_of, check_agreement
from bench.programs import elementwise as formulas
from bench.programs import learning, rows, seawater

PEERS = {peer.name: peer for peer in adapters.load(TOY_PEERS)[0]}
NUMPY = PEERS["numpy"]
WORKLOADS = tuple(workload for case in run.selected(["cpu"]) for workload in case.workloads)
COMPARED = tuple(workload for workload in WORKLOADS if not workload.reports_time)


@pytest.mark.parametrize("workload", COMPARED, ids=lambda workload: workload.name)
def test_every_row_gives_the_results_of_numpy_at_a_toy_size(workload: Workload):
    ours, theirs = (arrays_of(workload.toy[name](PEERS[name])()) for name in TOY_PEERS)
    assert workload.tolerance is not None
    assert all(np.isfinite(array).all() for array in theirs)
    check_agreement(ours, theirs, workload.tolerance, workload.name)


def test_the_goals_name_rows_and_peers_that_there_are():
    for case in run.selected(["cpu"]):
        for workload in case.workloads:
            assert set(workload.faster_than) <= set(workload.entrants) - {OURS}
    assert sum(len(workload.faster_than) for workload in WORKLOADS) > 50


def test_what_reports_its_time_runs():
    first_call = {w.name: w for w in elementwise.CASE.workloads}[elementwise.FIRST_CALL]
    assert first_call.entrants[OURS](PEERS[OURS])() > 0
    for workload in cold_start.CASE.workloads:
        assert workload.entrants[OURS](PEERS[OURS])() > 0


def test_a_worker_answers_each_line_with_a_time():
    name = elementwise.CASE.workloads[0].name
    command = [sys.executable, "-m", "bench.worker", "elementwise", name, OURS]
    done = subprocess.run(
        command, cwd=ROOT, input="\n\n", capture_output=True, text=True, check=True
    )
    ready, *times = done.stdout.split()
    assert ready == "ready"
    assert len(times) == 2
    assert all(float(time) > 0 for time in times)


# ---- the formulas against something independent


def test_the_chain_has_the_operations_that_rows_say():
    graph = ad.make_graph(formulas.chain(PEERS[OURS]))(np.ones(3))
    assert len(graph.eqns) == 21
    rows_of_chains = [w.name for w in WORKLOADS if w.name.startswith("chain")]
    assert rows_of_chains
    assert all(name.startswith("chain of 21 operations") for name in rows_of_chains)


def test_a_call_less_a_put_is_the_spot_less_the_discounted_strike():
    random = np.random.default_rng(0)
    spot, strike, years = random.uniform(0.5, 2.0, (3, 50))
    call, put = formulas.black_scholes(NUMPY)(spot, strike, years)
    np.testing.assert_allclose(
        call - put, spot - strike * np.exp(-formulas.RATE * years), atol=1e-13
    )


def test_the_price_of_an_option_is_its_expected_discounted_gain():
    spot, strike, years = 1.1, 1.0, 0.7
    x, weights = np.polynomial.hermite_e.hermegauss(150)
    deviation = formulas.VOLATILITY * np.sqrt(years)
    later = spot * np.exp(formulas.RATE * years - deviation**2 / 2 + deviation * x)
    gain = np.sum(weights * np.maximum(later - strike, 0)) / np.sqrt(2 * np.pi)
    call, _ = formulas.black_scholes(NUMPY)(spot, strike, years)
    # The gain has a corner, which the quadrature feels.
    np.testing.assert_allclose(call, gain * np.exp(-formulas.RATE * years), rtol=1e-2)


def _sea() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    return (
        random.uniform(1.0, 40.0, 20),
        random.uniform(-2.0, 30.0, 20),
        random.uniform(10.0, 5000.0, 20),
    )


def _specific_volume(salinity: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    root = np.sqrt(salinity)

    def value(series: seawater.Series) -> np.ndarray:
        terms = [root**i * np.polynomial.polynomial.polyval(t, c) for i, c in series.items()]
        return np.sum(np.broadcast_arrays(*terms), axis=0)

    def polynomial(*coefficients: seawater.Series) -> np.ndarray:
        return np.sum([value(series) * p**i for i, series in enumerate(coefficients)], axis=0)

    above = polynomial(seawater.A0, seawater.A1, seawater.A2, seawater.A3)
    return above / polynomial(seawater.B0, seawater.TWICE_B1, seawater.B2)


def test_sea_water_has_the_published_density():
    # The example in the manual of `gsw_rho`, of 48 terms, in the R package gsw 1.0-3.
    volume = _specific_volume(np.array(34.7118), np.array(28.8099), np.array(10.0))
    np.testing.assert_allclose(1 / volume, 1021.8404465661, rtol=1e-13)


def test_enthalpy_is_the_integral_of_the_specific_volume():
    salinity, t, p = _sea()
    nodes, weights = np.polynomial.legendre.leggauss(12)
    pressures = p[:, None] * (nodes + 1) / 2
    volumes = _specific_volume(salinity[:, None], t[:, None], pressures)
    integral = (volumes @ weights) * p / 2
    np.testing.assert_allclose(
        seawater.enthalpy(NUMPY)(salinity, t, p),
        seawater.PASCAL * (integral - p / seawater.REFERENCE_DENSITY),
        rtol=1e-9,
        atol=1e-5,
    )


def test_the_slope_of_enthalpy_is_its_gradient():
    sea = _sea()
    gradient = ad.grad(lambda *sea: np.sum(seawater.enthalpy(PEERS[OURS])(*sea)), 1)(*sea)
    np.testing.assert_allclose(seawater.enthalpy_slope(NUMPY)(*sea), gradient, rtol=1e-7)


def test_a_training_step_by_hand_is_that_of_the_gradient_in_double_precision():
    arguments = learning.network_arguments((6, 5, 5, 4), 7, "float64")
    ours = learning.training_step(PEERS[OURS])(*arguments)
    by_hand = learning.training_step_by_hand(NUMPY)(*arguments)
    check_agreement(arrays_of(ours), arrays_of(by_hand), 1e-12, "step")
    loss = learning.network_loss(NUMPY)
    data, n = arguments[1:3], (len(arguments) - 3) // 3
    assert loss(*data, *by_hand[:n]) < loss(*data, *arguments[3 : 3 + n])


def test_torch_is_given_programs_that_are_rows_programs_by_its_own_names():
    class Names:
        logsumexp = staticmethod(lambda x, axis: ("logsumexp", x, axis))
        softmax = staticmethod(lambda x, axis: ("softmax", x, axis))

    peer = Peer(name="names", version="1", numpy=Names)
    assert rows.torch_logsumexp(peer)(1.0) == ("logsumexp", 1.0, -1)
    assert rows.torch_softmax(peer)(1.0) == ("softmax", 1.0, -1)
