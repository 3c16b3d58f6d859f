"""Whatever a worker does is an error that says so, within its deadline, and nothing that it started is left."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import odd_engine
import psutil
import pytest

from pytest_llmopt.core import errors
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.requests import RunProjection, SaveCheckpoint
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.written import home_of
from pytest_llmopt.runtime.worker.connection import WorkerPlace
from pytest_llmopt.runtime.worker.engine import ProcessEngine

LIMIT_S = 3.0
TYPES = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.LlmoptError)]
PARENT = """
import sys, time
import odd_engine
from pytest_llmopt.core.requests import SaveCheckpoint
from test_process_engine import opened
engine = opened(60)
print(engine.connection.worker.pid, flush=True)
engine.ask(SaveCheckpoint(sys.argv[1]))
time.sleep(60)
"""


def opened(limit_s=LIMIT_S, python=sys.executable):
    return ProcessEngine.open(
        Variant("m", engine="odd"), LoadPolicy(), WorkerPlace(python, limit_s), home_of(odd_engine.Odd)
    )


@pytest.fixture
def engine():
    found = opened()
    yield found
    found.close()


def family(pid):
    """A process with all that it has started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def living(processes, patience=5.0):
    """What is left of them; a zombie is nothing but a number."""
    until = time.monotonic() + patience
    while True:
        left = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                left += [process] * (process.status() != psutil.STATUS_ZOMBIE)
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.05)


@pytest.mark.parametrize("frame", odd_engine.FRAMES)
def test_a_message_of_a_wrong_shape_is_no_answer(engine, frame):
    with pytest.raises(errors.WorkerError, match=r"sent what is no answer \(.* is no reply\) while answering Save"):
        engine.ask(SaveCheckpoint(frame))
    assert not engine.alive


def test_a_signal_without_a_name_is_told_by_its_number_and_the_engine_is_gone(engine):
    with pytest.raises(errors.WorkerError, match="was ended by signal 37 while"):
        engine.ask(SaveCheckpoint("signal 37"))
    assert not engine.alive
    with pytest.raises(errors.WorkerError, match="is gone since it was ended by signal 37; the next test gets another"):
        engine.ask(SaveCheckpoint(""))


@pytest.mark.parametrize("what", ["stop", "hold the interpreter"])
def test_what_does_not_end_is_ended_by_its_deadline(engine, what):
    processes = family(engine.connection.worker.pid)
    started = time.monotonic()
    with pytest.raises(errors.WorkerError, match="did not answer within 3 s while answering SaveCheckpoint"):
        engine.ask(SaveCheckpoint(what))
    assert time.monotonic() - started < LIMIT_S + 3
    assert not living(processes)


def test_a_large_request_to_a_stopped_worker_has_the_deadline_too(engine):
    engine.ask(SaveCheckpoint("stop soon"))
    time.sleep(0.5)
    with pytest.raises(errors.WorkerError, match="did not answer within 3 s while answering RunProjection"):
        engine.ask(RunProjection("p", np.zeros((1, 1000, 1000))))


def test_a_child_that_holds_the_output_open_delays_nothing(engine):
    started = time.monotonic()
    with pytest.raises(errors.WorkerError, match="ended with exit code 6"):
        engine.ask(SaveCheckpoint("leave a child"))
    assert time.monotonic() - started < LIMIT_S


@pytest.mark.parametrize("name", TYPES)
def test_an_error_of_ours_comes_back_as_its_own_type_with_its_words(engine, name):
    with pytest.raises(getattr(errors, name)) as caught:
        engine.ask(SaveCheckpoint(name))
    assert type(caught.value).__name__ == name
    assert str(caught.value) in {odd_engine.WORDS, "unknown thing 'a'. Known: b."}
    assert getattr(caught.value, "name", "draft") == "draft"
    assert engine.alive


def test_an_error_that_only_one_file_knows_comes_back_as_what_it_is_a_kind_of(engine):
    with pytest.raises(errors.ModelError, match=r"^words of its own$"):
        engine.ask(SaveCheckpoint("NotHereError"))


def test_an_answer_that_is_no_plain_data_is_said_and_the_worker_lives_on(engine):
    with pytest.raises(errors.WorkerError, match=r"the answer cannot be sent: builtins\.object is no plain data"):
        engine.ask(SaveCheckpoint("not plain"))
    assert engine.ask(SaveCheckpoint("")) is None


def test_what_it_runs_is_the_variant_that_was_asked_for(engine):
    assert engine.info.variant is engine.variant


def test_one_that_died_while_nobody_asked_is_not_handed_to_the_next_test(engine):
    os.kill(engine.connection.worker.pid, signal.SIGKILL)
    until = time.monotonic() + LIMIT_S
    while engine.alive and time.monotonic() < until:
        time.sleep(0.02)
    assert not engine.alive
    with pytest.raises(errors.WorkerError, match="was ended by SIGKILL"):
        engine.ask(SaveCheckpoint(""))


def test_a_copy_shares_the_worker_which_ends_with_the_last_of_both(engine):
    copy = ProcessEngine.open(engine.variant, LoadPolicy(), WorkerPlace(), home_of(odd_engine.Odd), beside=engine)
    processes = family(engine.connection.worker.pid)
    assert copy.ask(SaveCheckpoint("where")) == engine.ask(SaveCheckpoint("where"))
    copy.close()
    assert living(processes, patience=0.2)
    assert engine.ask(SaveCheckpoint("")) is None
    engine.close()
    assert not living(processes)


def test_the_end_of_a_worker_is_the_end_of_all_its_engines(engine):
    copy = ProcessEngine.open(engine.variant, LoadPolicy(), WorkerPlace(), home_of(odd_engine.Odd), beside=engine)
    with pytest.raises(errors.WorkerError, match="was ended by signal 37"):
        copy.ask(SaveCheckpoint("signal 37"))
    assert not engine.alive
    with pytest.raises(errors.WorkerError, match="is gone since it was ended by signal 37"):
        engine.ask(SaveCheckpoint(""))
    copy.close()


def test_a_copy_that_cannot_be_loaded_leaves_the_worker_to_the_other(engine):
    nowhere = {**home_of(odd_engine.Odd), "module": "nowhere", "file": "/nowhere.py"}
    with pytest.raises(errors.LlmoptError, match="nowhere"):
        ProcessEngine.open(engine.variant, LoadPolicy(), WorkerPlace(), nowhere, beside=engine)
    assert engine.ask(SaveCheckpoint("")) is None


def test_nothing_is_left_of_a_closed_engine():
    others = {process.pid for process in psutil.Process().children()}
    engine = opened()
    guardian = [process for process in psutil.Process().children() if process.pid not in others]
    processes = family(engine.connection.worker.pid) + guardian
    engine.close()
    assert not living(processes)
    assert not [item for item in processes if item.is_running() and item.ppid() == os.getpid()], "a zombie is left"


@pytest.mark.parametrize("doing", ["", "hold the interpreter", "stop"])
def test_nothing_that_a_worker_started_outlives_a_killed_parent(doing):
    """Also where the worker is busy in C code, or stopped, and has a child of its own."""
    command = [sys.executable, "-c", PARENT, doing]
    folders = os.pathsep.join(sys.path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": folders}) as parent:
        processes = family(int(parent.stdout.readline()))
        time.sleep(0.3)
        assert len(processes) == 2
        parent.send_signal(signal.SIGKILL)
    assert not living(processes)


def test_the_thread_that_opened_it_may_end():
    found = []
    thread = threading.Thread(target=lambda: found.append(opened()))
    thread.start()
    thread.join()
    time.sleep(0.2)
    with contextlib.closing(found[0]) as engine:
        assert engine.ask(SaveCheckpoint("")) is None


def test_a_process_with_many_open_files_can_have_workers():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"this machine allows {hard} open files for a process; the test needs 2048")
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(open(os.devnull))  # noqa: PTH123
        with contextlib.closing(opened()) as engine:
            assert engine.ask(SaveCheckpoint("")) is None


def test_the_folder_that_pytest_runs_in_is_nothing_to_import_from(tmp_path, monkeypatch):
    """It may be the checkout of the very library that is under test."""
    tmp_path.joinpath("numpy.py").write_text("raise ImportError('a checkout')")
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(opened()) as engine:
        assert engine.ask(SaveCheckpoint("where")) == str(tmp_path)
