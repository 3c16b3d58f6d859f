"""What a loaded model of Transformers answers: a function for each request, in the order of `core.requests`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core import requests
from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.probing import ProjectionShape
from pytest_llmopt.engines._transformers import (
    abilities,
    arguments,
    changes,
    entries,
    footprint,
    generation,
    model_inspection,
    model_loading,
    poison,
    prefill,
    projections,
    repeated,
)
from pytest_llmopt.engines._transformers.running import TOP_K

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_llmopt.core.answers import Footprint, Generation
    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
    from pytest_llmopt.core.probing import AffineMap, StoredMap
    from pytest_llmopt.core.requests import Request
    from pytest_llmopt.core.tokens import Continuation
    from pytest_llmopt.engines._transformers.running import RunningModel


def generate(running: RunningModel, asked: requests.Generate) -> tuple[Generation, ...]:
    """Batched with left padding."""
    room = running.room(asked.prompts)
    with running.decoding(max(map(len, asked.prompts), default=0), asked.sampling.max_new_tokens):
        return tuple(generation.generate(running.loaded, asked.prompts, asked.sampling, room))


def score(running: RunningModel, asked: requests.Score) -> tuple[TopLogprobs, ...]:
    """Batched by length."""
    with running.at_work():
        return tuple(running.scorer.score(asked.continuations, TOP_K))


def force(running: RunningModel, asked: requests.ForceDecode) -> tuple[Generation, ...]:
    """Through `generate`, so through the cache, graph and drafts of the variant."""
    how = {"prefill_chunk": asked.prefill_chunk, "batch_size": asked.batch_size, "seed": asked.seed}
    act = prefill.read if asked.report_prompt else generation.force
    if asked.unused_cache is None:
        return _forced(running, asked.continuations, act, **how)
    with poison.poisoned(asked.unused_cache):
        return _forced(running, asked.continuations, act, **how)


def score_choice(running: RunningModel, asked: requests.ScoreChoice) -> tuple[TopLogprobs, ...] | None:
    """Seen on the decode path, where the logits processors of the variant run; None where it has none."""
    if not arguments.choosing(running.loaded.plan.generate):
        return None
    forced = _forced(running, asked.continuations, generation.force, processed=asked.stop_token_ids)
    return tuple(item.logprobs for item in forced)


def _forced(
    running: RunningModel,
    continuations: tuple[Continuation, ...],
    act: Callable[..., list[Generation]],
    **how: Any,
) -> tuple[Generation, ...]:
    reason = running.lack_of(abilities.CHUNKS) if how.get("prefill_chunk") else ""
    if reason:
        msg = f"{running.variant.model} cannot process a prompt in pieces: {reason}"
        raise RequestError(msg)
    room = running.room([item.prompt_ids for item in continuations])
    prompt_tokens = max((len(item.prompt_ids) for item in continuations), default=0)
    new_tokens = max((len(item.token_ids) for item in continuations), default=0)
    with running.decoding(prompt_tokens, new_tokens):
        return tuple(act(running.loaded, continuations, room, **how))


def measure_memory(running: RunningModel, _asked: requests.MeasureMemory) -> Footprint:
    """The bytes of its live parameters and buffers."""
    return footprint.measure(running.loaded.model)


def measure_loading(running: RunningModel, _asked: requests.MeasureLoading) -> Mapping[str, float]:
    """Of this load, and of quantizing where a checkpoint was made for it, in this run or an earlier one."""
    costs = {**running.loaded.plan.costs, "load_s": running.loaded.load_s}
    peak = running.loaded.load_peak_bytes
    return costs if peak is None else costs | {"load_peak_bytes": peak}


def inspect(running: RunningModel, _asked: requests.Inspect) -> Inspection:
    """Its modules, cache, forward passes and attention calls, watched while it decodes a few tokens."""
    with running.at_work():
        seen = model_inspection.inspect(running.loaded, running.own_text, running.info.max_length)
    longest = max(running.longest_request, seen.longest_request or 0)
    return dataclasses.replace(seen, longest_request=longest, lacks=find_lacks(running, requests.FindLacks()))


def count_graphs(running: RunningModel, _asked: requests.CountGraphs) -> int:
    """Those that torch.compile has made while it decoded."""
    return running.graphs


def repeat_call(running: RunningModel, asked: requests.RepeatCall) -> Work:
    """What equal calls leave alive, and how many of their passes run eagerly."""
    again = requests.Generate(asked.prompts, asked.sampling)
    size = generation.rows_together(running.loaded.plan)
    batches = generation.batches(asked.prompts, size, running.room(asked.prompts))

    def call() -> None:
        generate(running, again)

    return repeated.work(running.loaded, call, len(batches))


def find_lacks(running: RunningModel, _asked: requests.FindLacks) -> Mapping[str, str]:
    """What its architecture cannot do although others can, with the reason."""
    reasons = {name: running.lack_of(name) for name in sorted(abilities.doubtful(running.loaded.model))}
    return {name: reason for name, reason in reasons.items() if reason}


def list_entry_points(running: RunningModel, _asked: requests.ListEntryPoints) -> tuple[str, ...]:
    """The ways in which its forward can be called beside the plain one."""
    return entries.entries_of(running.loaded.model)


def score_through(running: RunningModel, asked: requests.ScoreThrough) -> TopLogprobs:
    """By one of these ways."""
    with running.at_work():
        return entries.score(running.loaded, asked.continuation, asked.entry, TOP_K)


def read_weights(running: RunningModel, _asked: requests.ReadWeights) -> Mapping[str, object]:
    """Checksums of the tensors that are saved."""
    return changes.fingerprint(running.loaded.model)


def save_checkpoint(running: RunningModel, asked: requests.SaveCheckpoint) -> None:
    """Write model and tokenizer with `save_pretrained`."""
    folder = Path(asked.folder)
    try:
        running.loaded.model.save_pretrained(folder)
        running.loaded.tokenizer.save_pretrained(folder)
        model_loading.mark_saved(running.loaded, running.variant, folder)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{running.variant.label} cannot be saved: {type(error).__name__}: {error}"
        raise RequestError(msg) from error


def describe_projection(running: RunningModel, asked: requests.DescribeProjection) -> ProjectionShape:
    """Its size, and the inputs by the number of their group where the layer keeps such numbers (act-order)."""
    model = running.loaded.model
    return ProjectionShape(
        *projections.shape_of(model, asked.projection), projections.order_of(model, asked.projection)
    )


def read_projection(running: RunningModel, asked: requests.ReadProjection) -> StoredMap | None:
    """The parameters of a plain linear layer, None of any other."""
    return projections.stored(running.loaded.model, asked.projection, asked.outputs)


def map_projection(running: RunningModel, asked: requests.MapProjection) -> AffineMap:
    """Seen by the identity matrix."""
    with running.at_work():
        return projections.effective(running.loaded.model, asked.projection, asked.outputs)


def run_projection(running: RunningModel, asked: requests.RunProjection) -> FloatArray:
    """In the model's dtype."""
    with running.at_work():
        return projections.push(running.loaded.model, asked.projection, asked.inputs, asked.outputs)


ANSWERS: Mapping[type[Request[Any]], Callable[[RunningModel, Any], Any]] = {
    requests.Generate: generate,
    requests.Score: score,
    requests.ForceDecode: force,
    requests.ScoreChoice: score_choice,
    requests.MeasureMemory: measure_memory,
    requests.MeasureLoading: measure_loading,
    requests.Inspect: inspect,
    requests.CountGraphs: count_graphs,
    requests.RepeatCall: repeat_call,
    requests.FindLacks: find_lacks,
    requests.ListEntryPoints: list_entry_points,
    requests.ScoreThrough: score_through,
    requests.ReadWeights: read_weights,
    requests.SaveCheckpoint: save_checkpoint,
    requests.DescribeProjection: describe_projection,
    requests.ReadProjection: read_projection,
    requests.MapProjection: map_projection,
    requests.RunProjection: run_projection,
}
"""By request, what answers it. `Vary` is the engine's own: it answers any of them by other arithmetic."""
