"""A static cache: through `generate`, or an object of a given length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import RequirementMissingError

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Ask `generate` for a static cache, or hand it one of a given length."""
    plan.after_load.append(_require_tokens)
    if options.max_cache_len is None:
        plan.set("generate", "cache_implementation", "static", by="static_cache")
    else:
        plan.max_length = options.max_cache_len
        plan.per_call.append(_cache_maker(options))
    if options.compile:
        from transformers import CompileConfig

        config = CompileConfig(fullgraph=options.fullgraph, dynamic=options.dynamic, mode=options.mode)
        config._compile_all_devices = True  # noqa: SLF001 - the library's own switch for compiling on a CPU
        plan.set("generate", "compile_config", config, by="static_cache")
    # On a GPU the library compiles the decode step of a static cache unasked.
    plan.fixed_shapes = options.compile or plan.device.startswith("cuda")


def _cache_maker(options: Any) -> Any:
    kept: dict[tuple[int, str | None], Any] = {}

    def make(model: Any, batch: int) -> dict[str, Any]:
        from transformers import StaticCache as Cache

        # A model that is made to compute in float32 for a while cannot go on with a cache of 16 bits, nor after it.
        key = batch, getattr(model, "llmopt_computes_in", None)
        cache = kept.get(key) or Cache(config=model.config, max_cache_len=options.max_cache_len)
        if options.reuse:
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


applier = Applier(_apply)
