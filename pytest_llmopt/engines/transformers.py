"""Hugging Face Transformers, in this process."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from pytest_llmopt.core.errors import OptionError, RequestError, RequirementMissingError
from pytest_llmopt.core.requirements import require
from pytest_llmopt.engines._transformers import (
    abilities,
    arguments,
    changes,
    entries,
    footprint,
    generation,
    inspection,
    loading,
    poison,
    precheck,
    prefill,
    probing,
    repeated,
    scope,
    scoring,
    varied,
    watched,
)
from pytest_llmopt.engines._transformers.libraries import import_libraries
from pytest_llmopt.engines._transformers.process_state import ProcessState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_llmopt.core.answers import Footprint, Generation
    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.logprobs import FloatArray, IntArray, TopLogprobs
    from pytest_llmopt.core.probing import AffineMap, StoredMap
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.tokens import Continuation, TokenIds
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.core.watching import Ask

__all__ = ["TransformersEngine"]

DEFAULT_TOP_K = 1024
"""Log-probabilities kept per position: the whole vocabulary of a small model, all but a sliver of a large one."""


class TransformersEngine:
    """A causal language model of Transformers with the optimizations of its variant applied."""

    def __init__(self, variant: Variant, loaded: loading.Loaded) -> None:
        """Take over a loaded model; `open` is the way to make one."""
        self._variant = variant
        self._loaded = loaded
        self._scorer = scoring.Scorer(loaded)
        self._lacks: dict[str, str] = {}
        self._compilations = 0
        self._longest_request = 0
        self._varied_dtype = ""

    @classmethod
    def open(cls, variant: Variant, policy: LoadPolicy) -> Self:
        """Load the model of a variant.

        Raises:
            ModelError: the model cannot be found or loaded; carries the library's own message.
            RequirementMissingError: the model lacks what an optimization needs.
            OptionError: an optimization sets an argument of `generate` that is not its to set.
        """
        cls.precheck(variant, policy)
        require(*variant.requirements)
        # Libraries keep exceptions of their import, and these the frames that it was called from, with what is in them:
        # so not from the method below, which holds the model.
        import_libraries()
        return cls._load(variant, policy)

    @classmethod
    def _load(cls, variant: Variant, policy: LoadPolicy) -> Self:
        with scope.scoped("cuda" if _on_cuda(variant) else "cpu"):
            loaded = loading.load(variant, policy)
        arguments.refuse(loaded.plan.generate)
        pad, rows = loaded.plan.generate.get("pad_token_id", 0), scoring.rows_of(loaded.model)
        if not 0 <= pad < rows:
            msg = f"pad_token_id={pad} is none of the model's tokens, which end at {rows - 1}: give one, or omit it"
            raise OptionError(msg)
        reason = abilities.speculates(loaded.model) if loaded.plan.speculative else ""
        if reason:
            name = "speculation"
            raise RequirementMissingError(name, reason)
        return cls(variant, loaded)

    @staticmethod
    def precheck(variant: Variant, policy: LoadPolicy) -> None:
        """Refuse what needs no library to be seen: absent or broken files, devices and backends that do not exist."""
        precheck.precheck(variant, policy)

    @property
    def variant(self) -> Variant:
        """What it runs."""
        return self._variant

    @property
    def vocab_size(self) -> int:
        """The number of rows of the output embedding."""
        return scoring.vocab_size_of(self._loaded.model)

    @property
    def dtype(self) -> str:
        """The dtype of the unquantized weights and of the activations."""
        return self._varied_dtype or str(self._loaded.model.dtype).removeprefix("torch.")

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a generation, from the checkpoint's generation config."""
        return self._loaded.eos_token_ids

    @property
    def max_length(self) -> int | None:
        """The smaller of what the model and its cache have room for, in tokens."""
        limits = (self._loaded.plan.max_length, getattr(self._loaded.model.config, "max_position_embeddings", None))
        return min((limit for limit in limits if limit is not None), default=None)

    def encode(self, text: str) -> TokenIds:
        """The tokens of a text, with the special tokens that the tokenizer adds."""
        return tuple(self._loaded.tokenizer(text)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens, special tokens included."""
        return str(self._loaded.tokenizer.decode(list(token_ids)))

    @property
    def lacks(self) -> Mapping[str, str]:
        """What its architecture cannot do although others can, with the reason; tried once, where there is a doubt."""
        for name in abilities.doubtful(self._loaded.model):
            self._lack_of(name)
        return {name: reason for name, reason in self._lacks.items() if reason}

    def _lack_of(self, name: str) -> str:
        if name not in self._lacks:
            tokens = self.encode(inspection.TEXT) or (0,)
            tried = {abilities.BATCHES: abilities.lacks_padding, abilities.CHUNKS: abilities.lacks_chunks}
            doubtful = name in abilities.doubtful(self._loaded.model)
            with self._running():
                self._lacks[name] = tried[name](self._loaded, tokens) if doubtful else ""
        return self._lacks[name]

    def generate(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> list[Generation]:
        """Decode every prompt, batched with left padding, in the order given."""
        self._longest_request = max(self._longest_request, max(map(len, prompts), default=0) + sampling.max_new_tokens)
        room = self._room(prompts)
        with self._running(), self._counting_graphs():
            return generation.generate(self._loaded, prompts, sampling, room)

    def score(self, continuations: Sequence[Continuation]) -> list[TopLogprobs]:
        """Teacher-forced log-probabilities, batched by length, in the order given."""
        with self._running():
            return self._scorer.score(continuations, DEFAULT_TOP_K)

    @property
    def entry_points(self) -> tuple[str, ...]:
        """The ways in which its forward can be called beside the plain one."""
        return entries.entries_of(self._loaded.model)

    def score_through(self, entry: str, continuation: Continuation) -> TopLogprobs:
        """Teacher-forced log-probabilities by such a call."""
        with self._running():
            return entries.score(self._loaded, continuation, entry, DEFAULT_TOP_K)

    def force(
        self,
        continuations: Sequence[Continuation],
        *,
        prefill_chunk: int | None = None,
        batch_size: int | None = None,
        report_prompt: bool = False,
        seed: int = 0,
    ) -> list[Generation]:
        """Drive given tokens through `generate`, so through the cache, graph and drafts of the variant."""
        how = {"prefill_chunk": prefill_chunk, "batch_size": batch_size, "seed": seed}
        return self._force(continuations, report_prompt=report_prompt, **how)

    def processed(
        self, continuations: Sequence[Continuation], stop_token_ids: TokenIds = ()
    ) -> list[TopLogprobs] | None:
        """What the choice of each token rests on: the log-probabilities behind the logits processors of the variant.

        Seen on the decode path, where the processors run. None where nothing stands between the model and the choice.
        """
        if not arguments.choosing(self._loaded.plan.generate):
            return None
        return [item.logprobs for item in self._force(continuations, processed=stop_token_ids)]

    def _force(
        self, continuations: Sequence[Continuation], *, report_prompt: bool = False, **how: Any
    ) -> list[Generation]:
        prompt_tokens = max((len(item.prompt_ids) for item in continuations), default=0)
        new_tokens = max((len(item.token_ids) for item in continuations), default=0)
        self._longest_request = max(self._longest_request, prompt_tokens + new_tokens)
        room = self._room([item.prompt_ids for item in continuations])
        reason = self._lack_of(abilities.CHUNKS) if how.get("prefill_chunk") else ""
        if reason:
            msg = f"{self._variant.model} cannot process a prompt in pieces: {reason}"
            raise RequestError(msg)
        act = prefill.read if report_prompt else generation.force
        with self._running(), self._counting_graphs():
            return act(self._loaded, continuations, room, **how)

    def _room(self, prompts: Sequence[TokenIds]) -> generation.Room:
        ragged = len({len(item) for item in prompts}) > 1 and self._loaded.plan.max_batch != 1
        return generation.Room(self.max_length, DEFAULT_TOP_K, padded=not (ragged and self._lack_of(abilities.BATCHES)))

    @property
    def draft(self) -> Variant | None:
        """The draft model of assisted decoding."""
        draft = self._loaded.plan.draft
        return None if draft is None else dataclasses.replace(self._variant.unoptimized(), model=draft)

    @property
    def loading_costs(self) -> Mapping[str, float]:
        """Of this load, and of quantizing where a checkpoint was made for it, in this run or an earlier one."""
        costs = {**self._loaded.plan.costs, "load_s": self._loaded.load_s}
        peak = self._loaded.load_peak_bytes
        return costs if peak is None else costs | {"load_peak_bytes": peak}

    def footprint(self) -> Footprint:
        """The bytes of its live parameters and buffers."""
        return footprint.measure(self._loaded.model)

    def compilations(self) -> int:
        """How many graphs torch.compile has made while it decoded."""
        return self._compilations

    def inspect(self) -> Inspection:
        """Its modules, cache, forward passes and attention calls, watched while it decodes a few tokens."""
        with self._running():
            seen = inspection.inspect(self._loaded, self.encode(inspection.TEXT) or (0,), self.max_length)
        longest = max(self._longest_request, seen.longest_request or 0)
        return dataclasses.replace(seen, longest_request=longest, lacks=self.lacks)

    def work(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> Work:
        """What equal calls leave alive, and how many of their passes run eagerly."""

        def call() -> None:
            self.generate(prompts, sampling)

        size = generation.rows_together(self._loaded.plan)
        return repeated.work(self._loaded, call, len(generation.batches(prompts, size, self._room(prompts))))

    def shape_of(self, projection: str) -> tuple[int, int]:
        """Outputs and inputs of a projection."""
        return probing.shape_of(self._loaded.model, projection)

    def stored(self, projection: str, outputs: IntArray) -> StoredMap | None:
        """The parameters of a plain linear layer, None of any other."""
        return probing.stored(self._loaded.model, projection, outputs)

    def order_of(self, projection: str) -> IntArray | None:
        """The inputs by the number of their group, where the layer keeps such numbers (act-order)."""
        return probing.order_of(self._loaded.model, projection)

    def effective(self, projection: str, outputs: IntArray) -> AffineMap:
        """What a projection computes, seen by the identity matrix."""
        with self._running():
            return probing.effective(self._loaded.model, projection, outputs)

    def push(self, projection: str, inputs: FloatArray, outputs: IntArray | None = None) -> FloatArray:
        """What a projection gives for inputs, in the model's dtype."""
        with self._running():
            return probing.push(self._loaded.model, projection, inputs, outputs)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer with `save_pretrained`.

        Raises:
            RequestError: the library cannot save this model, as some quantizers say.
        """
        try:
            self._loaded.model.save_pretrained(folder)
            self._loaded.tokenizer.save_pretrained(folder)
            loading.mark_saved(self._loaded, self._variant, folder)
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            msg = f"{self._variant.label} cannot be saved: {type(error).__name__}: {error}"
            raise RequestError(msg) from error

    def weights(self) -> Mapping[str, object]:
        """By name, checksums of the tensors that `save` writes."""
        return changes.fingerprint(self._loaded.model)

    def poisoned(self) -> AbstractContextManager[str]:
        """Inside it, the unused places of static caches hold a large finite value."""
        return poison.poisoned()

    def watch(self, ask: Ask) -> watched.ModelWatch:
        """What its model runs and holds now, seen while it is asked."""
        return watched.ModelWatch(self._loaded, ask, plain=not self._variant.optimizations)

    @staticmethod
    def process_state() -> ProcessState:
        """What torch and the process compute by."""
        return ProcessState.now()

    @contextmanager
    def varied(self, change: str, seed: int = 0) -> Iterator[None]:
        """Inside it, the same function by other arithmetic, on the same weights in place."""
        before = self._varied_dtype
        with varied.varied(self._loaded.model, change, seed):
            if change == "float32" and self.dtype in {"bfloat16", "float16"}:
                self._varied_dtype = "float32"
            try:
                yield
            finally:
                self._varied_dtype = before

    @contextmanager
    def _counting_graphs(self) -> Iterator[None]:
        before = _graphs_compiled()
        try:
            yield
        finally:
            self._compilations += _graphs_compiled() - before

    def _running(self) -> AbstractContextManager[None]:
        """Its own threads and random numbers, and those of the process back afterwards."""
        return scope.scoped(self._loaded.model.device, threads=self._loaded.threads, seed=0)

    def close(self) -> None:
        """Drop the model and give its memory back."""
        model = weakref.ref(self._loaded.model)
        del self._loaded, self._scorer
        if model() is not None:  # most models go at once; a full collection costs, so only where one refers to itself
            gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _on_cuda(variant: Variant) -> bool:
    import torch

    return variant.device.startswith("cuda") or (variant.device == "auto" and torch.cuda.is_available())


def _graphs_compiled() -> int:
    import sys

    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo is not None else 0
