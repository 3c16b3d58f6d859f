"""Where a model that somebody named is: a folder, a model of the zoo, or a copy of the hub's on this machine.

Looked at without any library, so that a name with a slip in it is refused in no time.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.loading import ZOO, fixtures_folder, locate
from pytest_llmopt.core.quoting import quoted

if TYPE_CHECKING:
    from pytest_llmopt.core.loading import LoadPolicy

HUB_ID = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?/)?[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
"""What the hub takes for a name; it may not hold `--` or `..` either, nor be longer than `LONGEST`."""
LONGEST = 96
NAMED_BY = {
    "model": "--llmopt-model FOLDER_OR_ID",
    "draft": "--llmopt-draft FOLDER_OR_ID, or assisted(draft=...)",
    "checkpoint": "quantized(checkpoint=FOLDER_OR_ID)",
    "adapter": "lora(adapter=FOLDER_OR_ID)",
}
"""By what a model is for: how it is named."""


class NotHereError(ModelError):
    """Nothing on this machine has that name, and nothing may be downloaded; a fixture may still make it."""

    def __init__(self, name: str, reason: str) -> None:
        """Keep the name beside the reason."""
        super().__init__(reason)
        self.name = name


def place_of(name: object, policy: LoadPolicy, role: str = "model") -> Path | None:
    """The folder with the files of a model; None where it is to be downloaded first.

    Args:
        name: a folder, a name of the zoo, or a hub id.
        policy: whether something may be downloaded.
        role: what it is for, of `NAMED_BY`.

    Raises:
        NotHereError: there is no such folder, and no copy of such a model of the hub.
        ModelError: no model can have that name, or what has it is no folder.
    """
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(name, str) or not name.strip():
        msg = f"the name of a {role} is empty or no text, got {name!r}; give {NAMED_BY[role]}"
        raise ModelError(msg)
    found = Path(locate(name))
    try:
        if found.is_dir():
            _refuse_closed(found, name, role)
            return found
        _refuse_no_folder(found.expanduser(), name, role)
    except (OSError, ValueError, RuntimeError) as error:  # such as a name that is too long, or a home that nobody has
        reason = getattr(error, "strerror", None) or "no file can have that name"
        msg = f"the {role} {quoted(name)} cannot be looked at: {reason}; give an existing folder or a hub id"
        raise ModelError(msg) from error
    _refuse_no_name(name, role)
    if policy.download:
        return None  # what of it is here may be completed
    copy = _hub_copy(name)
    if copy is None:
        raise NotHereError(name, _not_here(name, role))
    return copy


def _refuse_closed(folder: Path, name: str, role: str) -> None:
    """Accept a folder that may be read."""
    try:
        next(folder.iterdir(), None)
    except PermissionError as error:
        msg = f"the folder of the {role} {quoted(name)} may not be read by this user; run chmod u+rx on it"
        raise ModelError(msg) from error


def _refuse_no_folder(path: Path, name: str, role: str) -> None:
    """Accept a name that no file has."""
    if path.is_symlink() and not path.exists():
        target = quoted(str(path.readlink()))
        msg = f"the {role} {quoted(name)} is a link that leads nowhere (to {target}); mend it, or name the folder"
        raise ModelError(msg)
    if not path.exists():
        return
    if not path.is_file():
        msg = f"the {role} {quoted(name)} is neither a folder nor a file; name the folder of a model"
        raise ModelError(msg)
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix.lower() == ".gguf" or start == b"GGUF":
        hint = "name the folder of the model that it was made from, and give the file to quantized('gguf', file=...)"
        msg = f"the {role} {quoted(name)} is a GGUF file; {hint}"
    else:
        msg = f"the {role} {quoted(name)} is a file; name the folder that holds it, with config.json and the weights"
    raise ModelError(msg)


def _refuse_no_name(name: str, role: str) -> None:
    """Accept what could be a name of the hub.

    Raises:
        NotHereError: it can only be a path, and there is no such folder.
        ModelError: it is no name of anything.
    """
    if "://" in name:
        msg = f"the {role} {quoted(name)} is an address; give the id alone (org/name), or a folder"
        raise ModelError(msg)
    if not name.isprintable():
        msg = f"the {role} {quoted(name)} has characters that no hub id has, and there is no such folder; name another"
        raise ModelError(msg)
    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or name.endswith("/")
    if is_path:
        msg = f"the {role} {quoted(name)} does not exist: no such folder{_where(name)}; {_nearest(name)}{_give(role)}"
        raise NotHereError(name, msg)
    if not HUB_ID.fullmatch(name) or len(name) > LONGEST or "--" in name or ".." in name or name.endswith(".git"):
        msg = (
            f"the {role} {quoted(name)} does not exist: no such folder{_where(name)}, and no possible hub id (org/name "
            f"of letters, digits, '-', '_' and '.', at most {LONGEST}); {_nearest(name)}{_give(role)}"
        )
        raise ModelError(msg)


def _not_here(name: str, role: str) -> str:
    zoo = "" if "/" in name else f", and the zoo has {', '.join(ZOO)}"
    return (
        f"the {role} {quoted(name)} is not on this machine: there is no such folder{_where(name)}, and no copy of a "
        f"model of the hub with that name{zoo}; {_nearest(name)}give a folder, or allow downloading with "
        "--llmopt-download"
    )


def _give(role: str) -> str:
    return f"give an existing folder, a name of the zoo ({', '.join(ZOO)}) or a hub id: {NAMED_BY[role]}"


def _where(name: str) -> str:
    """Where a relative path was looked for."""
    return "" if Path(name).is_absolute() or name.startswith("~") else f" in {Path.cwd()}"


def _nearest(name: str) -> str:
    """A hint at a model of the zoo, or a folder beside the one that is not there."""
    last = name.rstrip("/").rpartition("/")[2]
    zoo = fixtures_folder() / "models"
    names = {path.name.lower(): path.name for path in zoo.iterdir() if path.is_dir()} if zoo.is_dir() else {}
    near = difflib.get_close_matches(last.lower(), names, n=1)
    if near:
        return f"did you mean {names[near[0]]!r}, of the zoo? "
    try:
        beside = [path.name for path in Path(name).expanduser().parent.iterdir() if path.is_dir()]
    except (OSError, ValueError, RuntimeError):
        return ""
    found = difflib.get_close_matches(last, beside, n=1)
    return f"did you mean {quoted(str(Path(name).with_name(found[0])))}? " if found else ""


def _hub_copy(name: str) -> Path | None:
    """The newest copy of a model of the hub in the cache of `huggingface_hub`."""
    folder = _hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        copy = folder / "snapshots" / revision
        return copy if copy.is_dir() else None
    except (OSError, ValueError):
        return None


def _hub_cache() -> Path:
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        return Path(constants.HF_HUB_CACHE)
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(os.path.expandvars(named)).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"
