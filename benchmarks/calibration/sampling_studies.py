"""Studies of the tests on sampled tokens: the e-process by temperature and filter, acceptance, its excess."""

from __future__ import annotations

import importlib.util
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from study import Draw, Study, at_levels, beyond_levels

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.statistics.acceptance import acceptance_identity, expected_acceptance
from pytest_llmopt.statistics.acceptance_evidence import excess_acceptance
from pytest_llmopt.statistics.eprocess import sampling_evidence
from pytest_llmopt.statistics.warping import warp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray, IntArray

CONTEXTS, VOCABULARY, TOKENS = 150, 48, 128
ROUNDING_KL = 2e-4
"""The floor that `assert_lossless` allows for 16 bits."""
SIMULATOR = Path(__file__).parents[2] / "tests" / "unit" / "statistics" / "speculation_simulator.py"
TOP_K_TOO_WIDE = "one more token than top-k"


@cache
def _tables() -> dict[str, FloatArray]:
    """Log-probabilities of a target, of a draft, and of the target computed with other rounding."""
    rng = np.random.default_rng(20)
    logits = 3 * rng.standard_normal((CONTEXTS, VOCABULARY))
    near = logits + 0.01 * rng.standard_normal(logits.shape)
    return {
        "target": _log_softmax(logits),
        "draft": _log_softmax(logits + 1.5 * rng.standard_normal(logits.shape)),
        "rounded": _log_softmax(near),
    }


def _log_softmax(logits: FloatArray) -> FloatArray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@cache
def _law(table: str, temperature: float, top_k: int) -> FloatArray:
    """Probabilities after warping: `[contexts, vocabulary]`."""
    scores = _tables()[table] / temperature
    if top_k:
        scores = np.where(scores >= np.sort(scores, axis=1)[:, -top_k][:, None], scores, -np.inf)
    return np.exp(_log_softmax(scores))


def _pick(rng: np.random.Generator, law: FloatArray, contexts: IntArray) -> IntArray:
    sums = np.cumsum(law[contexts], axis=1)
    return (rng.random((len(contexts), 1)) * sums[:, -1:] > sums).sum(axis=1)


def _tokens(draw: Draw, *, temperature: float, top_k: int, rounded: bool) -> Sequence[bool]:
    """Tokens after contexts of any kind, drawn from the target, or wrongly; four prompts of them."""
    sampling = SamplingParams(temperature=temperature, top_k=top_k)
    contexts = draw.rng.integers(0, CONTEXTS, TOKENS)
    law = _law("rounded" if rounded else "target", temperature, top_k)
    match draw.effect:
        case float(factor):
            law = _law("target", temperature * factor, top_k)
        case ("draft", weight):
            law = weight * _law("draft", temperature, top_k) + (1 - weight) * law
        case str():
            law = _law("target", temperature, top_k + 1)
    drawn = _pick(draw.rng, law, contexts)
    parts = np.split(np.arange(TOKENS), 4)
    tables = _tables()
    evidence = sampling_evidence(
        [warp(TopLogprobs.from_logprobs(drawn[p], tables["target"][contexts[p]]), sampling) for p in parts],
        [warp(TopLogprobs.from_logprobs(drawn[p], tables["draft"][contexts[p]]), sampling).logprobs for p in parts],
        floor_kl=ROUNDING_KL if rounded else 0.0,
    )
    return beyond_levels(evidence.peak)


@cache
def _simulator(temperature: float) -> Any:
    spec = importlib.util.spec_from_file_location("speculation_simulator", SIMULATOR)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(SIMULATOR)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.Speculation(temperature=temperature)


def _speculation(draw: Draw) -> Sequence[bool]:
    """Speculative sampling token by token, with the strata that an engine tells."""
    seed = int(draw.rng.integers(2**31))
    drawn = _simulator(0.7).draws(TOKENS, seed, draw.effect or "")
    place = np.asarray(drawn.block_index)
    strata = {f"proposal {at + 1}": [place == at] for at in range(int(place.max()) + 1)}
    return beyond_levels(sampling_evidence([drawn.target], [drawn.draft], strata=strata).peak)


@cache
def _overlap() -> FloatArray:
    tables = _tables()
    token = np.zeros(CONTEXTS, int)
    sides = [TopLogprobs.from_logprobs(token, tables[name]) for name in ("target", "draft")]
    return expected_acceptance(*sides)


def _proposals(draw: Draw) -> tuple[FloatArray, Any]:
    expected = _overlap()[draw.rng.integers(0, CONTEXTS, 600)]
    accepted = draw.rng.random(600) < expected + (draw.effect or 0.0)
    return expected, accepted


def _identity(draw: Draw) -> Sequence[bool]:
    return at_levels(acceptance_identity(*_proposals(draw)).p_value)


def _excess(draw: Draw) -> Sequence[bool]:
    return beyond_levels(float(excess_acceptance(*_proposals(draw)).max()))


LAWS = {
    "temperature x0.9": 0.9,
    "temperature x0.8": 0.8,
    "20 % of the draft": ("draft", 0.2),
    "the draft itself": ("draft", 1.0),
}
SHIFTS = {f"accepted {shift:+.0%}": shift for shift in (-0.1, -0.05, 0.05, 0.1, 0.2)}
STUDIES = [
    *(
        Study(
            f"sampling_evidence, temperature {temperature}, top-k {top_k or 'off'}{', other rounding' * rounded}",
            partial(_tokens, temperature=temperature, top_k=top_k, rounded=rounded),
            effects={**LAWS, **({TOP_K_TOO_WIDE: "wide"} if top_k else {})},
            power_runs=50,
            note=f"{TOKENS} tokens, looked at after each of them; a draft with 1.5 of 3 logit units of noise",
        )
        for temperature, top_k, rounded in (
            (1.0, 0, False),
            (0.7, 0, False),
            (1.5, 0, False),
            (0.7, 8, False),
            (1.0, 8, False),
            (1.0, 0, True),
        )
    ),
    Study(
        "sampling_evidence, speculation with strata",
        _speculation,
        effects={name: name for name in ("accept_all", "residual_is_p", "ensemble", "temperature", "argmax_draft")},
        power_runs=50,
        note=f"temperature 0.7, {TOKENS} tokens of the simulator of tests/unit/statistics, five proposals a block",
    ),
    Study(
        "acceptance_identity",
        _identity,
        effects=SHIFTS,
        null_runs=10_000,
        chunk=2500,
        note="600 proposals",
    ),
    Study(
        "excess_acceptance",
        _excess,
        effects=SHIFTS,
        null_runs=10_000,
        chunk=2500,
        note="600 proposals, looked at after each; only too many acceptances alarm",
    ),
]
