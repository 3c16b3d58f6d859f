"""How an engine lets it be proven that another one, loaded beside it in the same process, has not changed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Ask: TypeAlias = "Callable[[], object]"
"""Puts a few fixed requests to an engine."""


@dataclass(frozen=True)
class Change:
    """Something that an engine's answers rest on, and that is not what it was."""

    what: str
    """For a person: what it is now, and what it was."""
    undo: Callable[[], object] | None = None
    """Puts back what was there, for as long as what it returns is held; None where nothing can."""
    harmless: bool = False
    """It hands on to what was there, and not where numbers are made: counts only where answers are others too."""


class State(Protocol):
    """What a whole process computes by, as it was at one moment: default dtype, threads, switches, random numbers."""

    def changes(self) -> Sequence[Change]:
        """What is otherwise now."""
        ...


class Watch(Protocol):
    """What an engine runs and holds, as it was at one moment."""

    foreign: Sequence[str]
    """Code that it ran then and that neither its library nor its own model brought, for a person."""

    def changes(self, ask: Ask) -> Sequence[Change]:
        """What is otherwise now, seen while it is asked."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """An engine that runs in this process, where others can change it."""

    def watch(self, ask: Ask) -> Watch:
        """What it runs and holds now, seen while it is asked."""
        ...
