"""What a candidate may cost, as its `budget` marker says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pytest_llmopt.core.requirements import parse_bytes
from pytest_llmopt.core.values import Positive, Size, fit_fields


@dataclass(frozen=True)
class Budget:
    """Limits on speed and memory; None sets no limit. Speed-ups are ratios against the reference, paired in time."""

    decode_speedup: Positive | None = None
    """Least decode tokens/s of the candidate over those of the reference."""
    prefill_speedup: Positive | None = None
    """Least prefill tokens/s of the candidate over those of the reference."""
    weight_memory: Size | None = None
    """Most memory of the weights: bytes, or a text such as "6 GiB"."""
    weight_saving: Positive | None = None
    """Least number of times that the weights take less memory than those of the reference."""
    ttft_ms: Positive | None = None
    """Most time to first token, in milliseconds: absolute, so for a machine of your own only."""
    decode_tokens_per_s: Positive | None = None
    """Least decode tokens/s: absolute, so for a machine of your own only."""

    def __post_init__(self) -> None:
        """Refuse limits that are not positive and sizes that are none."""
        fit_fields(self)
        if self.weight_memory is not None:
            object.__setattr__(self, "weight_memory", float(parse_bytes(self.weight_memory)))

    @property
    def is_empty(self) -> bool:
        """Whether it sets no limit."""
        return all(getattr(self, item.name) is None for item in dataclasses.fields(self))
