"""The noise floor of a reference: what it differs from itself by under changes that must change nothing."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.engine import Continuation, SamplingParams
from pytest_llmopt.core.environment import describe_environment, fingerprint
from pytest_llmopt.core.errors import RequirementMissingError
from pytest_llmopt.core.files import write_json
from pytest_llmopt.core.loading import locate
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference
from pytest_llmopt.statistics.noise import NoiseFloor, lead_drift, noise_floor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_llmopt.core.engine import Engine, Generation
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet

PROMPTS = 12
TOKENS = 32
EDITION = 2
"""Counts changes of what is measured, so that a floor of another edition is not read from the cache."""
COPIES = 2
"""Permuted copies; each is loaded beside the reference."""
SIXTEEN_BITS = frozenset({"bfloat16", "float16"})


@dataclass(frozen=True)
class Floor:
    """How large benign differences of one reference are, in nats."""

    drift: float
    """Root mean square change of the log-probability of the token that was there."""
    root_kl: NoiseFloor
    """Of the square root of the KL divergence, whose tail is lighter than that of the drift."""
    lead: NoiseFloor
    """Of the lead of the best token over the second best: its bound is the tie margin."""
    mean_kl: float
    """Mean KL divergence under the noisiest of the changes, in nats per token."""
    changes: tuple[str, ...]
    """The benign changes that it was measured under."""


@dataclass(frozen=True)
class Benign:
    """Where the floor of a side comes from: other variants of it, and a place to remember."""

    open: Callable[[Variant], Engine]
    cache: Path

    def copies(self, reference: Engine) -> list[Engine]:
        """Permuted copies of the reference; none where its architecture or its weights do not allow it."""
        try:
            return [self.open(_with(reference.variant, "benign.permuted", seed)) for seed in range(COPIES)]
        except RequirementMissingError:
            return []

    def floor(self, reference: Engine, prompts: PromptSet) -> Floor:
        """The noise floor of a reference in this environment: measured once, then read from the cache."""
        environment = describe_environment() | {"weights": _weights(reference.variant), "edition": EDITION}
        key = f"{reference.variant.digest}-{fingerprint(environment)}"
        file = self.cache / "noise-floor" / f"{key}.json"
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            floors = {name: NoiseFloor(**content[name]) for name in ("root_kl", "lead")}
            return Floor(content["drift"], **floors, mean_kl=content["mean_kl"], changes=tuple(content["changes"]))
        floor = self._measure(reference, prompts.take(PROMPTS))
        write_json(file, dataclasses.asdict(floor), allow_nan=True, indent=None)
        return floor

    def _measure(self, reference: Engine, prompts: PromptSet) -> Floor:
        generations = reference.generate(
            [prompt.encode(reference) for prompt in prompts], SamplingParams(max_new_tokens=TOKENS)
        )
        given = [part for item in generations if (part := without_end(item.continuation, reference)) is not None]
        scored = reference.score(given)
        copies = self.copies(reference)
        sides = {
            "decode path": _logprobs(reference.force(given)),
            "one at a time": [one for item in given for one in _logprobs(reference.force([item]))],
            **{f"permuted {number}": copy.score(given) for number, copy in enumerate(copies)},
            **{
                f"permuted {number}, decode path": _logprobs(copy.force(given))
                for number, copy in enumerate(copies[:1])
            },
            **{
                f"{name}{path}": values
                for name, other in self._others(reference)
                for path, values in (("", other.score(given)), (", decode path", _logprobs(other.force(given))))
            },
        }
        by_change = [list(zip(scored, side, strict=True)) for side in sides.values()]
        pairs = [pair for change in by_change for pair in change]
        kl_by_change = [[kl_divergence(*pair) for pair in change] for change in by_change]
        return Floor(
            float(np.sqrt(np.mean(np.concatenate([logprob_difference(*pair) for pair in pairs]) ** 2))),
            noise_floor([np.sqrt(values) for change in kl_by_change for values in change]),
            noise_floor([lead_drift(*pair) for pair in pairs]),
            max(float(np.concatenate(change).mean()) for change in kl_by_change),
            tuple(sides),
        )

    def _others(self, reference: Engine) -> Iterator[tuple[str, Engine]]:
        """The reference under another attention kernel, and in more bits, where it can have them."""
        variant = reference.variant
        kernels = [item for item in variant.optimizations if item.family == "kernels"]
        changed = {} if kernels else {"eager attention": _with(variant, "kernels.attention", "eager")}
        if reference.dtype in SIXTEEN_BITS:
            changed["float32"] = dataclasses.replace(variant, dtype="float32")
        for name, other in changed.items():
            try:
                yield name, self.open(other)
            except RequirementMissingError:
                continue


def _weights(variant: Variant) -> list[tuple[str, int, int]]:
    """Name, size and time of each weight file of a local model: one that was trained again has another floor."""
    files = sorted(Path(locate(variant.model)).glob("*.safetensors"))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def without_end(continuation: Continuation, engine: Engine) -> Continuation | None:
    """A continuation without the token that ended it, which cannot be forced; None where nothing is left."""
    tokens = continuation.token_ids
    kept = tokens[:-1] if tokens[-1] in engine.eos_token_ids else tokens
    return Continuation(continuation.prompt_ids, kept) if kept else None


def _with(variant: Variant, name: str, option: object) -> Variant:
    kind = Registry("optimizations", "optimization").load(name)
    return dataclasses.replace(variant, optimizations=(*variant.optimizations, Applied(name, kind(option))))


def _logprobs(generations: Sequence[Generation]) -> list[TopLogprobs]:
    return [item.logprobs for item in generations]
