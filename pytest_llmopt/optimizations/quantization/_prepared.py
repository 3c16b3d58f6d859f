"""Folders that are expensive to make: made once, kept whole or not at all, shared by every worker."""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import ModelError, StaleCacheWarning
from pytest_llmopt.core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MANIFEST = "llmopt-manifest.json"
"""Written last: names what the folder was made from, and every file with the SHA-256 of its content."""
DISK = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)
"""Numbers of errors that are about the place and not about what is written there."""
PATIENCE = 3600
"""Seconds to wait for another process that makes the same folder."""


def prepared(cache: Path, label: str, key: Mapping[str, object], make: Callable[[Path], None]) -> Path:
    """The folder for a key; made by the first who asks, in a place of its own, and renamed when it is whole.

    One that is there is read in full and compared with the contents that were written: once in each process, while its
    files keep their sizes and times. What was edited, truncated, put there by somebody else, or made by a version that
    wrote no contents down, is made again, with a `StaleCacheWarning` that names the file.

    Args:
        cache: the folder that holds them all.
        label: begins the name of the folder, for people.
        key: everything that decides the content: JSON values.
        make: fills an empty folder that it is given.

    Where the cache cannot be written to, or has no room, it is made in a temporary folder that lasts as long as this
    process, with a `StaleCacheWarning`.

    Raises:
        ModelError: another process does not finish, or there is room for it nowhere.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    name = f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return _kept(cache, name, text, make)
    except Exception as error:
        if cache.is_dir() and not _about_the_disk(error):
            raise
        warnings.warn(
            f"{cache / name} cannot be kept ({error}), so every process makes it again: give a folder that can be "
            "written to by --llmopt-cache",
            StaleCacheWarning,
            stacklevel=2,
        )
    try:
        return _kept(_temporary(), name, text, make)
    except Exception as error:
        if not _about_the_disk(error):
            raise
        msg = f"there is no room for {name}, neither in {cache} nor in {tempfile.gettempdir()}: {error}"
        raise ModelError(msg) from error


def _about_the_disk(error: BaseException | None) -> bool:
    """Whether it was raised since a folder cannot be written to or is full, also where a library reports it onward."""
    while error is not None:
        words = str(error)
        if isinstance(error, OSError) and error.errno in DISK:
            return True
        if any(f"(os error {code})" in words or f"[Errno {code}]" in words for code in DISK):
            return True
        error = error.__cause__ or error.__context__
    return False


@functools.cache
def _temporary() -> Path:
    """A folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="llmopt-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _kept(cache: Path, name: str, text: str, make: Callable[[Path], None]) -> Path:
    from filelock import FileLock, Timeout

    folder = cache / name
    try:
        with FileLock(f"{folder}.lock", timeout=PATIENCE):
            if folder.is_dir() and (wrong := _wrong(folder, json.loads(text))):
                warnings.warn(f"{folder} is made again: {wrong}", StaleCacheWarning, stacklevel=2)
                shutil.rmtree(folder)
            if not folder.is_dir():
                _make(folder, json.loads(text), make)
    except Timeout as error:
        msg = f"another process has been making {folder} for {PATIENCE} seconds; delete {folder}.lock if it is gone"
        raise ModelError(msg) from error
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
        contents = {name: _sha256(*status) for name, status in _statuses(half_made).items()}
        write_json(half_made / MANIFEST, {"made_from": key, "sha256": contents})
        half_made.rename(folder)
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise


def _wrong(folder: Path, key: object) -> str:
    """What of a folder is not as it was written, with the name of the file; empty where all is."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        written, made_from = dict(manifest["sha256"]), manifest["made_from"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} cannot be read ({type(error).__name__}: {error})"
    if made_from != key:
        return f"its {MANIFEST} says that it was made from something else"
    found = _statuses(folder)
    for name in sorted({*written, *found}):
        if name not in found:
            return f"{name} is absent"
        if name not in written:
            return f"{name} is there, and was not written with it"
        if _sha256(*found[name]) != written[name]:
            return f"{name} has other content than was written ({found[name][1]} bytes now)"
    return ""


def _statuses(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Path, size in bytes and time of change in nanoseconds of every file but the manifest, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    found = {}
    for path in files:
        status = path.stat()
        found[str(path.relative_to(folder))] = (str(path), status.st_size, status.st_mtime_ns)
    return found


@functools.lru_cache(maxsize=4096)
def _sha256(path: str, _size: int, _mtime_ns: int) -> str:
    """Of a file's content; read once for each path, size and time of change."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
