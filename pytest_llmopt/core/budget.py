"""What a candidate may cost, as its `budget` marker says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.requirements import parse_bytes


@dataclass(frozen=True)
class Budget:
    """Limits on speed and memory; None sets no limit. Speed-ups are ratios against the reference, paired in time."""

    decode_speedup: float | None = None
    """Least decode tokens/s of the candidate over those of the reference."""
    prefill_speedup: float | None = None
    """Least prefill tokens/s of the candidate over those of the reference."""
    weight_memory: str | float | None = None
    """Most memory of the weights: bytes, or a text such as "6 GiB"."""
    weight_saving: float | None = None
    """Least number of times that the weights take less memory than those of the reference."""
    ttft_ms: float | None = None
    """Most time to first token, in milliseconds: absolute, so for a machine of your own only."""
    decode_tokens_per_s: float | None = None
    """Least decode tokens/s: absolute, so for a machine of your own only."""

    def __post_init__(self) -> None:
        """Refuse limits that are not positive and sizes that are none."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            if item.name == "weight_memory":
                object.__setattr__(self, item.name, float(parse_bytes(value)))
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                msg = f"{item.name}={value!r} is not a positive number"
                raise OptionError(msg)

    @property
    def is_empty(self) -> bool:
        """Whether it sets no limit."""
        return all(getattr(self, item.name) is None for item in dataclasses.fields(self))
