"""The target's probabilities are taken before temperature and filters when proposals are verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["TargetNotWarped"]


@dataclass(frozen=True)
class TargetNotWarped(Verification):
    """A low temperature has no effect: the text is too varied."""

    source: ClassVar[str] = "SP04 vllm-project/vllm#9834"
    raw: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def change(self, model: Any) -> None:
        """Keep what the last pass of the target gave; the library warps it in place."""
        super().change(model)

        def keep(_model: Any, _args: Any, output: Any) -> None:
            self.raw[:] = [output.logits.float().clone()]

        model.register_forward_hook(keep)

    def target_logits(self, logits: Any) -> Any:
        """The same places of it, as they came out of the model."""
        return self.raw[0][:, -logits.shape[1] :]
