"""The collector is on again after every block, whatever happens in it."""

import gc
from threading import Barrier, Thread

import pytest

from autodiff.base.garbage import collection_paused


def test_blocks_nest_and_errors_leave_the_collector_on():
    assert gc.isenabled()
    with collection_paused():
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), collection_paused():
        raise KeyError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_blocks_on_several_threads_end_in_any_order():
    entered, leave = Barrier(3), Barrier(3)

    def hold():
        with collection_paused():
            entered.wait()
            leave.wait()

    threads = [Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    assert not gc.isenabled()
    leave.wait()
    for thread in threads:
        thread.join()
    assert gc.isenabled()
