"""The most memory at any moment inside the meter, not what is left at its end."""

import subprocess
import sys

import pytest

from pytest_llmopt.engines._transformers import peak
from pytest_llmopt.engines._transformers.peak import PeakMemory

MIB = 2**20
ALLOCATE = """
from pytest_llmopt.engines._transformers.peak import PeakMemory

MIB = 2**20
held = bytearray(100 * MIB)
with PeakMemory("cpu") as meter:
    freed = bytearray(60 * MIB)
    del freed
with PeakMemory("cpu") as again:
    pass
print(meter.bytes, again.bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_what_was_freed_inside_counts_and_what_was_held_before_does_not():
    # In a process of its own: the other threads of this one, and its garbage collector, free memory when they like.
    printed = subprocess.run([sys.executable, "-c", ALLOCATE], check=True, capture_output=True, text=True).stdout
    inside, afterwards = map(int, printed.split())
    assert 55 * MIB <= inside <= 70 * MIB
    assert afterwards < 10 * MIB, "the peak of before is forgotten"


def test_where_the_system_does_not_tell_nothing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "PROCESS", tmp_path / "nowhere")
    with PeakMemory("cpu") as meter:
        pass
    assert meter.bytes is None
