"""`python benchmarks/mutation/effects.py [IDS]`: whether each mutant differs from its control, and on which trigger.

The first trigger that shows it is kept in `effects.json`: a mutant without an effect is none.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from first_sight import recorded
from mutation import HERE, Entry, catalogue

from pytest_llmopt.core.files import write_json
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.variant import Variant

FILE = HERE / "effects.json"
ROUNDING = {"float32": 1e-4, "bfloat16": 0.0}
"""Differences of log-probabilities that mean nothing; in 16 bits bug and control round alike until the bug acts."""
DEEP = 980
PATCHED = ("score", "forward")
"""What is asked of a mutant that changes a class."""
SAMPLED = ({"temperature": 0.7}, {"temperature": 1.0, "top_k": 10}, {"temperature": 0.7, "top_p": 0.9})


def effects(
    entry: Entry, open_side: Callable[[Variant], Side], prompts: PromptSet, *, every: bool = False
) -> dict[str, float]:
    """By trigger, how far the bug moves what its control says; nan where one of the two could not answer at all.

    Ends with the first trigger that shows it, unless `every` is asked for.

    The largest difference of a log-probability in nats, or 1 where ids, tokens, bytes or a length differ.
    """
    own, control = _control_of(entry)
    # The control answers first and, where a class is about to be changed, all that it will be asked.
    sides = [open_side(control)]
    early = {name: _answer(PROBES[name], sides[0], prompts) for name in PATCHED if entry.kind.patches_reference}
    sides.append(open_side(own))
    found = {}
    try:
        for name, probe in (PROBES if not early else {name: PROBES[name] for name in early}).items():
            expected = early[name] if early else _answer(probe, sides[0], prompts)
            difference = _difference(_answer(probe, sides[1], prompts), expected)
            if difference > ROUNDING[entry.kind.dtype] or np.isnan(difference):
                found[name] = difference
                if not every:
                    break
    finally:
        for side in sides:
            side.close()
    return found


def _answer(probe: Callable[[Side, PromptSet], list[Any]], side: Side, prompts: PromptSet) -> Any:
    torch.manual_seed(0)
    try:
        return probe(side, prompts)
    except Exception as error:  # noqa: BLE001 - that one side refuses is a difference too
        return type(error).__name__


def _control_of(entry: Entry) -> tuple[Variant, Variant]:
    own, control = entry.variant(), entry.control()
    if own.model != entry.kind.models[0]:  # both sides are loaded from what is wrong: the zoo's own is the control
        control = type(control)(entry.kind.models[0], control.optimizations, dtype=control.dtype, device="cpu")
    return own, control


def _difference(one: Any, other: Any) -> float:
    if isinstance(one, str) or isinstance(other, str):
        return 0.0 if one == other and one == "RequestError" else float("nan")
    if len(one) != len(other) or any(np.shape(a) != np.shape(b) for a, b in zip(one, other, strict=True)):
        return 1.0
    return max(
        (float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in zip(one, other, strict=True)), default=0.0
    )


def _ids(engine: Side, prompts: PromptSet) -> list[tuple[int, ...]]:
    return [prompt.encode(engine) for prompt in prompts]


def _long(engine: Side, prompts: PromptSet) -> tuple[int, ...]:
    end = engine.eos_token_ids
    return tuple(token for ids in _ids(engine, prompts) for token in ids if token not in end)[:DEEP]


def _forced(engine: Side, given: Sequence[Continuation], **options: Any) -> list[Any]:
    return [item.logprobs.token_logprobs for item in engine.force(given, **options)]


def _scored(engine: Side, prompts: PromptSet) -> list[Any]:
    text = _long(engine, prompts)
    return [
        item.token_logprobs
        for item in engine.score([Continuation(text[:1], text[1:160]), Continuation(text[:1], text[1:])])
    ]


def _forward(engine: Side, prompts: PromptSet, **options: Any) -> list[Any]:
    model = engine.engine._running.loaded.model  # type: ignore[attr-defined]
    with torch.no_grad():
        return [
            model(input_ids=torch.tensor([_long(engine, prompts)[:96]]), use_cache=False, **options)
            .logits.float()
            .numpy()
        ]


def _padded(engine: Side, prompts: PromptSet, rows: int = 8) -> list[Any]:
    text = _long(engine, prompts)
    given = [
        Continuation(text[start : start + 4 + 24 * row], text[-24:])
        for row, start in enumerate(range(0, 60 * rows, 60))
    ]
    return _forced(engine, given)


def _deep(engine: Side, prompts: PromptSet) -> list[Any]:
    text = _long(engine, prompts)
    length = min(DEEP, engine.max_length or DEEP) - 8
    return _forced(engine, [Continuation(text[:200], text[200:length])])


def _after_end(engine: Side, prompts: PromptSet) -> list[Any]:
    text, end = _long(engine, prompts), min(engine.eos_token_ids)
    return _forced(engine, [Continuation((*text[:40], end, *text[40:60], end, *text[60:80]), text[80:100])])


def _second_call(engine: Side, prompts: PromptSet) -> list[Any]:
    return [*_padded(engine, prompts, 8), *_padded(engine, prompts, 4), *_padded(engine, prompts, 8)]


def _greedy(engine: Side, prompts: PromptSet) -> list[Any]:
    answers = engine.generate(_ids(engine, prompts)[:8], SamplingParams(48))
    return [np.asarray([len(item.token_ids), *item.token_ids, item.overrun]) for item in answers]


def _sampled(engine: Side, prompts: PromptSet) -> list[Any]:
    found = []
    for sampling in SAMPLED:
        answers = engine.generate(_ids(engine, prompts)[:8], SamplingParams(32, **sampling))
        found += [np.asarray([len(item.token_ids), *item.token_ids]) for item in answers]
    return found


PROBES: dict[str, Callable[[Side, PromptSet], list[Any]]] = {
    "tokenizer": lambda engine, prompts: [np.asarray(ids) for ids in _ids(engine, prompts)[:32]],
    "end tokens": lambda engine, _: [np.asarray(sorted(engine.eos_token_ids))],
    "context": lambda engine, _: [np.asarray([engine.max_length or 0])],
    "bytes": lambda engine, _: [np.asarray([engine.footprint().weight_bytes])],
    "score": _scored,
    "forward": _forward,
    "attentions": lambda engine, prompts: _forward(engine, prompts, output_attentions=True),
    "logits_to_keep": lambda engine, prompts: _forward(engine, prompts, logits_to_keep=5),
    "padded decode": _padded,
    "second call": _second_call,
    "deep decode": _deep,
    "after an end": _after_end,
    "greedy": _greedy,
    "sampled": _sampled,
}


def main() -> None:
    """Print one line for each mutant that is asked for, or each without an effect yet, and keep the effects."""
    from judging import quiet, shared

    quiet()
    loader, prompts = shared()
    wanted = set(sys.argv[1:])
    known: dict[str, dict[str, float]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    # What changes a class comes last: nothing in this process is what it was after it.
    for entry in sorted(catalogue(benign=False), key=lambda entry: entry.kind.patches_reference):
        if (entry.id not in wanted) if wanted else (entry.full_name not in recorded() or entry.id in known):
            continue
        found = effects(entry, partial(loader.side, anew=True), prompts)
        print(
            f"{entry.id}: {', '.join(f'{name} {value:.2g}' for name, value in found.items()) or 'NO EFFECT'}",
            flush=True,
        )
        known[entry.id] = {name: float(f"{value:.3g}") for name, value in found.items()}
        write_json(FILE, dict(sorted(known.items())))


if __name__ == "__main__":
    main()
