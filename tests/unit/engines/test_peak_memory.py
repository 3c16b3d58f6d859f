"""The most memory at any moment inside the meter, not what is left at its end."""

import sys

import pytest

from pytest_llmopt.engines._transformers import peak
from pytest_llmopt.engines._transformers.peak import PeakMemory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_what_was_freed_inside_counts_and_what_was_held_before_does_not():
    held = bytearray(100 * MIB)
    with PeakMemory("cpu") as meter:
        freed = bytearray(60 * MIB)
        del freed
    assert 55 * MIB <= meter.bytes <= 70 * MIB
    with PeakMemory("cpu") as again:
        pass
    assert again.bytes < 10 * MIB, "the peak of before is forgotten"
    assert len(held) == 100 * MIB


def test_where_the_system_does_not_tell_nothing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "PROCESS", tmp_path / "nowhere")
    with PeakMemory("cpu") as meter:
        pass
    assert meter.bytes is None
