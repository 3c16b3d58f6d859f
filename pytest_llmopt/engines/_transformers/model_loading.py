"""From a variant to a loaded model: every optimization adds to a plan, then the plan is carried out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import apply
from pytest_llmopt.core.errors import LlmoptError, ModelError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.quoting import advice, explained, quoted, said
from pytest_llmopt.engines._transformers.changes import changed, fingerprint, is_packed_copy, key_of, mark, marked
from pytest_llmopt.engines._transformers.complete import open_complete
from pytest_llmopt.engines._transformers.facts import facts, tokenizer_of
from pytest_llmopt.engines._transformers.footprint import parameters_of
from pytest_llmopt.engines._transformers.kinds import refuse_bidirectional, refuse_other_kinds, refuse_unknown_method
from pytest_llmopt.engines._transformers.modes import refuse_training
from pytest_llmopt.engines._transformers.peak import PeakMemory
from pytest_llmopt.engines._transformers.plan import LoadPlan
from pytest_llmopt.engines._transformers.scope import scoped
from pytest_llmopt.engines._transformers.tokens import LibraryTokenizer, ends_of, refuse_no_tokens, refuse_other_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.variant import Variant

CHECK = "check its config.json and its weights, or export it again"
TOKENIZER = "check tokenizer.json and tokenizer_config.json, or copy the ones that it was trained with"
DOWNLOAD = "its copy on this machine is not complete: allow downloading with --llmopt-download, or give a folder"
SMALL = 2**26
"""Parameters below which one thread is as fast as several."""


@dataclass(frozen=True)
class LoadedModel:
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
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    """What the checkpoint says beside its weights, by name."""
    excused: tuple[str, ...] = ()
    """Tensors that are missing or left over, as the architecture declares."""
    in_weights: frozenset[str] = frozenset()
    """Optimizations whose steps after loading changed the weights, as `changes.key_of` writes them."""

    @property
    def pad_token_id(self) -> int:
        """A token to fill batches with; masked out, so that any will do where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(self.eos_token_ids, default=0)


def load(variant: Variant, policy: LoadPolicy) -> LoadedModel:
    """The model of a variant, every tensor of it from its checkpoint, in evaluation mode.

    Raises:
        ModelError: the library refused, and then it carries its own message and, for a model that is not here, how to
            get it; or a tensor is missing or left over, the model is no causal decoder, or dropout is on.
    """
    import torch

    device = variant.device if variant.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = variant.dtype if variant.dtype != "auto" or device != "cpu" else "float32"
    plan = LoadPlan(locate(variant.model), dtype, device, policy)
    source = _source(policy)
    common = {"device_map": device, "use_safetensors": None if policy.unsafe_weights else True, **source}
    plan.open = lambda name, **options: _open_other(name, source, **common, **options)
    try:
        refuse_other_kinds(plan.model, source)
        owners = _gather(variant, plan)
        tokenizer = _tokenizer(variant, source)
        with torch.random.fork_rng(), PeakMemory(device) as peak:
            torch.manual_seed(policy.seed)
            started = time.perf_counter()
            weights = plan.weights or plan.model
            if plan.weights is not None and "config" not in plan.load:
                refuse_other_kinds(plan.weights, source)
            refuse_unknown_method(plan.load.get("quantization_config"), "the quantization config that is given")
            model, excused = open_complete(
                weights, dtype=dtype if dtype == "auto" else getattr(torch, dtype), **common, **plan.load
            )
            load_s = time.perf_counter() - started
            # More threads than a small model can feed only wait for each other, and for other jobs on the machine.
            threads = policy.threads or (1 if parameters_of(model) < SMALL else policy.share)
            if not variant.optimizations:
                with scoped(model.device, threads=threads):
                    refuse_bidirectional(weights, model)
            in_weights, steps_s = _apply(model, plan, owners)
        refuse_training(model)
        refuse_other_tokens(tokenizer, model, variant.model)
        stated = facts(model, tokenizer_of(plan.weights, tokenizer, source))
    except LlmoptError:
        raise
    except Exception as error:
        raise ModelError(_explain(variant, error, policy)) from error
    eos_token_ids = ends_of(model, weights)
    _forget_sampling_defaults(model)
    return LoadedModel(
        *(model, tokenizer, plan, eos_token_ids, threads, load_s + steps_s, peak.bytes),
        *(stated, excused, in_weights),
    )


def tokenizer(variant: Variant, policy: LoadPolicy) -> LibraryTokenizer:
    """The tokenizer of the model under test.

    Raises:
        ModelError: it cannot be loaded, or has no tokens for a text.
    """
    return LibraryTokenizer(_tokenizer(variant, _source(policy)))


def _source(policy: LoadPolicy) -> dict[str, Any]:
    """What every `from_pretrained` is told."""
    return {"local_files_only": not policy.download, "trust_remote_code": policy.trust_remote_code}


def _tokenizer(variant: Variant, source: Mapping[str, Any]) -> Any:
    import transformers

    with explained(f"the tokenizer of {quoted(variant.model)} cannot be loaded", TOKENIZER):
        found = transformers.AutoTokenizer.from_pretrained(locate(variant.model), **source)
        refuse_no_tokens(found, variant.model)
    return found


def _open_other(name: str, source: Mapping[str, Any], **options: Any) -> Any:
    """Another causal language model, opened as the one under test is."""
    refuse_other_kinds(name, source)
    with explained(f"the model {quoted(name)} cannot be loaded", CHECK):
        return open_complete(name, **options)[0]


def mark_saved(loaded: LoadedModel, variant: Variant, folder: Path) -> None:
    """Write beside a saved copy what its weights hold already, so that `load` does nothing to them a second time."""
    plain = getattr(loaded.model.config, "quantization_config", None) is None
    # A quantizer of which the saved weights have nothing was undone by a later step.
    undone = [item for item in variant.optimizations if item.family == "quantization"] if plain else []
    mark(folder, loaded.in_weights, [key_of(item) for item in undone] if loaded.in_weights else [])


def _gather(variant: Variant, plan: LoadPlan) -> list[str]:
    """Let every optimization add to the plan; the owner of each step after loading, in their order.

    Where the model is a saved copy, what its weights hold already is left out.
    """
    in_weights, undone = marked(plan.model)
    owners: list[str] = []
    for item in variant.optimizations:
        key = key_of(item)
        if key in undone:
            continue
        apply(variant.engine, item.name, item.options, plan)
        if key in in_weights:
            del plan.after_load[len(owners) :]
        owners += [key] * (len(plan.after_load) - len(owners))
    if is_packed_copy(plan.model):
        plan.weights = None  # what was saved is what is loaded, not the checkpoint that it once came from
    return owners


def _apply(model: Any, plan: LoadPlan, owners: Sequence[str]) -> tuple[frozenset[str], float]:
    """Take the steps after loading: the owners of those that changed the weights, and the seconds that the steps took.

    Seen on the weights themselves, so that no step has to say what it does.
    """
    if not plan.after_load:
        return frozenset(), 0.0
    changing, seconds = set(), 0.0
    before = fingerprint(model)
    for owner, step in zip(owners, plan.after_load, strict=True):
        started = time.perf_counter()
        step(model)
        seconds += time.perf_counter() - started
        after = fingerprint(model)
        if changed(before, after):
            changing.add(owner)
        before = after
    return frozenset(changing), seconds


def _explain(variant: Variant, error: Exception, policy: LoadPolicy) -> str:
    here = policy.download or Path(locate(variant.model)).is_dir()
    usual = CHECK if here or not isinstance(error, OSError) else DOWNLOAD
    if variant.optimizations:
        usual = f"check the options of {variant.label}, and that the plain model loads"
    return f"cannot load {variant.label} of {quoted(variant.model)[1:-1]}: {said(error)}; {advice(error, usual)}"


def _forget_sampling_defaults(model: Any) -> None:
    """Keep the special tokens of the checkpoint's generation config and nothing else.

    Checkpoints ship sampling defaults (temperature, repetition penalties) that differ between a model and its
    quantized copy; both sides must decode by the same explicit parameters.
    """
    config = model.generation_config
    model.generation_config = type(config)(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
