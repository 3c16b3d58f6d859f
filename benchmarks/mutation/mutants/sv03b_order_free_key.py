"""The key of a prefix combines its tokens without regard to their order, and the tokens are not compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _prefix import PrefixCache, ServesPrefixes

__all__ = ["OrderFreeKey"]


@dataclass(frozen=True)
class OrderFreeKey(ServesPrefixes):
    """A request gets the keys of one that has the same tokens in another order, and of no other."""

    source: ClassVar[str] = "SV03 openvinotoolkit/openvino.genai#3722 (collision of permuted tokens)"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("permuted_prefix",)

    def change(self, model: Any) -> None:
        """Look prefixes up by their sorted tokens."""
        PrefixCache(lambda tokens: tuple(sorted(tokens))).serve(model)
