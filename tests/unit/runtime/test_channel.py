"""A channel gives what was sent, or says within its time that it cannot."""

import socket
import time

import numpy as np
import pytest

from pytest_llmopt.core.wire import WireError
from pytest_llmopt.runtime.worker.channel import Channel, ChannelClosedError


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield Channel(one), Channel(other)


def test_what_is_sent_arrives_in_order(ends):
    one, other = ends
    one.send(("first", np.arange(3)))
    one.send("second")
    kind, array = other.receive()
    assert (kind, array.tolist(), other.receive()) == ("first", [0, 1, 2], "second")


@pytest.mark.parametrize("late_s", [0.0, 0.2, -5.0])
def test_a_deadline_ends_a_wait_for_what_never_comes(ends, late_s):
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        ends[0].receive(started + late_s)
    assert time.monotonic() - started < late_s % 5 + 1


def test_a_deadline_ends_a_message_that_nobody_takes(ends):
    with pytest.raises(TimeoutError):
        ends[0].send(np.zeros(10**6), time.monotonic() + 0.2)


def test_half_a_message_is_waited_for_and_no_longer(ends):
    one, other = ends
    one.socket.sendall(b"\0" * 5)
    with pytest.raises(TimeoutError):
        other.receive(time.monotonic() + 0.2)


def test_a_deadline_holds_for_its_message_alone(ends):
    one, other = ends
    with pytest.raises(TimeoutError):
        other.receive(time.monotonic())
    one.send("later")
    assert other.receive() == "later"


def test_the_end_of_the_other_side_is_told_when_reading_and_when_sending(ends):
    one, other = ends
    other.close()
    with pytest.raises(ChannelClosedError):
        one.receive(time.monotonic() + 5)
    with pytest.raises(ChannelClosedError):
        one.send("anything")
    one.close()
    with pytest.raises(ChannelClosedError):
        one.send("anything")


def test_what_is_no_message_is_said(ends):
    one, other = ends
    one.socket.sendall(b"Traceback (most recent call last):\n")
    with pytest.raises(WireError, match="no beginning of a message"):
        other.receive()


def test_what_cannot_cross_is_refused_and_nothing_is_sent(ends):
    one, other = ends
    with pytest.raises(WireError, match="cannot cross"):
        one.send(("whole", object()))
    one.send("next")
    assert other.receive() == "next"
