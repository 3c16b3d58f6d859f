"""The model's own forward normalizes once more what its body has normalized, for several tokens without a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["NormTwiceAroundBody"]


@dataclass(frozen=True)
class NormTwiceAroundBody(Mutant):
    """The body alone is right, and so is the head alone."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "FW a step between base_model and head, in the uncached path"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama",)
    needs: ClassVar = ("forward_without_cache",)

    def change(self, model: Any) -> None:
        """Before the head, when the call was such a one."""
        twice = [False]

        def look(_model: Any, args: Any, kwargs: dict[str, Any]) -> None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            twice[0] = kwargs.get("use_cache") is False and ids is not None and ids.shape[1] > 1

        model.register_forward_pre_hook(look, with_kwargs=True)
        model.lm_head.register_forward_pre_hook(lambda _head, args: (model.model.norm(args[0]),) if twice[0] else None)
