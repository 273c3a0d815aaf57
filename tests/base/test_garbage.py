"""The collector's thresholds are the caller's again after every block, whatever happens in it."""

import gc
from threading import Barrier, Thread

import pytest

import autodiff as ad
from autodiff.base.garbage import SELDOM, seldom_collected


def test_blocks_nest_and_errors_restore_the_thresholds():
    before = gc.get_threshold()
    with seldom_collected():
        with seldom_collected():
            assert gc.get_threshold()[0] == SELDOM
        assert gc.get_threshold()[0] == SELDOM
    assert gc.get_threshold() == before
    with pytest.raises(KeyError), seldom_collected():
        raise KeyError
    assert gc.get_threshold() == before


def test_a_collector_that_never_starts_is_left_so():
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_collected():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)


def test_blocks_on_several_threads_end_in_any_order():
    before = gc.get_threshold()
    entered, leave = Barrier(3), Barrier(3)

    def hold():
        with seldom_collected():
            entered.wait()
            leave.wait()

    threads = [Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    assert gc.get_threshold()[0] == SELDOM
    leave.wait()
    for thread in threads:
        thread.join()
    assert gc.get_threshold() == before


def test_a_traced_function_that_fails_leaves_the_thresholds():
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError):
        ad.grad(lambda x: x * (1 // 0))(1.0)
    assert gc.get_threshold() == before
