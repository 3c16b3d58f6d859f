"""Hugging Face Transformers, in this process."""

from __future__ import annotations

import dataclasses
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.engines._transformers import (
    footprint,
    generation,
    inspection,
    loading,
    poison,
    probing,
    repeated,
    scoring,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_llmopt.core.engine import Continuation, Footprint, Generation, SamplingParams, TokenIds
    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.logprobs import FloatArray, IntArray, TopLogprobs
    from pytest_llmopt.core.probing import AffineMap, StoredMap
    from pytest_llmopt.core.variant import Variant

__all__ = ["TransformersEngine"]

DEFAULT_TOP_K = 1024
"""Log-probabilities kept per position: the whole vocabulary of a small model, all but a sliver of a large one."""


class TransformersEngine:
    """A causal language model of Transformers with the optimizations of its variant applied."""

    def __init__(self, variant: Variant, loaded: loading.Loaded) -> None:
        """Take over a loaded model; `open` is the way to make one."""
        self._variant = variant
        self._loaded = loaded
        self._compilations = 0
        self._longest_request = 0

    @classmethod
    def open(cls, variant: Variant, policy: LoadPolicy) -> Self:
        """Load the model of a variant.

        Raises:
            ModelError: the model cannot be found or loaded; carries the library's own message.
            RequirementMissingError: the model lacks what an optimization needs.
        """
        return cls(variant, loading.load(variant, policy))

    @property
    def variant(self) -> Variant:
        """What it runs."""
        return self._variant

    @property
    def vocab_size(self) -> int:
        """The number of rows of the output embedding."""
        return int(self._loaded.model.get_output_embeddings().weight.shape[0])

    @property
    def dtype(self) -> str:
        """The dtype of the unquantized weights and of the activations."""
        return str(self._loaded.model.dtype).removeprefix("torch.")

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

    def generate(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> list[Generation]:
        """Decode every prompt, batched with left padding, in the order given."""
        self._claim_threads()
        self._longest_request = max(self._longest_request, max(map(len, prompts), default=0) + sampling.max_new_tokens)
        with self._counting_graphs():
            return generation.generate(self._loaded, prompts, sampling, self.max_length, DEFAULT_TOP_K)

    def score(self, continuations: Sequence[Continuation]) -> list[TopLogprobs]:
        """Teacher-forced log-probabilities, batched by length, in the order given."""
        self._claim_threads()
        return scoring.score(self._loaded, continuations, DEFAULT_TOP_K)

    def force(
        self,
        continuations: Sequence[Continuation],
        *,
        prefill_chunk: int | None = None,
        batch_size: int | None = None,
    ) -> list[Generation]:
        """Drive given tokens through `generate`, so through the cache, graph and drafts of the variant."""
        self._claim_threads()
        prompt_tokens = max((len(item.prompt_ids) for item in continuations), default=0)
        new_tokens = max((len(item.token_ids) for item in continuations), default=0)
        self._longest_request = max(self._longest_request, prompt_tokens + new_tokens)
        with self._counting_graphs():
            return generation.force(
                self._loaded, continuations, prefill_chunk, batch_size, self.max_length, DEFAULT_TOP_K
            )

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
        self._claim_threads()
        seen = inspection.inspect(self._loaded, self.encode(inspection.TEXT) or (0,), self.max_length)
        return dataclasses.replace(seen, longest_request=max(self._longest_request, seen.longest_request or 0))

    def work(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> Work:
        """What equal calls leave alive, and how many of their passes run eagerly."""

        def call() -> None:
            self.generate(prompts, sampling)

        return repeated.work(self._loaded, call, len(prompts))

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
        self._claim_threads()
        return probing.effective(self._loaded.model, projection, outputs)

    def push(self, projection: str, inputs: FloatArray, outputs: IntArray | None = None) -> FloatArray:
        """What a projection gives for inputs, in the model's dtype."""
        self._claim_threads()
        return probing.push(self._loaded.model, projection, inputs, outputs)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer with `save_pretrained`.

        Raises:
            RequestError: the library cannot save this model, as some quantizers say.
        """
        try:
            self._loaded.model.save_pretrained(folder)
            self._loaded.tokenizer.save_pretrained(folder)
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            msg = f"{self._variant.label} cannot be saved: {type(error).__name__}: {error}"
            raise RequestError(msg) from error

    def poisoned(self) -> AbstractContextManager[str]:
        """Inside it, the unused places of static caches hold a large finite value."""
        return poison.poisoned()

    @contextmanager
    def _counting_graphs(self) -> Iterator[None]:
        before = _graphs_compiled()
        try:
            yield
        finally:
            self._compilations += _graphs_compiled() - before

    def _claim_threads(self) -> None:
        import torch

        torch.set_num_threads(self._loaded.threads)

    def close(self) -> None:
        """Drop the model and give its memory back."""
        del self._loaded
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _graphs_compiled() -> int:
    import sys

    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo is not None else 0
