"""From a variant to a loaded model: every optimization adds to a plan, then the plan is carried out."""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import LlmoptError, ModelError
from pytest_llmopt.core.loading import ZOO, LoadPolicy, locate
from pytest_llmopt.core.optimization import LoadPlan
from pytest_llmopt.engines._transformers.footprint import parameters_of
from pytest_llmopt.engines._transformers.peak import PeakMemory

if TYPE_CHECKING:
    from pytest_llmopt.core.variant import Variant

SMALL = 2**26
"""Parameters below which one thread is as fast as several."""


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run, with its tokenizer and the plan that it was loaded by."""

    model: Any
    tokenizer: Any
    plan: LoadPlan
    eos_token_ids: frozenset[int]
    threads: int
    load_s: float
    """From the call of the library's loader to a model with every optimization applied."""
    load_peak_bytes: int | None
    """The most memory that this took at any moment, beyond what the process held before; None if it cannot be told."""

    @property
    def pad_token_id(self) -> int:
        """A token to fill batches with; masked out, so that any will do where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(self.eos_token_ids, default=0)


def load(variant: Variant, policy: LoadPolicy) -> Loaded:
    """The model of a variant, in evaluation mode.

    Raises:
        ModelError: the library refused; carries its own message and, for a model that is not here, how to get it.
    """
    import torch
    import transformers

    device = variant.device if variant.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = variant.dtype if variant.dtype != "auto" or device != "cpu" else "float32"
    plan = LoadPlan(locate(variant.model), dtype, device, policy)
    source = {"local_files_only": not policy.download, "trust_remote_code": policy.trust_remote_code}
    try:
        for item in variant.optimizations:
            getattr(item.options, f"for_{variant.engine}")(plan)
        tokenizer = transformers.AutoTokenizer.from_pretrained(plan.model, **source)
        with torch.random.fork_rng(), PeakMemory(device) as peak:
            torch.manual_seed(policy.seed)
            started = time.perf_counter()
            model = transformers.AutoModelForCausalLM.from_pretrained(
                plan.weights or plan.model,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                device_map=device,
                use_safetensors=None if policy.unsafe_weights else True,
                **source,
                **plan.load,
            ).eval()
            for step in plan.after_load:
                step(model)
            load_s = time.perf_counter() - started
    except LlmoptError:
        raise
    except Exception as error:
        raise ModelError(_explain(variant, error, policy)) from error
    eos = model.generation_config.eos_token_id
    eos_token_ids = frozenset([eos] if isinstance(eos, int) else eos or ())
    _forget_sampling_defaults(model)
    # More threads than a small model can feed only wait for each other, and for other jobs on the machine.
    threads = policy.threads or (1 if parameters_of(model) < SMALL else policy.share)
    return Loaded(model, tokenizer, plan, eos_token_ids, threads, load_s, peak.bytes)


def _explain(variant: Variant, error: Exception, policy: LoadPolicy) -> str:
    message = f"cannot load {variant.label} of {variant.model}: {type(error).__name__}: {error}"
    if "/" not in variant.model and locate(variant.model) == variant.model:
        near = difflib.get_close_matches(variant.model, ZOO, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        message += f"\nThere is no such folder; {hint}The zoo has {', '.join(ZOO)}."
    if isinstance(error, OSError) and not policy.download:
        message += "\nNothing is downloaded unasked: give a local folder, or allow it with --llmopt-download."
    return message


def _forget_sampling_defaults(model: Any) -> None:
    """Keep the special tokens of the checkpoint's generation config and nothing else.

    Checkpoints ship sampling defaults (temperature, repetition penalties) that differ between a model and its
    quantized copy; both sides must decode by the same explicit parameters.
    """
    config = model.generation_config
    model.generation_config = type(config)(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
