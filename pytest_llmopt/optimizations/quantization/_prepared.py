"""Folders that are expensive to make: made once, kept whole or not at all, shared by every worker."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MANIFEST = "llmopt-manifest.json"
"""Written last: names what the folder was made from, and every file with its size."""
PATIENCE = 3600
"""Seconds to wait for another process that makes the same folder."""


def prepared(cache: Path, label: str, key: Mapping[str, object], make: Callable[[Path], None]) -> Path:
    """The folder for a key; made by the first who asks, in a place of its own, and renamed when it is whole.

    Args:
        cache: the folder that holds them all.
        label: begins the name of the folder, for people.
        key: everything that decides the content: JSON values.
        make: fills an empty folder that it is given.

    Raises:
        ModelError: a folder that is there is not what was written, or another process does not finish.
    """
    from filelock import FileLock, Timeout

    text = json.dumps(key, sort_keys=True, default=str)
    folder = cache / f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=PATIENCE):
            if not folder.is_dir():
                _make(folder, json.loads(text), make)
    except Timeout as error:
        msg = f"another process has been making {folder} for {PATIENCE} seconds; delete {folder}.lock if it is gone"
        raise ModelError(msg) from error
    _verify(folder)
    return folder


def digest_of_files(folder: Path) -> str:
    """Twelve hexadecimal digits of the names and contents of the files of a model's folder.

    Large files count by their size and time of change, so that this takes no time on a real model.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        status = file.stat()
        small = status.st_size < 2**26
        content = file.read_bytes() if small else f"{status.st_size} {status.st_mtime_ns}".encode()
        digest.update(file.name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def _make(folder: Path, key: object, make: Callable[[Path], None]) -> None:
    # Whoever made these was killed: we hold the lock.
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    half_made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        make(half_made)
        mask = os.umask(0)
        os.umask(mask)
        half_made.chmod(0o777 & ~mask)
        write_json(half_made / MANIFEST, {"made_from": key, "bytes": _sizes(half_made)})
        half_made.rename(folder)
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _verify(folder: Path) -> None:
    try:
        written = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder} is not whole: its {MANIFEST} cannot be read ({error}); delete the folder to make it again"
        raise ModelError(msg) from error
    found = _sizes(folder)
    wrong = [name for name in sorted({*written, *found}) if written.get(name) != found.get(name)]
    if wrong:
        name = wrong[0]
        was, now = (f"{size} bytes" if size is not None else "absent" for size in (written.get(name), found.get(name)))
        msg = f"{folder} is not what was written: {name} was {was} and is {now}; delete the folder to make it again"
        raise ModelError(msg)
