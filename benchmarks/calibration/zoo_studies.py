"""Studies on real engines: benign variants of the zoo that must pass, small bugs that should not, correct sampling."""

from __future__ import annotations

import dataclasses
import os
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from interval_studies import DECISIONS, LOOKS, growing
from planted import BatchSize, LostToken, Permuted, Rounded, SoftmaxScale, WrongTemperature
from study import LEVELS, SIDES, Draw, Rate, Study, beyond_levels, sides

from pytest_llmopt.core.loading import ZOO
from pytest_llmopt.core.variant import Applied, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Context, Side
    from pytest_llmopt.statistics.drift import DriftTests

STATE = Path(os.environ.get("LLMOPT_CALIBRATION_STATE", ".llmopt/calibration"))
DTYPES = ("float32", "bfloat16")
FLOORS = 2
"""Noise floors per model and dtype, each from prompts of its own; a run uses one of them."""
PROMPTS, NEW_TOKENS, FORCED_TOKENS = 8, 16, 32
LONGEST_TEXT = 240
"""Characters of a prompt, to keep each run small."""
KINDS = (
    "permuted",
    "permuted, batch of 1",
    "permuted, batch of 3",
    "eager",
    "batch of 1",
    "static cache",
    "static cache, permuted",
    "batch of 3",
)
VERDICTS = (
    Rate(1e-4, "not PASS"),
    Rate(1e-4, "FAIL"),
    *(Rate(rate.nominal, "above the floor") for rate in LEVELS),
)
"""The verdict at its default rate; the drift tests alone, without the practical limits, at larger rates too."""


@cache
def _loader() -> Any:
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.runtime.loader import Loader

    return Loader(Registry("engines", "engine"), LoadPolicy())


@cache
def _prompts() -> PromptSet:
    from pytest_llmopt.core.loading import fixtures_folder
    from pytest_llmopt.core.prompts import PromptSet

    folder = fixtures_folder() / "prompts"
    both = [PromptSet.load(folder / f"{name}.jsonl") for name in ("default", "calibration")]
    named = [dataclasses.replace(item, id=f"{number}-{item.id}") for number, part in enumerate(both) for item in part]
    return PromptSet(tuple(item for item in named if len(item.text) <= LONGEST_TEXT))


def _some(rng: np.random.Generator, count: int) -> PromptSet:
    from pytest_llmopt.core.prompts import PromptSet

    chosen = rng.choice(len(_prompts()), count, replace=False)
    return PromptSet(tuple(_prompts()[int(place)] for place in chosen))


def _applied(name: str, *options: object) -> Applied:
    from pytest_llmopt.core.registry import Registry

    return Applied(name, Registry("optimizations", "optimization").load(name)(*options))


def _benign(kind: str, seed: int) -> tuple[Applied, ...]:
    """Optimizations that change nothing but the rounding. Seeds of the floor's own copies are never used."""
    parts = {
        "permuted": Applied("planted.permuted", Permuted(2 + seed)),
        "batch of 1": Applied("planted.batch", BatchSize(1)),
        "batch of 3": Applied("planted.batch", BatchSize(3)),
        "eager": _applied("kernels.attention", "eager"),
        "static cache": _applied("decoding.static_cache"),
    }
    return tuple(parts[name] for name in kind.split(", "))


@contextmanager
def _candidate(variant: Variant, context: Context | None = None) -> Iterator[Side]:
    side = _loader().side(variant, "candidate", context, anew=True)
    try:
        yield side
    finally:
        side.close()


def _context(reference: Variant, number: int) -> Context:
    """A context whose noise floor was measured beforehand, on prompts that depend on its number alone."""
    from pytest_llmopt.checks._floor.floor import PROMPTS as FLOOR_PROMPTS
    from pytest_llmopt.checks._floor.floor import Benign

    folder = STATE / "floors" / str(number)
    prompts = _some(np.random.default_rng(number), FLOOR_PROMPTS)
    Benign(folder).floor(_loader().side(reference), prompts)
    context: Context = _loader().context(folder)
    return context


@contextmanager
def _watched() -> Iterator[list[DriftTests]]:
    """The results of the drift tests that an equivalence check runs, so that they can be asked for other rates.

    A check leaves them out where no position reaches a limit; here they are what is studied, and always run.
    """
    from pytest_llmopt.checks import equivalent as module

    own, own_settled, seen = module.drift_tests, module._settled, []  # noqa: SLF001

    def drift_tests(*args: Any, **kwargs: Any) -> DriftTests:
        seen.append(own(*args, **kwargs))
        return seen[-1]

    module.drift_tests = drift_tests
    module._settled = lambda *_: False  # noqa: SLF001
    try:
        yield seen
    finally:
        module.drift_tests, module._settled = own, own_settled  # noqa: SLF001


def _equivalent(draw: Draw, *, dtype: str) -> Sequence[bool]:
    from pytest_llmopt.checks.equivalent import equivalent
    from pytest_llmopt.core.verdict import Status

    model = ZOO[draw.index % len(ZOO)]
    reference = Variant(model, dtype=dtype, device="cpu")
    context = _context(reference, draw.index % FLOORS)
    if draw.effect is None:
        kind = KINDS[draw.index // len(ZOO) % len(KINDS)]
        planted = _benign(kind, int(draw.rng.integers(10**6)))
    else:
        planted = (_benign("permuted", int(draw.rng.integers(10**6)))[0], Applied("planted.bug", draw.effect))
    prompts = _some(draw.rng, PROMPTS)
    variant = dataclasses.replace(reference, optimizations=planted)
    with _candidate(variant, context) as candidate, _watched() as seen:
        sides = [candidate, _loader().side(reference, "reference", context)]
        options = {"max_new_tokens": NEW_TOKENS, "num_prompts": PROMPTS, "max_prompts": PROMPTS}
        verdict = equivalent(*sides, prompts, forced_tokens=FORCED_TOKENS, **options)
    parts = [part for part in (seen[-1].mean, seen[-1].worst, seen[-1].change) if part is not None]
    above = [any(dataclasses.replace(part, false_alarm=rate.nominal / 3).alarm for part in parts) for rate in LEVELS]
    return [verdict.status is not Status.PASS, verdict.status is Status.FAIL, *above]


SAMPLING = (
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_k": 20},
    {"temperature": 0.8, "top_p": 0.9},
)


def _lossless(draw: Draw, *, dtype: str, assisted: bool, tokens: int) -> Sequence[bool]:
    from pytest_llmopt.checks.lossless import lossless

    reference = Variant(ZOO[draw.index % len(ZOO)], dtype=dtype, device="cpu")
    context = _context(reference, draw.index % FLOORS)
    planted = () if assisted else _benign("permuted", int(draw.rng.integers(10**6)))
    planted += (_applied("decoding.assisted"),) if assisted else ()
    planted += () if draw.effect is None else (Applied("planted.bug", draw.effect),)
    variant = dataclasses.replace(reference, optimizations=planted)
    sampling = SAMPLING[draw.index // len(ZOO) % len(SAMPLING)]
    opened = _loader().side(variant, "candidate", context) if assisted else None
    with _candidate(variant, context) if opened is None else nullcontext(opened) as candidate:
        verdict = lossless(
            candidate,
            _loader().side(reference, "reference", context),
            _some(draw.rng, PROMPTS),
            max_new_tokens=min(64, tokens // PROMPTS),
            num_prompts=PROMPTS,
            max_tokens=tokens,
            seed=int(draw.rng.integers(2**31)),
            **sampling,
        )
    return beyond_levels(verdict.metrics["log_wealth"].estimate.point)


@cache
def _population(model: str) -> tuple[FloatArray, ...]:
    """KL divergences of each prompt's own text under 4-bit weights: real skew, for intervals to be tried on."""
    from pytest_llmopt.core.tokens import Continuation
    from pytest_llmopt.statistics.divergence import kl_divergence

    file = STATE / f"population-{model}.npz"
    if not file.is_file():
        reference = _loader().side(Variant(model, dtype="float32", device="cpu"), "reference")
        encoded = [prompt.encode(reference)[:64] for prompt in _prompts()]
        given = [Continuation(tokens[:1], tokens[1:]) for tokens in encoded if len(tokens) > 1]
        rounded = dataclasses.replace(reference.variant, optimizations=(Applied("planted.rounded", Rounded(4)),))
        with _candidate(rounded) as candidate:
            pairs = zip(reference.score(given), candidate.score(given), strict=True)
            values = [kl_divergence(*pair) for pair in pairs]
        file.parent.mkdir(parents=True, exist_ok=True)
        half_written = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(half_written, *values)
        half_written.replace(file)
    with np.load(file) as content:
        return tuple(content[f"arr_{place}"] for place in range(len(content.files)))


def _truth(population: Sequence[FloatArray]) -> float:
    return float(np.concatenate(population).mean())


def _drawn(rng: np.random.Generator, population: Sequence[FloatArray], count: int) -> list[FloatArray]:
    return [population[place] for place in rng.integers(0, len(population), count)]


def _real_mean(draw: Draw, *, model: str, prompts: int) -> Sequence[bool]:
    from pytest_llmopt.statistics.intervals import cluster_mean

    population = _population(model)
    estimate = cluster_mean(_drawn(draw.rng, population, prompts))
    return sides(estimate.low, estimate.high, _truth(population) * (draw.effect or 1.0))


def _real_growing(draw: Draw, *, model: str) -> Sequence[bool]:
    population = _population(model)
    return growing(_drawn(draw.rng, population, LOOKS[-1]), _truth(population) / (draw.effect or 1.0))


LONG = 2048
"""Tokens below which a slightly wrong temperature is not to be seen."""
SCALES = {f"softmax scale {percent} % wrong": SoftmaxScale(1 + percent / 100) for percent in (0.5, 1, 2, 5)}
LOST = {"one cached token lost after 8 steps": LostToken(8)}
STUDIES = [
    *(
        Study(
            f"zoo: equivalent, {dtype}",
            partial(_equivalent, dtype=dtype),
            VERDICTS,
            effects=SCALES | LOST,
            null_runs=54,
            power_runs=3,
            chunk=3,
            note=f"three models x eight benign changes ({'; '.join(KINDS)}), {PROMPTS} prompts x {NEW_TOKENS} tokens, "
            f"{FORCED_TOKENS} forced; bugs are planted into permuted copies",
        )
        for dtype in DTYPES
    ),
    *(
        Study(
            f"zoo: lossless, {'assisted' if assisted else 'permuted copies'}, {dtype}, {tokens} tokens",
            partial(_lossless, dtype=dtype, assisted=assisted, tokens=tokens),
            effects={}
            if tokens < LONG
            else {f"temperature x{factor}": WrongTemperature(factor) for factor in (0.9, 0.8)},
            null_runs=runs,
            power_runs=6,
            chunk=3,
            note="temperature 0.7; 1; 1 with top-k 20; 0.8 with top-p 0.9",
        )
        for dtype, assisted, tokens, runs in (
            ("float32", False, 256, 36),
            ("bfloat16", False, 256, 36),
            ("float32", True, 256, 36),
            ("bfloat16", False, 2048, 6),
        )
    ),
    *(
        Study(
            f"zoo: cluster_mean of the KL of 4-bit weights, {model}, {prompts} prompts",
            partial(_real_mean, model=model, prompts=prompts),
            SIDES,
            effects={f"truth x{factor}": factor for factor in (0.7, 1.5)},
            null_runs=4000,
            chunk=1000,
            note="prompts drawn with replacement from those of the zoo, whose mean is the truth",
        )
        for model in ZOO[:2]
        for prompts in (8, 24, 96)
    ),
    *(
        Study(
            f"zoo: accurate's growing sample, KL of 4-bit weights, {model}",
            partial(_real_growing, model=model),
            DECISIONS,
            effects={f"KL x{factor} of its limit": factor for factor in (0.8, 1.25)},
            note="as above, the true value exactly at the limit",
        )
        for model in ZOO[:2]
    ),
]
