"""A KV cache allocated once at its full length, with or without a compiled decode step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import Optimization, Promise, one_of
from pytest_llmopt.core.values import Count
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance
from pytest_llmopt.optimizations.decoding._decoding_claims import MODES, compiled_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Use

__all__ = ["StaticCache"]


@dataclass(frozen=True)
class StaticCache(Optimization):
    """Keys and values in buffers of a fixed length, so that a decode step always has the same shapes."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    compile: bool = False
    """Compile the decode step (`torch.compile`), on a CPU as well."""
    max_cache_len: Count | None = None
    """Room for prompt and output together, in tokens; None makes room for the longest request."""
    reuse: bool = False
    """Keep one cache object and reset it between calls, as a server does; needs `max_cache_len`."""
    mode: str = "reduce-overhead"
    fullgraph: bool = False
    dynamic: bool | None = None

    def __post_init__(self) -> None:
        """Refuse modes that `torch.compile` does not have, and reuse without a length."""
        one_of("mode", self.mode, MODES)
        if self.reuse and self.max_cache_len is None:
            msg = "reuse=True needs max_cache_len: a kept cache cannot grow"
            raise OptionError(msg)

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Speculation rewinds its cache, which Transformers refuses to do with a static one."""
        rewinds = "speculation rewinds the cache, and Transformers does not rewind a static one"
        conflicts = {"decoding.assisted": rewinds, "decoding.prompt_lookup": rewinds}
        return conflicts | ({"decoding.compiled": "the decode step is compiled already"} if self.compile else {})

    def claims(self, use: Use) -> Sequence[Claim]:
        """The cache in use is static, of the length asked for, and the decode step compiled if it should be."""
        cache = use.inspection.cache
        layers = sum(cache.layers.values()) if cache is not None else 0
        # A state of a fixed size, as of linear attention, is as static as a buffer of a fixed length.
        fixed = cache.fixed_layers + cache.state_layers if cache is not None else 0
        kind = cache.kind if cache is not None else "none"
        claims = [
            Claim(
                "fixed_layers",
                Metric(Estimate.exact(fixed / max(1, layers), layers), Tolerance(at_least=1), "share"),
                f"the cache in use, {kind}, grows with the tokens in {layers - fixed} of {layers} layers",
            )
        ]
        most = self.max_cache_len or use.inspection.longest_request
        if most is not None:
            length = cache.length if cache is not None and cache.length is not None else 0
            window = cache.window if cache is not None else None
            least = min(self.max_cache_len or 0, window or most)
            asked = f"max_cache_len={most}" if least else f"the {most} tokens of the longest request so far"
            claims.append(
                Claim(
                    "cache_length",
                    Metric(Estimate.exact(length), Tolerance(least, most), "tokens"),
                    f"it was allocated for {length} tokens, not for {asked}: memory and the time of a step follow it",
                )
            )
        return [*claims, *(compiled_claims(use, prefill=False) if self.compile else ())]
