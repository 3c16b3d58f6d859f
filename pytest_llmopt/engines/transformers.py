"""Hugging Face Transformers, in the process that opens it."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Self

from pytest_llmopt.core.errors import NotAnsweredError, OptionError, RequirementMissingError
from pytest_llmopt.core.requests import Vary
from pytest_llmopt.core.requirements import require
from pytest_llmopt.engines._transformers import (
    abilities,
    arguments,
    model_loading,
    precheck,
    scope,
    scoring,
    varied,
    watched,
)
from pytest_llmopt.engines._transformers.answering import ANSWERS
from pytest_llmopt.engines._transformers.libraries import import_libraries
from pytest_llmopt.engines._transformers.process_state import ProcessState
from pytest_llmopt.engines._transformers.running import RunningModel

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import ModelInfo
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.requests import Answer, Request
    from pytest_llmopt.core.tokens import Tokenizer
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.core.watching import Ask

__all__ = ["TransformersEngine"]


class TransformersEngine:
    """A causal language model of Transformers with the optimizations of its variant applied."""

    answers = frozenset({*ANSWERS, Vary})

    def __init__(self, running: RunningModel) -> None:
        """Take over a loaded model; `open` is the way to make one."""
        self._running = running

    @classmethod
    def open(cls, variant: Variant, policy: LoadPolicy) -> Self:
        """Load the model of a variant.

        Raises:
            ModelError: the model cannot be found or loaded; carries the library's own message.
            RequirementMissingError: the model lacks what an optimization needs.
            OptionError: an optimization sets an argument of `generate` that is not its to set.
        """
        cls.precheck(variant, policy)
        require(*variant.requirements)
        # Libraries keep exceptions of their import, and these the frames that it was called from, with what is in them:
        # so not from the method below, which holds the model.
        import_libraries()
        return cls(_load(variant, policy))

    @staticmethod
    def tokenizer(variant: Variant, policy: LoadPolicy) -> Tokenizer:
        """That of the model under test, which serves both sides."""
        import_libraries()
        return model_loading.tokenizer(variant, policy)

    @staticmethod
    def precheck(variant: Variant, policy: LoadPolicy) -> None:
        """Refuse what needs no library to be seen: absent or broken files, devices and backends that do not exist."""
        precheck.precheck(variant, policy)

    @property
    def info(self) -> ModelInfo:
        """What is known of its model without asking."""
        return self._running.info

    def ask(self, request: Request[Answer]) -> Answer:
        """The answer to a request."""
        if isinstance(request, Vary):
            with varied.varied(self._running.loaded.model, request.change, request.seed):
                varied_answer: Answer = self.ask(request.request)
            return varied_answer
        answer = ANSWERS.get(type(request))
        if answer is None:
            name = type(request).requirement()
            raise NotAnsweredError(name, f"engine 'transformers' does not answer {type(request).__name__}")
        found: Answer = answer(self._running, request)
        return found

    def watch(self, ask: Ask) -> watched.ModelWatch:
        """What its model runs and holds now, seen while it is asked."""
        return watched.ModelWatch(self._running.loaded, ask, plain=not self._running.variant.optimizations)

    @staticmethod
    def process_state() -> ProcessState:
        """What torch and the process compute by."""
        return ProcessState.now()

    def close(self) -> None:
        """Drop the model and give its memory back."""
        model = weakref.ref(self._running.loaded.model)
        del self._running
        if model() is not None:  # most models go at once; a full collection costs, so only where one refers to itself
            gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _load(variant: Variant, policy: LoadPolicy) -> RunningModel:
    with scope.scoped("cuda" if _on_cuda(variant) else "cpu"):
        loaded = model_loading.load(variant, policy)
    arguments.refuse(loaded.plan.generate)
    pad, rows = loaded.plan.generate.get("pad_token_id", 0), scoring.rows_of(loaded.model)
    if not 0 <= pad < rows:
        msg = f"pad_token_id={pad} is none of the model's tokens, which end at {rows - 1}: give one, or omit it"
        raise OptionError(msg)
    reason = abilities.speculates(loaded.model) if loaded.plan.speculative else ""
    if reason:
        name = "speculation"
        raise RequirementMissingError(name, reason)
    return RunningModel(variant, loaded)


def _on_cuda(variant: Variant) -> bool:
    import torch

    return variant.device.startswith("cuda") or (variant.device == "auto" and torch.cuda.is_available())
