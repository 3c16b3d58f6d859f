"""Named things, one file each: the file's name is the registered name, and listing imports nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "pytest_llmopt"


@dataclass(frozen=True)
class Registry:
    """The files of one folder of this package, and what other packages add through entry points.

    A file offers the one name in its `__all__`; files and folders whose name starts with an underscore are helpers.
    A name below a sub-folder is written with a dot: `quantization.bitsandbytes` is `quantization/bitsandbytes.py`.
    The entry-point group is `pytest_llmopt.<folder>`, and an entry point's name follows the same rule. A registry looks
    at files and entry points once: a session makes its own.
    """

    folder: str
    kind: str
    """What one entry is called in an error message."""
    added: Mapping[str, Any] = field(default_factory=dict)
    """Objects that a plugin or a conftest adds for this session."""

    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted. Imports none of them."""
        return tuple(sorted({*self._found, *self.added}))

    def load(self, name: str) -> Any:
        """The object registered under a name: one added for this session, then a file, then an entry point.

        Raises:
            UnknownNameError: nothing has that name; lists what there is.
        """
        if name in self.added:
            return self.added[name]
        if name in self._files:
            module = importlib.import_module(f"{PACKAGE}.{self.folder}.{name}")
            (offered,) = module.__all__
            return getattr(module, offered)
        if name in self._entry_points:
            return self._entry_points[name].load()
        raise UnknownNameError(self.kind, name, self.names())

    @cached_property
    def _found(self) -> frozenset[str]:
        return self._files | self._entry_points.keys()

    @cached_property
    def _files(self) -> frozenset[str]:
        root = Path(__file__).parent.parent / self.folder
        paths = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
        return frozenset(".".join(path.parts) for path in paths if not any(part.startswith("_") for part in path.parts))

    @cached_property
    def _entry_points(self) -> Mapping[str, importlib.metadata.EntryPoint]:
        # Reading them opens a file of every distribution that is installed: 20 ms and more.
        group = importlib.metadata.entry_points(group=f"{PACKAGE}.{self.folder}")
        return {entry.name: entry for entry in group}
