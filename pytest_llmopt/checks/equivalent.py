"""The same function by other arithmetic: caches, compilation, attention kernels, greedy speculation.

The candidate decodes through its real decode path and reports the log-probabilities that it acted on; the reference
then scores exactly those tokens. No cascade after a first mismatch: every position is evidence. To FAIL, a difference
must be above the measured noise floor *and* above a practical limit.
"""

from __future__ import annotations

import dataclasses
import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.checks._benign_changes import contradiction, require_finite
from pytest_llmopt.checks._drift import Observed, classes
from pytest_llmopt.checks._floor import SIXTEEN_BITS, Benign, Floor
from pytest_llmopt.checks._observe import Run, decode, long_prompts, widen
from pytest_llmopt.checks._places import Place, worst_place
from pytest_llmopt.core.engine import Varies
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.divergence import kl_divergence
from pytest_llmopt.statistics.drift import FALSE_ALARM, TESTS, DriftTests, drift_tests, worst_position
from pytest_llmopt.statistics.intervals import cluster_mean
from pytest_llmopt.statistics.noise import NEAR_TIE, tie_margin, times_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.context import Context
    from pytest_llmopt.core.engine import Engine, Generation
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.statistics.shift import DriftTest

__all__ = ["equivalent"]

FEWEST_PROMPTS = 4
"""Below this no test against the noise floor: the practical limits stand alone."""
BEYOND_WORST = 4.0
"""The largest benign change of a lead at all positions that are judged, over the largest that the floor has seen."""
MULTIPLE = 3.0
"""A candidate's mean KL divergence over that of a contradiction of its reference, up to which the latter explains it:
the candidate meets what the reference met on other texts, in another batch, perhaps in two ways at once."""
DIVERGENCES = frozenset({"max_regret", "mean_kl", "worst_kl", "kl_after_change"})
"""The metrics that such a contradiction can spoil."""


@dataclass(frozen=True)
class Limits:
    """What other arithmetic may change beyond the noise floor, in nats."""

    tie_margin: float
    """Most regret: what the reference's best token may be ahead of the one that was emitted."""
    mean_kl: float
    worst_kl: float


LIMITS = {
    "float64": Limits(0.02, 1e-5, 5e-4),
    "float32": Limits(0.02, 1e-5, 5e-4),
    "float16": Limits(0.05, 1e-5, 5e-3),
    "bfloat16": Limits(0.10, 5e-5, 2e-2),
}
"""By dtype. A TF32 matrix product (mean KL 1.5e-6, worst 5e-5 in float32) must pass; the smallest real bugs known
(a softmax scale 2 % off: mean 1e-4, worst 5e-3) must not. KL limits are on what exceeds the floor, which in 16 bits is
itself about 1e-4; the tie margin is absolute: in 16 bits rounding alone moves log-probabilities by 0.1."""


def equivalent(
    candidate: Engine,
    reference: Engine,
    prompts: object,
    *,
    max_new_tokens: int = 48,
    num_prompts: int = 16,
    max_prompts: int = 96,
    forced_tokens: int = 128,
    false_alarm: float = FALSE_ALARM,
    limits: Limits | None = None,
) -> Verdict:
    """A verdict on whether the candidate decodes greedily as the reference would, up to ties.

    Looks at one greedy decode first: what is broken there fails at once. Then at a second call, at one whose texts stop
    in their middle, at tokens forced through the decode path and at chunked prefill; then at more prompts, while the
    interval cannot decide.

    Args:
        candidate: the side that decodes.
        reference: the side that scores what was decoded.
        prompts: texts, token ids or a prompt set.
        max_new_tokens: tokens to decode after each prompt.
        num_prompts: how many prompts to begin with; doubled while the interval cannot decide.
        max_prompts: how many to use at most.
        forced_tokens: the most tokens of long prompts that are driven through the decode path; 0 for none.
        false_alarm: the probability that rounding alone exceeds the noise floor, over all looks together.
        limits: what to tolerate beyond the floor; the default belongs to the dtype.
    """
    chosen = PromptSet.of(prompts)
    limits = limits or limits_for(candidate, reference)
    context: Context | None = getattr(reference, "context", None)
    benign = Benign(context.cache) if context is not None and context.open is not None else None
    all_prompts = tuple(chosen)
    last = min(max_prompts, len(chosen))
    count = min(num_prompts, last)
    looks = 2 + math.ceil(math.log2(last / count))
    floor = None if benign is None else benign.floor(reference, chosen)
    judge = partial(_judge, candidate, reference, benign, floor, limits, false_alarm / looks, max_new_tokens)
    run = decode(candidate, reference, all_prompts[:count], max_new_tokens)
    verdict = judge(run)
    if verdict.status is not Status.FAIL:
        again, long = all_prompts[: max(1, count // 4)], long_prompts(chosen, candidate, forced_tokens)
        run = widen(run, candidate, reference, again, max_new_tokens, long)
        verdict = judge(run)
    while verdict.status is Status.INCONCLUSIVE and count < last:
        more = min(2 * count, last)
        run = run.grown(decode(candidate, reference, all_prompts[count:more], max_new_tokens))
        verdict, count = judge(run), more
    if floor is not None:
        _refuse_to_blame(verdict, floor)
    if verdict.status is Status.FAIL and candidate.dtype in SIXTEEN_BITS and benign is not None:
        options = {"max_new_tokens": max_new_tokens, "forced_tokens": forced_tokens}
        line = _in_float32(candidate, reference, chosen.take(count), options)
        verdict = dataclasses.replace(verdict, diagnosis=(line, *verdict.diagnosis))
    return verdict


def _judge(
    candidate: Engine,
    reference: Engine,
    benign: Benign | None,
    floor: Floor | None,
    limits: Limits,
    false_alarm: float,
    max_new_tokens: int,
    run: Run,
) -> Verdict:
    observed = run.observed
    require_finite([item.reference for item in observed], "scores the candidate's tokens")
    positions = sum(len(item.kl) for item in observed)
    copies: list[FloatArray] = []
    paired = False
    if floor is not None and benign is not None:
        if _beyond_doubt(observed, floor, limits, false_alarm):
            copies, paired = [np.full(len(item.kl), floor.mean_kl) for item in observed], True
        elif not _settled(observed, limits):
            copies, paired = _floor_kl(reference, benign, floor, observed), bool(floor.copies)
    tests = None if floor is None or not paired else _tests(observed, copies, floor, false_alarm)
    margin = max(limits.tie_margin, 0.0 if floor is None else _ties(floor, positions, false_alarm))
    excess = [item.kl - own for item, own in zip(observed, copies, strict=True)] if copies else [o.kl for o in observed]
    worst_kl = float(np.max(np.concatenate(excess)))
    worst_regret = float(np.max(np.concatenate([item.regret for item in observed])))
    nonfinite = sum(int((~item.generation.logprobs.is_finite).sum()) for item in observed)
    greedy = [item.generation for item in observed if not item.forced]
    short = sum(own.finish_reason == "length" and len(own.logprobs) < max_new_tokens for own in greedy)
    beyond = sum(own.overrun + max(0, len(own.logprobs) - max_new_tokens) for own in greedy)
    exact = float(np.mean([item.regret.max() == 0 for item in observed if not item.forced]))
    metrics = {
        "max_regret": Metric(Estimate.exact(worst_regret, positions), Tolerance(at_most=margin), "nats"),
        "mean_kl": Metric(
            cluster_mean(excess), _limit(limits.mean_kl, None if tests is None else tests.mean), "nats/token"
        ),
        "worst_kl": Metric(
            Estimate.exact(worst_kl, positions), _limit(limits.worst_kl, None if tests is None else tests.worst), "nats"
        ),
        **_change_metric(tests, excess, observed, limits),
        "nonfinite": Metric(Estimate.exact(nonfinite, positions), Tolerance(at_most=0), "positions"),
        "cut_short": Metric(Estimate.exact(short, len(greedy)), Tolerance(at_most=0), "prompts"),
        "past_the_end": Metric(Estimate.exact(beyond, len(greedy)), Tolerance(at_most=0), "tokens"),
        "exact_prompts": Metric(Estimate.exact(exact, len(greedy)), unit="share"),
    }
    drifts = [_drifts(values, tests, limits) for values in excess]
    evidence = f"{positions:,} positions, {classes(observed, margin, drifts)}"
    if floor is not None:
        drift = float(np.sqrt(np.mean(np.concatenate([item.drift for item in observed]) ** 2)))
        metrics["times_floor"] = Metric(Estimate.exact(times_floor(drift, floor.drift), positions), unit="x")
        evidence += f", drift {drift:.1e} nats = {times_floor(drift, floor.drift):.2g}x floor{_without(floor)}"
    evidence += _speculation(greedy, metrics) + _compilation(run, metrics)
    return Verdict("equivalent", metrics, evidence, _diagnosis(candidate, observed, tests, margin) + _reasons(floor))


def _drifts(excess: FloatArray, tests: DriftTests | None, limits: Limits) -> bool:
    """Whether a prompt is beyond a limit, on average or at one position, where the floor does not explain it."""
    on_average = (tests is None or tests.mean.alarm) and float(excess.mean()) > limits.mean_kl
    at_worst = (tests is None or tests.worst.alarm) and float(excess.max()) > limits.worst_kl
    return on_average or at_worst


def limits_for(candidate: Engine, reference: Engine) -> Limits:
    """The limits of the coarser of the two dtypes."""
    order = list(LIMITS)
    return LIMITS[order[max(order.index(candidate.dtype), order.index(reference.dtype))]]


def _ties(floor: Floor, positions: int, false_alarm: float) -> float:
    """What the floor explains of regret, in nats.

    In 16 bits leads lie on a grid, and a tail that is fitted to a few of its values can grow without bounds: never more
    than `BEYOND_WORST` times what was seen, nor than what counted as near a tie at all.
    """
    bounds = (tie_margin(floor.lead, positions, false_alarm), BEYOND_WORST * floor.lead.worst, NEAR_TIE)
    return float(np.min(bounds))


def _settled(observed: Sequence[Observed], limits: Limits) -> bool:
    """Whether no position reaches even the limit of the mean: then no divergence can fail, whatever the copies say."""
    return all(float(item.kl.max()) <= limits.mean_kl for item in observed)


def _beyond_doubt(observed: Sequence[Observed], floor: Floor, limits: Limits, false_alarm: float) -> bool:
    """Whether a position exceeds both its limit and all that the floor's tail explains.

    That fails whatever copies of the reference say at the same positions, so they are not loaded for it.
    """
    share = false_alarm / TESTS
    worst = worst_position([np.sqrt(item.kl) for item in observed], floor.root_kl, false_alarm=share)
    explained = floor.root_kl.bound(sum(len(item.kl) for item in observed), share) ** 2
    return worst.alarm and not worst.value**2 - explained <= limits.worst_kl


def _limit(practical: float, test: DriftTest | None) -> Tolerance:
    """A practical limit counts only for what is above the measured floor; without a floor it stands alone."""
    return Tolerance(at_most=practical if test is None or test.alarm else math.inf)


def _floor_kl(reference: Engine, benign: Benign, floor: Floor, observed: Sequence[Observed]) -> list[FloatArray]:
    """KL of benign copies of the reference from it at the very same positions: `[tokens]` per prompt, their mean.

    A prompt where the copies happen to agree (in 16 bits on a CPU, to the bit) is no quieter for other changes, such as
    the decode path or another kernel: every prompt is lifted to the mean of the noisiest change that was measured.
    Where the reference has no copies, that mean is all there is.
    """
    by_copy = [
        [kl_divergence(item.reference, own) for item, own in zip(observed, copy, strict=True)]
        for copy in benign.beside(reference, floor, [item.generation.continuation for item in observed])
    ]
    if not by_copy:
        return [np.full(len(item.kl), floor.mean_kl) for item in observed]
    means = [np.mean(values, axis=0) for values in zip(*by_copy, strict=True)]
    return [values + max(0.0, floor.mean_kl - float(values.mean())) for values in means]


def _without(floor: Floor) -> str:
    """What a floor lacks, for the evidence."""
    names = [*floor.left_out, *floor.contradictions]
    return f" (measured without {', '.join(names)})" if names else ""


def _reasons(floor: Floor | None) -> list[str]:
    """Why a floor lacks it, for the diagnosis."""
    if floor is None:
        return []
    found = [f"{name}: {figure:.2g} nats per token, beyond rounding" for name, figure in floor.contradictions.items()]
    reasons = [*(f"{name}: {why}" for name, why in floor.left_out.items()), *found]
    return [f"left out of the noise floor: {reason}" for reason in reasons]


def _refuse_to_blame(verdict: Verdict, floor: Floor) -> None:
    """Refuse to fail a candidate for no more than what its reference differs from itself by.

    Raises:
        UnsoundReferenceError: the verdict is such a failure.
    """
    failed = {name for name, metric in verdict.metrics.items() if metric.status is Status.FAIL}
    if not failed or not floor.contradictions or not failed <= DIVERGENCES:
        return
    name = max(floor.contradictions, key=lambda own: floor.contradictions[own])
    if verdict.metrics["mean_kl"].estimate.point <= MULTIPLE * floor.contradictions[name]:
        raise contradiction(name, floor.contradictions[name], floor.mean_kl)


def _tests(
    observed: Sequence[Observed], floor_kl: Sequence[FloatArray], floor: Floor, false_alarm: float
) -> DriftTests | None:
    """Whether the candidate is above the noise floor; None where there are too few prompts to say."""
    if len(observed) < FEWEST_PROMPTS:
        return None
    kl, starts = [item.kl for item in observed], [item.start for item in observed]
    return drift_tests(kl, floor_kl, floor.root_kl, paired=True, starts=starts, false_alarm=false_alarm)


def _change_metric(
    tests: DriftTests | None, excess: Sequence[FloatArray], observed: Sequence[Observed], limits: Limits
) -> dict[str, Metric]:
    """The mean beyond the position from which on the candidate differs more, where there is such a position."""
    if tests is None or tests.change is None or not tests.change.alarm:
        return {}
    beyond = [kl[max(0, tests.change.position - item.start) :] for kl, item in zip(excess, observed, strict=True)]
    after = cluster_mean([kl for kl in beyond if len(kl)])
    return {"kl_after_change": Metric(after, Tolerance(at_most=limits.mean_kl), "nats/token")}


def _speculation(greedy: Sequence[Generation], metrics: dict[str, Metric]) -> str:
    drafted, accepted = (sum(getattr(own, name) for own in greedy) for name in ("drafted_tokens", "accepted_tokens"))
    if not drafted:
        return ""
    per_token = sum(len(own.steps) for own in greedy) / sum(len(own.logprobs) for own in greedy)
    metrics["acceptance_rate"] = Metric(Estimate.exact(accepted / drafted, drafted), unit="share")
    metrics["target_passes_per_token"] = Metric(Estimate.exact(per_token))
    return f", accepted {accepted / drafted:.0%}, {per_token:.2f} target passes/token"


def _compilation(run: Run, metrics: dict[str, Metric]) -> str:
    if run.recompiled is None:
        return ""
    metrics["recompilations"] = Metric(Estimate.exact(run.recompiled), Tolerance(at_most=0), "graphs when warm")
    return f", {run.recompiled} recompiled when warm"


def _diagnosis(candidate: Engine, observed: Sequence[Observed], tests: DriftTests | None, margin: float) -> list[str]:
    """Where it begins, the first choice that is no tie, and the worst position, as text."""
    lines = [
        f"prompt {item.prompt_id} ended at its token {len(item.generation.logprobs) - 1} "
        f"({item.generation.finish_reason}), and {item.generation.overrun} tokens came after that"
        for item in observed
        if item.generation.overrun
    ][:1]
    change = tests.change if tests is not None else None
    if change is not None and change.alarm:
        lines.append(
            f"before position {change.position}: {change.before:.2g}x floor.  from there on: {change.after:.2g}x floor"
        )
    beyond = [item for item in observed if item.regret.max() > margin]
    if beyond:
        index = int(np.argmax(beyond[0].regret > margin))
        lines.append(f"first beyond the tie margin of {margin:.2g} nats, regret {beyond[0].regret[index]:.3g}:")
        lines += _place(candidate, beyond[0], index)
    row, place = worst_place(
        [item.prompt_id for item in observed],
        [item.generation.continuation for item in observed],
        [item.kl for item in observed],
    )
    lines.append(f"worst KL {observed[row].kl[place.index]:.3g} nats:")
    return lines + _place(candidate, observed[row], place.index)


def _place(candidate: Engine, item: Observed, index: int) -> list[str]:
    place = Place(item.prompt_id, item.generation.continuation, index)
    return [f"  {line}" for line in place.describe(candidate, item.reference, item.generation.logprobs)]


def _in_float32(candidate: Engine, reference: Engine, prompts: PromptSet, options: Mapping[str, Any]) -> str:
    """What a failure in 16 bits becomes in float32: what persists is the algorithm, what vanishes is rounding.

    Both sides compute in float32 where they are; nothing is loaded. No floor is measured: in float32 it is far below
    the practical limits. Whatever goes wrong here, the failure stands.
    """
    engines: list[Engine] = [getattr(side, "engine", side) for side in (candidate, reference)]
    try:
        with ExitStack() as stack:
            for engine in engines:
                if not isinstance(engine, Varies):
                    return f"could not be repeated in float32: {engine.variant.engine} keeps its dtype"
                stack.enter_context(engine.varied("float32"))
            verdict = equivalent(engines[0], engines[1], prompts, num_prompts=len(prompts), **options)
    except Exception as error:  # noqa: BLE001 - a failure is never lost by its own repetition
        return f"could not be repeated in float32: {type(error).__name__}: {error}"
    if verdict.status is Status.FAIL:
        return "in float32 too: the algorithm, not rounding"
    compiled = ", or the compiled graph, which did not run there" if candidate.compilations() else ""
    return f"not in float32 ({verdict.status} there): rounding in {candidate.dtype}{compiled}, not the algorithm"
