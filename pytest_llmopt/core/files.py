"""Files that are either the old ones or the new ones, never half of either."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path


def write_json(path: Path, content: object, *, allow_nan: bool = False, indent: int | None = 1) -> None:
    """Write a JSON file in one step.

    Args:
        path: the file; its folder is made where it is missing.
        content: what to write.
        allow_nan: whether NaN and infinity may be written, which JSON lacks and Python reads back.
        indent: spaces of each level; None writes one line.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=allow_nan))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step; a reader, a crash or another worker never sees half of it.

    Args:
        path: the file; its folder is made where it is missing.
        text: what to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    half_written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        # A temporary file is its owner's alone; a report is for the CI that collects it.
        half_written.chmod(0o666 & ~mask)
        half_written.replace(path)
    except BaseException:
        half_written.unlink(missing_ok=True)
        raise
