"""What a loaded model runs and holds, to be compared with itself later."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from pytest_llmopt.core.watching import Change
from pytest_llmopt.engines._transformers.trace import (
    Trace,
    functions_of,
    is_a,
    plain_folders,
    told,
    told_code,
    within,
)
from pytest_llmopt.engines._transformers.watched_code import WatchedCode
from pytest_llmopt.engines._transformers.watched_model import WatchedModel

if TYPE_CHECKING:
    from pytest_llmopt.core.watching import Ask
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel


class ModelWatch:
    """A model of Transformers, as it was when this was made."""

    def __init__(self, loaded: LoadedModel, ask: Ask, *, plain: bool) -> None:
        """Look at it while it is asked; `plain` where it has no optimization, so runs no code but its library's."""
        traced = Trace.of(ask)
        model = loaded.model
        self._codes = frozenset(traced.codes)
        self._folders = plain_folders(*{kind.__module__ for kind in type(model).__mro__}, *set(traced.codes.values()))
        self._code = WatchedCode.of(model, traced)
        self._model = WatchedModel.of(model)
        self.foreign = self._not_of_the_library(traced, type(model).__module__) if plain else []

    def changes(self, ask: Ask) -> list[Change]:
        """What is otherwise now."""
        traced = Trace.of(ask)
        named = [*self._code.changes(traced), *self._model.changes()]
        # What replaced it elsewhere, as in the dispatcher of torch, is seen only when it runs.
        told_already = " ".join(change.what for change in named)
        runs = [told_code(code) for code in traced.foreign(self._folders) if code not in self._codes]
        return named + [Change(f"it runs {what}") for what in runs if what not in told_already]

    def _not_of_the_library(self, traced: Trace, module: str) -> list[str]:
        """Code that ran and is not the library's, and methods of the model's own classes that are not."""
        folders = plain_folders(module, *_uses(module))
        handing_on = self._code.handing_on(traced)
        found = [f"it runs {told_code(code)}" for code in traced.foreign(folders) if code not in handing_on]
        for where, value in self._code.methods():
            if any(not within(function.__code__.co_filename, folders) for function in functions_of(value)):
                found.append(f"{where} is {told(value)}")
        return list(dict.fromkeys(found))


def _uses(module: str) -> set[str]:
    """The modules that a model's file imports from, where it is none of the library's: as foreign as itself."""
    if module.startswith("transformers."):
        return set()
    values = vars(sys.modules[module]).values() if module in sys.modules else ()
    return {value.__name__ if is_a(value, ModuleType) else str(getattr(value, "__module__", "")) for value in values}
