from __future__ import annotations

import ctypes
import sys

import numpy as np
import psutil
import pytest

from dlm_fiji.allocation import kept_memory

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has these thresholds"
)
BLOCK = 200 * 2**20


def resident() -> int:
    return psutil.Process().memory_info().rss


def filled_and_freed() -> None:
    np.ones(BLOCK, np.uint8)


@glibc
def test_freed_memory_is_kept_inside_and_given_back_after() -> None:
    filled_and_freed()
    before = resident()
    with kept_memory():
        filled_and_freed()
        with kept_memory():
            filled_and_freed()
        assert resident() - before > 0.9 * BLOCK  # the inner one's end gives nothing back
    assert resident() - before < 0.1 * BLOCK
    filled_and_freed()
    assert resident() - before < 0.1 * BLOCK


@glibc
def test_the_next_array_of_the_same_size_meets_no_page_fault() -> None:
    import resource

    def faults() -> int:
        start = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        filled_and_freed()
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - start

    with kept_memory():
        filled_and_freed()
        kept = faults()
    assert kept < 10 < faults()  # with huge pages a hundred, else fifty thousand


def test_an_error_inside_ends_it_and_is_passed_on() -> None:
    @kept_memory()
    def failing() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        failing()
    assert kept_memory._users == 0


def test_thresholds_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    monkeypatch.setattr(ctypes, "CDLL", None)  # would fail where it is asked for
    with kept_memory():
        pass
