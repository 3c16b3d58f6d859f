"""When the steps of `generate` end, and what they are asked about."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core import progress
from pytest_llmopt.core.answers import DecodeStep, Timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@dataclass
class StepClock:
    """Looks at the clock after each step of `generate`, which asks it, as a stopping criterion, whether to stop."""

    prompt_tokens: int
    called: float = field(default_factory=time.perf_counter)
    ends: list[tuple[float, int]] = field(default_factory=list)
    """Per step, when it ended and how many tokens each row had then."""
    queried: list[int] = field(default_factory=list)
    """Per forward pass, the tokens that it was asked about; empty unless attached."""
    passes_seen: bool = False
    """Whether it also watches forward passes."""

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        """No row is to stop."""
        # Assisted decoding also asks about drafts that are not verified yet, before a pass (and in some releases before
        # the first one): only the first call after a pass counts.
        if not self.passes_seen or len(self.ends) < len(self.queried):
            if input_ids.is_cuda:
                import torch

                torch.cuda.synchronize()
            self.ends.append((time.perf_counter(), int(input_ids.shape[1])))
            progress.report(len(input_ids) * (int(input_ids.shape[1]) - self.prompt_tokens))
        return input_ids.new_zeros(len(input_ids), dtype=bool)

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        """Also watch the forward passes of a model."""
        self.passes_seen = True
        handle = model.register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _count(self, _model: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        input_ids = kwargs.get("input_ids", args[0] if args else None)
        self.queried.append(0 if input_ids is None else int(input_ids.shape[1]))

    @property
    def timing(self) -> Timing:
        """When the tokens came."""
        (first, tokens), (last, all_tokens) = self.ends[0], self.ends[-1]
        return Timing(first - self.called, last - first, all_tokens - tokens)

    def steps(self, tokens: int) -> tuple[DecodeStep, ...]:
        """The steps of a row that emitted so many tokens.

        A pass is asked about the proposals and the one token before them; the first one about the whole prompt.
        """
        if not self.queried:
            return (DecodeStep(1),) * tokens
        lengths = [self.prompt_tokens, *(length for _, length in self.ends)]
        own = [self.prompt_tokens, *([1] * (len(self.queried) - 1))]
        return tuple(
            DecodeStep(after - before, max(0, queried - without))
            for before, after, queried, without in zip(lengths[:-1], lengths[1:], self.queried, own, strict=True)
        )
