"""What is expensive to make is made once, by one process, and is whole or is not taken."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from pytest_llmopt.core.errors import ModelError, StaleCacheWarning
from pytest_llmopt.optimizations.quantization._prepared import MANIFEST, digest_of_files, prepared

MAKER = """
import sys, time
from pathlib import Path
from pytest_llmopt.optimizations.quantization._prepared import prepared

cache, seconds = Path(sys.argv[1]), float(sys.argv[2])

def make(folder):
    folder.joinpath("half").write_text("half")
    with cache.joinpath("made.log").open("a") as log:
        log.write("made\\n")
    time.sleep(seconds)
    folder.joinpath("weights").write_text("weights")

print(prepared(cache, "tiny", {"bits": 4}, make))
"""


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def start(cache, seconds):
    cache.mkdir(exist_ok=True)
    command = [sys.executable, "-c", MAKER, str(cache), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def write(folder):
    folder.joinpath("weights").write_text("weights")
    folder.joinpath("sub").mkdir()
    folder.joinpath("sub", "more").write_text("more")


def times_made(cache):
    return cache.joinpath("made.log").read_text().count("made")


def folders(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


def test_two_processes_at_once_make_it_once_and_get_the_same_folder(cache):
    both = [start(cache, 1.0) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said[0] == said[1] != ""
    assert times_made(cache) == 1
    assert len(folders(cache)) == 1


def test_a_killed_maker_leaves_nothing_that_is_taken_for_whole_and_the_next_tidies_up(cache):
    killed = start(cache, 60)
    deadline = time.monotonic() + 30
    while not cache.joinpath("made.log").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (left,) = folders(cache)
    assert left.name.startswith(".")
    folder = prepared(cache, "tiny", {"bits": 4}, write)
    assert folder.joinpath("weights").read_text() == "weights"
    assert not folder.joinpath("half").exists()
    assert folders(cache) == [folder]


def test_one_that_fails_leaves_nothing_and_can_be_tried_again(cache):
    def fail(folder):
        write(folder)
        msg = "no"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError):
        prepared(cache, "tiny", {}, fail)
    assert folders(cache) == []
    assert prepared(cache, "tiny", {}, write).is_dir()


def test_a_second_call_makes_nothing_and_warns_of_nothing(cache):
    folder = prepared(cache, "tiny", {}, write)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepared(cache, "tiny", {}, pytest.fail) == folder
    contents = json.loads(folder.joinpath(MANIFEST).read_text())["sha256"]
    assert contents["weights"] == hashlib.sha256(b"weights").hexdigest()
    assert set(contents) == {"weights", "sub/more"}


def truncated(folder):
    folder.joinpath("weights").write_text("we")


def edited(folder):
    """Of the same size."""
    folder.joinpath("sub", "more").write_text("mare")


def renamed(folder):
    folder.joinpath("weights").rename(folder / "wights")


def joined(folder):
    folder.joinpath("config.json").write_text("{}")


def foreign(folder):
    content = json.loads(folder.joinpath(MANIFEST).read_text())
    folder.joinpath(MANIFEST).write_text(json.dumps(content | {"made_from": {"bits": 3}}))


def old(folder):
    """As versions wrote it that knew sizes only."""
    folder.joinpath(MANIFEST).write_text(json.dumps({"made_from": {}, "bytes": {"weights": 7, "sub/more": 4}}))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (truncated, "weights has other content than was written (2 bytes now)"),
        (edited, "sub/more has other content than was written (4 bytes now)"),
        (renamed, "weights is absent"),
        (joined, "config.json is there, and was not written with it"),
        (foreign, f"its {MANIFEST} says that it was made from something else"),
        (old, f"its {MANIFEST} cannot be read (KeyError: 'sha256')"),
        (lambda folder: folder.joinpath(MANIFEST).unlink(), f"its {MANIFEST} cannot be read"),
        (lambda folder: folder.joinpath(MANIFEST).write_text("{"), f"its {MANIFEST} cannot be read"),
        (lambda folder: folder.joinpath(MANIFEST).write_text("[]"), f"its {MANIFEST} cannot be read"),
    ],
)
def test_what_is_not_as_it_was_written_is_made_again_with_a_warning_that_names_the_file(cache, change, name):
    folder = prepared(cache, "tiny", {}, write)
    change(folder)
    with pytest.warns(StaleCacheWarning) as warned:
        assert prepared(cache, "tiny", {}, write) == folder
    assert len(warned) == 1
    for piece in (str(folder), name):
        assert piece in str(warned[0].message)
    assert folder.joinpath("weights").read_text() == "weights"
    assert folder.joinpath("sub", "more").read_text() == "more"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared(cache, "tiny", {}, pytest.fail)


def test_contents_are_read_once_while_no_file_changes(cache, monkeypatch):
    folder = prepared(cache, "tiny", {}, write)
    prepared(cache, "tiny", {}, pytest.fail)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name))
    prepared(cache, "tiny", {}, pytest.fail)
    assert read == []
    os.utime(folder / "weights")
    prepared(cache, "tiny", {}, pytest.fail)
    assert read == [str(folder / "weights")]


def test_another_key_is_another_folder(cache):
    one, other = (prepared(cache, "tiny", {"bits": bits}, write) for bits in (4, 8))
    assert one != other


def test_a_lock_that_is_not_given_up_is_an_error_that_says_what_to_do(cache, monkeypatch):
    from filelock import FileLock

    folder = prepared(cache, "tiny", {}, write)
    monkeypatch.setattr("pytest_llmopt.optimizations.quantization._prepared.PATIENCE", 0.1)
    with FileLock(f"{folder}.lock"), pytest.raises(ModelError, match=r"delete .*\.lock"):
        prepared(cache, "tiny", {}, write)


def test_the_digest_of_a_model_sees_names_and_contents(tmp_path):
    seen = set()
    for name, content in (("a", "1"), ("a", "2"), ("b", "2")):
        for file in tmp_path.iterdir():
            file.unlink()
        tmp_path.joinpath(name).write_text(content)
        seen.add(digest_of_files(tmp_path))
        assert digest_of_files(tmp_path) in seen
    assert len(seen) == 3


@pytest.mark.parametrize("chained", [False, True])
def test_without_room_in_the_cache_it_is_made_in_a_temporary_folder_with_a_warning(tmp_path, chained):
    tries = []

    def make(folder):
        tries.append(folder)
        if folder.is_relative_to(tmp_path):
            full = OSError(errno.ENOSPC, "No space left on device")
            if chained:
                msg = "saving failed"
                raise ModelError(msg) from full
            raise full
        folder.joinpath("weights").write_text("whole")

    with pytest.warns(StaleCacheWarning, match="cannot be kept .*--llmopt-cache"):
        folder = prepared(tmp_path, "model", {"chained": chained}, make)
    assert folder.joinpath("weights").read_text() == "whole"
    assert len(tries) == 2
    assert not list(tmp_path.glob(".model*"))


def test_a_cache_that_is_a_file_is_a_warning(tmp_path):
    tmp_path.joinpath("cache").write_text("")
    with pytest.warns(StaleCacheWarning, match="cannot be kept"):
        folder = prepared(tmp_path / "cache" / "deep", "model", {"a": "file"}, lambda _: None)
    assert folder.is_dir()


def test_an_error_that_is_not_about_the_disk_is_raised_and_not_tried_again(tmp_path):
    tries = []

    def make(folder):
        tries.append(folder)
        raise FileNotFoundError(errno.ENOENT, "no such weights")

    with pytest.raises(FileNotFoundError, match="no such weights"):
        prepared(tmp_path, "model", {"an": "error"}, make)
    assert len(tries) == 1
