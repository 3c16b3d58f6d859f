"""The same function by other arithmetic: caches, compilation, attention kernels, greedy speculation.

The candidate decodes through its real decode path and reports the log-probabilities that it acted on; the reference
then scores exactly those tokens. No cascade after a first mismatch: every position is evidence. To FAIL, a difference
must be above the measured noise floor *and* above a practical limit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.checks._drift import Observed, classes
from pytest_llmopt.checks._floor import SIXTEEN_BITS, Benign, Floor
from pytest_llmopt.checks._observe import DECODE, Depth, Run, clusters, decode, ways_in, widen
from pytest_llmopt.checks._places import Place, worst_place
from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.divergence import kl_divergence
from pytest_llmopt.statistics.drift import FALSE_ALARM, TESTS, DriftTests, drift_tests, worst_position
from pytest_llmopt.statistics.intervals import cluster_mean
from pytest_llmopt.statistics.noise import tie_margin, times_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.context import Context
    from pytest_llmopt.core.engine import Engine, Generation
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.statistics.shift import DriftTest

__all__ = ["equivalent"]

FEWEST_PROMPTS = 4
"""Below this no test against the noise floor: the practical limits stand alone."""
SECOND_CALL = 0.5
"""Of the tokens of the first call."""


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
    forced_tokens: int = 24,
    deepest: int = 4096,
    least_positions: int = 128,
    false_alarm: float = FALSE_ALARM,
    limits: Limits | None = None,
) -> Verdict:
    """A verdict on whether the candidate decodes greedily as the reference would, up to ties.

    Looks at one greedy decode first: what is broken there fails at once. Then at a second call, at one whose texts stop
    in their middle, and at running text of the prompts deep in the context: tokens forced one at a time, texts read in
    pieces over the cache, and texts read without one. Then at more prompts, while the interval cannot decide.

    Args:
        candidate: the side that decodes.
        reference: the side that scores what was decoded.
        prompts: texts, token ids or a prompt set.
        max_new_tokens: tokens to decode after each prompt.
        num_prompts: how many prompts to begin with; doubled while the interval cannot decide.
        max_prompts: how many to use at most.
        forced_tokens: tokens that are driven through the decode path at each of several depths; 0 for no look at depth.
        deepest: no position beyond this one is looked at, however long the context; it costs that many tokens twice.
        least_positions: positions decoded one at a time, below which there is no PASS but INCONCLUSIVE.
        false_alarm: the probability that rounding alone exceeds the noise floor, over all looks together.
        limits: what to tolerate beyond the floor; the default belongs to the dtype.
    """
    chosen = PromptSet.of(prompts)
    limits = limits or limits_for(candidate, reference)
    context: Context | None = getattr(reference, "context", None)
    benign = Benign(context.open, context.cache) if context is not None and context.open is not None else None
    all_prompts = tuple(chosen)
    last = min(max_prompts, len(chosen))
    count = min(num_prompts, last)
    looks = 2 + math.ceil(math.log2(last / count))
    floor = None if benign is None else benign.floor(reference, chosen)
    judge = partial(_judge, candidate, reference, benign, floor, limits, false_alarm / looks, least_positions)
    run = decode(candidate, reference, all_prompts[:count], max_new_tokens)
    verdict = judge(run)
    if verdict.status is not Status.FAIL:
        again, depth = all_prompts[: max(1, count // 4)], Depth(forced_tokens, deepest, chosen)
        run = widen(run, candidate, reference, again, math.ceil(SECOND_CALL * max_new_tokens), depth)
        verdict = judge(run)
    while verdict.status is Status.INCONCLUSIVE and count < last:
        more = min(2 * count, last)
        run = run.grown(decode(candidate, reference, all_prompts[count:more], max_new_tokens))
        verdict, count = judge(run), more
    if verdict.status is Status.FAIL and candidate.dtype in SIXTEEN_BITS and benign is not None:
        options = {"max_new_tokens": max_new_tokens, "forced_tokens": forced_tokens, "deepest": deepest}
        line = _in_float32(candidate, reference, benign, chosen.take(count), options)
        verdict = dataclasses.replace(verdict, diagnosis=(line, *verdict.diagnosis))
    return verdict


def _judge(
    candidate: Engine,
    reference: Engine,
    benign: Benign | None,
    floor: Floor | None,
    limits: Limits,
    false_alarm: float,
    least_positions: int,
    run: Run,
) -> Verdict:
    observed = run.observed
    positions = sum(len(item.kl) for item in observed)
    copies: list[FloatArray]
    if floor is not None and _beyond_doubt(observed, floor, limits, false_alarm):
        copies = [np.full(len(item.kl), floor.mean_kl) for item in observed]
    else:
        engines = [] if benign is None or _settled(observed, limits) else benign.copies(reference)
        copies = _floor_kl(engines, observed, floor.mean_kl) if engines and floor is not None else []
    excess = [item.kl - own for item, own in zip(observed, copies, strict=True)] if copies else [o.kl for o in observed]
    ways = [
        _way(name, places, observed, excess, copies, floor, limits, false_alarm / len(ways_in(observed)))
        for name, places in ways_in(observed).items()
    ]
    margin = max(limits.tie_margin, 0.0 if floor is None else tie_margin(floor.lead, positions, false_alarm))
    metrics = {
        "max_regret": _largest([item.regret for item in observed], Tolerance(at_most=margin)),
        **{name: metric for way in ways for name, metric in way.metrics.items()},
        **_counts(run, least_positions),
    }
    drifts = {place: _drifts(excess[place], way.tests, limits) for way in ways for place in way.places}
    deepest = run.looked_at["deepest position"]
    told = classes(observed, margin, [drifts[place] for place in range(len(observed))])
    evidence = f"{positions:,} positions up to {deepest:,}, {told}"
    if floor is not None:
        drift = float(np.sqrt(np.mean(np.concatenate([item.drift for item in observed]) ** 2)))
        metrics["times_floor"] = Metric(Estimate.exact(times_floor(drift, floor.drift), positions), unit="x")
        evidence += f", drift {drift:.1e} nats = {times_floor(drift, floor.drift):.2g}x floor"
    greedy = [item.generation for item in observed if not item.forced]
    evidence += _speculation(greedy, metrics) + _compilation(run, metrics)
    if run.depth_left_out:
        evidence += f"; depth left out: {run.depth_left_out}"
    return Verdict("equivalent", metrics, evidence, _diagnosis(candidate, observed, ways, margin), run.looked_at)


@dataclass(frozen=True)
class Way:
    """One way in, judged by itself: what is wrong on one alone must not drown in what is right on the others."""

    places: Sequence[int]
    """Of what was observed."""
    tests: DriftTests | None
    metrics: Mapping[str, Metric]


def _way(
    name: str,
    places: Sequence[int],
    observed: Sequence[Observed],
    excess: Sequence[FloatArray],
    copies: Sequence[FloatArray],
    floor: Floor | None,
    limits: Limits,
    false_alarm: float,
) -> Way:
    chosen, beyond = [observed[place] for place in places], [excess[place] for place in places]
    own = [copies[place] for place in places] if copies else []
    tests = None if floor is None or not own else _tests(chosen, own, floor, false_alarm)
    suffix = "" if name == DECODE else f".{name}"
    metrics = {
        "mean_kl": Metric(
            cluster_mean(clusters(chosen, beyond)),
            _limit(limits.mean_kl, None if tests is None else tests.mean),
            "nats/token",
        ),
        "worst_kl": _largest(beyond, _limit(limits.worst_kl, None if tests is None else tests.worst)),
        **_change_metric(tests, beyond, chosen, limits),
    }
    return Way(places, tests, {f"{key}{suffix}": metric for key, metric in metrics.items()})


def _largest(values: Sequence[FloatArray], tolerance: Tolerance) -> Metric:
    return Metric(Estimate.exact(float(np.max(np.concatenate(values))), sum(map(len, values))), tolerance, "nats")


def _counts(run: Run, least_positions: int) -> dict[str, Metric]:
    """Whole numbers: positions that are not finite, texts of another length, and how much was looked at."""
    observed = run.observed
    nonfinite = sum(int((~item.generation.logprobs.is_finite).sum()) for item in observed)
    greedy = [item for item in observed if not item.forced]
    exact = float(np.mean([item.regret.max() == 0 for item in greedy]))
    decoded = run.decoded_positions
    return {
        "nonfinite": Metric(
            Estimate.exact(nonfinite, sum(len(item.kl) for item in observed)), Tolerance(at_most=0), "positions"
        ),
        "cut_short": Metric(Estimate.exact(run.cut_short, len(greedy)), Tolerance(at_most=0), "prompts"),
        "past_the_end": Metric(Estimate.exact(run.past_the_end, len(greedy)), Tolerance(at_most=0), "tokens"),
        # More would only add to what was seen: too few are no failure, and no PASS.
        "decoded": Metric(
            Estimate(decoded, decoded, math.inf, decoded), Tolerance(at_least=least_positions), "positions"
        ),
        "exact_prompts": Metric(Estimate.exact(exact, len(greedy)), unit="share"),
    }


def _drifts(excess: FloatArray, tests: DriftTests | None, limits: Limits) -> bool:
    """Whether a prompt is beyond a limit, on average or at one position, where the floor does not explain it."""
    on_average = (tests is None or tests.mean.alarm) and float(excess.mean()) > limits.mean_kl
    at_worst = (tests is None or tests.worst.alarm) and float(excess.max()) > limits.worst_kl
    return on_average or at_worst


def limits_for(candidate: Engine, reference: Engine) -> Limits:
    """The limits of the coarser of the two dtypes."""
    order = list(LIMITS)
    return LIMITS[order[max(order.index(candidate.dtype), order.index(reference.dtype))]]


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


def _floor_kl(copies: Sequence[Engine], observed: Sequence[Observed], mean_kl: float) -> list[FloatArray]:
    """KL of benign copies of the reference from it at the very same positions: `[tokens]` per prompt, their mean.

    A prompt where the copies happen to agree (in 16 bits on a CPU, to the bit) is no quieter for other changes, such as
    the decode path or another kernel: every prompt is lifted to the mean of the noisiest change that was measured.
    """
    given = [item.generation.continuation for item in observed]
    by_copy = [
        [kl_divergence(item.reference, own) for item, own in zip(observed, copy.score(given), strict=True)]
        for copy in copies
    ]
    means = [np.mean(values, axis=0) for values in zip(*by_copy, strict=True)]
    return [values + max(0.0, mean_kl - float(values.mean())) for values in means]


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


def _diagnosis(candidate: Engine, observed: Sequence[Observed], ways: Sequence[Way], margin: float) -> list[str]:
    """Where it begins, the first choice that is no tie, and the worst position, as text."""
    lines = [
        f"prompt {item.prompt_id} ended at its token {len(item.generation.logprobs) - 1} "
        f"({item.generation.finish_reason}), and {item.generation.overrun} tokens came after that"
        for item in observed
        if item.generation.overrun
    ][:1]
    changes = [way.tests.change for way in ways if way.tests is not None and way.tests.change is not None]
    lines += [
        f"before position {change.position}: {change.before:.2g}x floor.  from there on: {change.after:.2g}x floor"
        for change in changes
        if change.alarm
    ][:1]
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


def _in_float32(
    candidate: Engine, reference: Engine, benign: Benign, prompts: PromptSet, options: Mapping[str, Any]
) -> str:
    """What a failure in 16 bits becomes in float32: what persists is the algorithm, what vanishes is rounding."""
    try:
        sides = [benign.open(dataclasses.replace(side.variant, dtype="float32")) for side in (candidate, reference)]
        verdict = equivalent(sides[0], sides[1], prompts, num_prompts=len(prompts), **options)
    except LlmoptError as error:
        return f"could not be repeated in float32: {error}"
    if verdict.status is Status.FAIL:
        return "in float32 too: the algorithm, not rounding"
    return f"not in float32 ({verdict.status} there): rounding in {candidate.dtype}, not the algorithm"
