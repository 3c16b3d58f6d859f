"""The tail of a block was replaced, but its key is still the one of the tokens before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _prefix import PrefixCache, ServesPrefixes

__all__ = ["StaleBlockKey"]


@dataclass(frozen=True)
class StaleBlockKey(ServesPrefixes):
    """A prompt whose beginning was served before gets the old tail's keys, whatever it says there."""

    source: ClassVar[str] = "SV02 vllm-project/vllm#49449"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("shared_prefix",)

    def change(self, model: Any) -> None:
        """Leave the newest eight tokens of a prefix out of its key."""
        PrefixCache(lambda tokens: (len(tokens), tuple(tokens[:-8]))).serve(model)
