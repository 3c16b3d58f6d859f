"""Keys and values in 1 to 8 bits once they have left a window of recent tokens (KIVI, arXiv:2402.02750)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, Optimization, Promise, one_of
from pytest_llmopt.core.requirements import Compiler, Package, Requirement
from pytest_llmopt.core.values import Count
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.figures import Figures

__all__ = ["QuantizedCache"]

BITS = {"quanto": (None, 4, 2), "hqq": (None, 8, 4, 3, 2, 1), "fp8": (None, 8)}
"""Widths by backend; the library's own is the first number of each, and 4 with hqq."""
AXES = {"quanto": (None, 0, -1), "hqq": (None, 0, 1), "fp8": (None,)}
NEEDS: dict[str, tuple[Requirement, ...]] = {
    "quanto": (
        Package("optimum-quanto>=0.2.6", module="optimum.quanto", install="pip install 'pytest-llmopt[quanto]'"),
        Compiler(ninja=True),
    ),
    "hqq": (Package("hqq>=0.2.1", install="pip install 'pytest-llmopt[hqq]'"),),
    "fp8": (Package("transformers>=5.20", install="pip install 'pytest-llmopt[transformers]'"),),
}
SLACK = 1.5
"""How far above the promised bytes a value may lie: short prompts fill their last bytes with nothing."""


GAINS = {8: 0.01, 4: 0.03, 3: 0.04, 2: 0.15}
"""Most by which a head's keys or values may come back scaled, by bits; nothing is claimed of 1 bit, which scales them
by half. Honest caches of the zoo: 0.0002 in 8 bits, 0.005 in 4, 0.008 in 3, 0.06 in 2. A scale that is wrong by a tenth
moves the output by no more than honest 4-bit rounding does (0.002 nats), so that no check of the output could tell."""
GAINS_FP8 = 0.02
"""Honest: 0.003."""
GAIN = "cache_gain"

WORST_PROMPT_FACTOR = 10.0
"""Of honest caches on the zoo the worst prompt's mean KL was up to 9.1 times that of all: it is the values of a text
that are rounded, and texts differ more than weights do."""


@dataclass(frozen=True)
class QuantizedCache(Optimization):
    """A KV cache in fewer bits; None leaves an option to Transformers."""

    promise: ClassVar[Promise] = Promise.ACCURATE

    backend: str = "quanto"
    nbits: int | None = None
    """Of a key or value: 4 by default, 8 with fp8."""
    group_size: Count | None = None
    """Values that share a scale, 64 by default; must divide KV heads times head size."""
    residual_length: Count | None = None
    """Tokens decoded since the last rounding that stay as they are, 128 by default."""
    axis_key: int | None = None
    axis_value: int | None = None

    def __post_init__(self) -> None:
        """Refuse what the backend does not have."""
        one_of("backend", self.backend, tuple(BITS))
        one_of(f"nbits of {self.backend}", self.nbits, BITS[self.backend])
        for name in ("axis_key", "axis_value"):
            one_of(f"{name} of {self.backend}", getattr(self, name), AXES[self.backend])
        for name in ("group_size", "residual_length"):
            value = getattr(self, name)
            if value is not None and self.backend == "fp8":
                msg = f"{name}={value!r} is not possible: fp8 has one scale for each tensor and no window"
                raise OptionError(msg)

    @property
    def bits(self) -> int:
        """Of a key or value."""
        return self.nbits or (8 if self.backend == "fp8" else 4)

    @property
    def activations(self) -> str:
        """What keys and values are rounded to."""
        return "fp8" if self.backend == "fp8" else f"int{self.bits}"

    @property
    def depends_on_batch(self) -> bool:
        """Whether what is written together shares scales by design."""
        # fp8 has one scale for all of it; along axis 0, the default, hqq takes a group from all over the tensor.
        return self.backend == "fp8" or (self.backend == "hqq" and 0 in {self.axis_key or 0, self.axis_value or 0})

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The backend, and what it compiles with."""
        return NEEDS[self.backend]

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Another cache, and what rewinds it."""
        rewinds = "speculation rewinds the cache, and what is quantized cannot be cut off"
        other = {"decoding.static_cache": "a static cache keeps its values as they are"}
        return other | {"decoding.assisted": rewinds, "decoding.prompt_lookup": rewinds}

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width."""
        kivi = "KIVI, arXiv:2402.02750, table 1"
        if self.bits == 8:  # noqa: PLR2004 - bits
            source = f"{kivi}: 4 bits keep the accuracy of 16, 8 the more so"
            return AccuracyLimits(0.005, 0.96, 1.01, source, WORST_PROMPT_FACTOR)
        if self.bits == 4:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.05, 0.90, 1.05, f"{kivi}: 4 bits keep the accuracy of 16", WORST_PROMPT_FACTOR)
        return AccuracyLimits(0.60, 0.55, 1.80, f"{kivi}: 2 bits by token lose accuracy", WORST_PROMPT_FACTOR)

    @property
    def figures(self) -> Figures:
        """Of keys and values."""
        return {"bits": f"KV {self.bits}", "group": "tensor" if self.backend == "fp8" else self.group_size or 64}

    def claims(self, use: Use) -> Sequence[Claim]:
        """Every layer keeps its tokens in so many bits, and that can be seen in the output."""
        cache = use.inspection.cache
        layers = cache.layers if cache is not None else {}
        total, kind = sum(layers.values()), "none" if cache is None else cache.kind
        quantized = sum(count for layer, count in layers.items() if "Quantized" in layer)
        held = cache.bytes_per_quantized_value if cache is not None else None
        scales = 0.0 if self.backend == "fp8" else (8 if use.dtype == "float32" else 4) / (self.group_size or 64)
        least = 1e-8 if use.dtype in {"float32", "float64"} else 1e-10
        return [
            Claim(
                "quantized_layers",
                Metric(Estimate.exact(quantized / max(1, total), total), Tolerance(at_least=1), "share"),
                f"the cache in use, {kind}, is of {', '.join(layers) or 'nothing'}",
            ),
            Claim(
                "bytes_per_value",
                Metric(
                    Estimate.exact(8.0 if held is None else held, total),
                    Tolerance(at_most=SLACK * (self.bits / 8 + scales)),
                    "bytes",
                ),
                f"keys and values take more than {self.bits} bits and their scales",
            ),
            Claim(
                "kl_divergence",
                Metric(
                    Estimate.exact(float(np.mean(use.divergence)), len(use.divergence)),
                    Tolerance(at_least=least),
                    "nats/token",
                ),
                "too good: it differs from the reference by no more than rounding, as an unquantized cache does",
            ),
            *self._gain_claim(use),
        ]

    def _gain_claim(self, use: Use) -> list[Claim]:
        """A decode step reads what prefill wrote, and not some multiple of it."""
        limit, found = GAINS_FP8 if self.backend == "fp8" else GAINS.get(self.bits), use.inspection.measured.get(GAIN)
        if limit is None or found is None:
            return []
        return [
            Claim(
                GAIN,
                Metric(Estimate.exact(found), Tolerance(at_most=limit), "share"),
                f"a decode step reads the keys or values of a head {found:.1%} larger or smaller than prefill wrote "
                "them: look at the scales and zero points that the cache is read with",
            )
        ]
