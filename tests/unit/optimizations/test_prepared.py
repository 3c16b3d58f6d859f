"""What is expensive to make is made once, by one process, and is whole or is not taken."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pytest_llmopt.core.errors import ModelError
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


def test_a_second_call_makes_nothing(cache):
    folder = prepared(cache, "tiny", {}, write)
    assert prepared(cache, "tiny", {}, pytest.fail) == folder
    assert json.loads(folder.joinpath(MANIFEST).read_text())["bytes"] == {"weights": 7, "sub/more": 4}


@pytest.mark.parametrize("name", ["weights", "sub/more"])
def test_a_truncated_file_is_refused_with_its_name_and_both_sizes(cache, name):
    folder = prepared(cache, "tiny", {}, write)
    before = folder.joinpath(name).stat().st_size
    folder.joinpath(name).write_text("we")
    with pytest.raises(ModelError) as raised:
        prepared(cache, "tiny", {}, pytest.fail)
    for piece in (str(folder), name, f"{before} bytes", "2 bytes", "delete the folder"):
        assert piece in str(raised.value)


def test_a_missing_and_a_strange_file_are_refused(cache):
    folder = prepared(cache, "tiny", {}, write)
    folder.joinpath("weights").rename(folder / "wights")
    with pytest.raises(ModelError, match=r"weights was 7 bytes and is absent"):
        prepared(cache, "tiny", {}, pytest.fail)
    write_again = folder / "weights"
    write_again.write_text("weights")
    with pytest.raises(ModelError, match=r"wights was absent and is 7 bytes"):
        prepared(cache, "tiny", {}, pytest.fail)


@pytest.mark.parametrize("manifest", [None, "", "{", '{"made_from": {}}', "[]"])
def test_a_folder_without_its_manifest_is_refused(cache, manifest):
    folder = prepared(cache, "tiny", {}, write)
    file = folder / MANIFEST
    file.unlink() if manifest is None else file.write_text(manifest)
    with pytest.raises(ModelError, match="is not whole"):
        prepared(cache, "tiny", {}, pytest.fail)


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
