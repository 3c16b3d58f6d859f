"""A line break is among the stop tokens of the candidate's generation config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["AnotherEnd"]


@dataclass(frozen=True)
class AnotherEnd(Mutant):
    """Every answer is cut at its first line."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "CF eos_token_id of another chat template"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704}),)
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("eos",)

    def change(self, model: Any) -> None:
        """Two stop tokens for one."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model.config.name_or_path, local_files_only=True)
        line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
        model.generation_config.eos_token_id = [model.config.eos_token_id, line_break[-1]]
