"""A KV cache allocated once at its full length, with or without a compiled decode step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.errors import OptionError, RequirementMissingError
from pytest_llmopt.core.optimization import LoadPlan, Optimization, Promise, one_of
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

    def for_transformers(self, plan: LoadPlan) -> None:
        """Ask `generate` for a static cache, or hand it one of a given length."""
        plan.after_load.append(_require_tokens)
        if self.max_cache_len is None:
            plan.set("generate", "cache_implementation", "static", by="static_cache")
        else:
            plan.max_length = self.max_cache_len
            plan.per_call.append(self._cache_maker())
        if self.compile:
            from transformers import CompileConfig

            config = CompileConfig(fullgraph=self.fullgraph, dynamic=self.dynamic, mode=self.mode)
            config._compile_all_devices = True  # noqa: SLF001 - the library's own switch for compiling on a CPU
            plan.set("generate", "compile_config", config, by="static_cache")
        # On a GPU the library compiles the decode step of a static cache unasked.
        plan.fixed_shapes = self.compile or plan.device.startswith("cuda")

    def _cache_maker(self) -> Any:
        kept: dict[tuple[int, str | None], Any] = {}

        def make(model: Any, batch: int) -> dict[str, Any]:
            from transformers import StaticCache as Cache

            # A model that is made to compute in float32 for a while cannot go on with a cache of 16 bits, nor after it.
            key = batch, getattr(model, "llmopt_computes_in", None)
            cache = kept.get(key) or Cache(config=model.config, max_cache_len=self.max_cache_len)
            if self.reuse:
                kept[key] = cache
                if cache.is_initialized:
                    cache.reset()
            return {"past_key_values": cache}

        return make


def _require_tokens(model: Any) -> None:
    """Refuse an architecture that is handed its state under another name, and keeps no tokens in it."""
    kind = type(model)
    if "mamba" in kind.__name__.lower() or not kind._supports_default_dynamic_cache():  # noqa: SLF001 - as `generate` asks
        name = "static_cache"
        msg = f"{kind.__name__} keeps a state of a fixed size: it has no keys and values for a static cache to hold"
        raise RequirementMissingError(name, msg)
