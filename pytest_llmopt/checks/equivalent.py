"""The same function by other arithmetic: caches, compilation, attention kernels, greedy speculation.

The candidate decodes through its real decode path and reports the log-probabilities that it acted on; the reference
then scores exactly those tokens. No cascade after a first mismatch: every position is evidence. To FAIL, a difference
must be above the measured noise floor *and* above a practical limit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from pytest_llmopt.checks._equivalence.observation import classes
from pytest_llmopt.checks._equivalence.observe import DecodeRun, Depth, decode, ways_in, widen
from pytest_llmopt.checks._equivalence.ways import Beside, drifts, judge_way, largest
from pytest_llmopt.checks._floor.benign_changes import contradiction
from pytest_llmopt.checks._floor.floor import Benign
from pytest_llmopt.checks._limits import Limits, limits_for
from pytest_llmopt.checks._not_judged import Tail, unanswered, unseen_tail
from pytest_llmopt.checks._places import Place, worst_place
from pytest_llmopt.checks._sequential import Design, Look, doublings
from pytest_llmopt.checks._vocabulary import fails_outside_vocabulary
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.prompt import require_room
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import CountGraphs, ForceDecode, Generate, Score, Vary
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.values import LARGEST, Count, CountOrNone, Probability, Range
from pytest_llmopt.core.varied import SIXTEEN_BITS
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.drift import FALSE_ALARM
from pytest_llmopt.statistics.noise import NEAR_TIE, tie_margin, times_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.checks._equivalence.observation import Observation
    from pytest_llmopt.checks._equivalence.ways import Way
    from pytest_llmopt.checks._floor.floor import Floor
    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.side import Side

__all__ = ["equivalent"]

SECOND_CALL = 0.5
"""Of the tokens of the first call."""


BEYOND_WORST = 4.0
"""The largest benign change of a lead at all positions that are judged, over the largest that the floor has seen."""
MULTIPLE = 3.0
"""A candidate's mean KL divergence over that of a contradiction of its reference, up to which the latter explains it:
the candidate meets what the reference met on other texts, in another batch, perhaps in two ways at once."""
DIVERGENCES = frozenset({"max_regret", "mean_kl", "worst_kl", "kl_after_change"})
"""The metrics that such a contradiction can spoil."""


@checked
@fails_outside_vocabulary
def equivalent(
    candidate: Side,
    reference: Side,
    prompts: object,
    *,
    max_new_tokens: Count = 48,
    num_prompts: Count = 16,
    max_prompts: Count = 96,
    forced_tokens: CountOrNone = 24,
    deepest: Annotated[int, Range(3, LARGEST)] = 4096,
    least_positions: CountOrNone = 64,
    false_alarm: Probability = FALSE_ALARM,
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
        max_prompts: how many to use at most, if `num_prompts` are not more.
        forced_tokens: tokens that are driven through the decode path at each of several depths; 0 for no look at depth.
        deepest: no position beyond this one is looked at, however long the context; it costs that many tokens twice.
        least_positions: positions decoded one at a time, below which there is no PASS but INCONCLUSIVE.
        false_alarm: the probability that rounding alone exceeds the noise floor, over all looks together.
        limits: what to tolerate beyond the floor; the default belongs to the dtype.
    """
    candidate.require(Generate)
    reference.require(Score)
    chosen = PromptSet.of(prompts)
    sizes = doublings(num_prompts, min(max(num_prompts, max_prompts), len(chosen)))
    first = [(prompt.id, prompt.encode(candidate)) for prompt in chosen.take(sizes[0])]
    require_room(first, max_new_tokens, candidate, reference)
    depth = Depth(forced_tokens, deepest, chosen)
    limits = limits or limits_for(candidate, reference)
    sample = DecodedSample(
        candidate, reference, chosen, max_new_tokens, depth, least_positions, limits, _floor(reference, chosen)
    )
    looks = [
        Look(partial(sample.decode, sizes[0]), decides=frozenset({Status.FAIL})),
        Look(sample.widen),
        *(Look(partial(sample.decode, size)) for size in sizes[1:]),
    ]
    verdict = Design(false_alarm, len(looks)).run(looks, partial(_judge, sample))
    if sample.measured is not None:
        _refuse_to_blame(verdict, sample.measured.floor)
        if verdict.status is Status.FAIL and candidate.dtype in SIXTEEN_BITS:
            options = {"max_new_tokens": max_new_tokens, "forced_tokens": forced_tokens, "deepest": deepest}
            line = _in_float32(candidate, reference, chosen.take(sample.count), options)
            verdict = dataclasses.replace(verdict, diagnosis=(line, *verdict.diagnosis))
    return verdict


ENDS = "candidate: it names no token that ends a text, so that an early end is taken at its word"


@dataclass
class DecodedSample:
    """What was observed of a candidate so far, by what it is judged, and how more of it is got."""

    candidate: Side
    reference: Side
    prompts: PromptSet
    max_new_tokens: int
    depth: Depth
    least_positions: int
    limits: Limits
    measured: ReferenceFloor | None
    """The reference's noise floor, where one can be measured."""
    run: DecodeRun = field(default_factory=lambda: DecodeRun(()))
    count: int = 0
    """Prompts that were decoded."""

    def decode(self, count: int) -> None:
        """Decode those of the first prompts that are not yet."""
        more = tuple(self.prompts)[self.count : count]
        self.run = self.run.grown(decode(self.candidate, self.reference, more, self.max_new_tokens))
        self.count = count

    def widen(self) -> None:
        """Look at second calls, stops, depth and every other way in."""
        again = tuple(self.prompts)[: max(1, self.count // 4)]
        tokens = math.ceil(SECOND_CALL * self.max_new_tokens)
        self.run = widen(self.run, self.candidate, self.reference, again, tokens, self.depth)

    @property
    def not_judged(self) -> dict[str, str]:
        """What these engines do not answer."""
        wanted = {"forced positions": ForceDecode, "forward pass": Score, "recompilations": CountGraphs}
        forced = wanted if self.depth.forced_tokens else {"recompilations": CountGraphs}
        observed = self.run.observed
        depth = {"depth": self.run.depth_left_out} if self.run.depth_left_out else {}
        return {
            **unanswered(self.candidate, forced),
            **unanswered(self.reference, {"noise floor": Vary}),
            **({"ends of texts": ENDS} if self.run.ends_unknown else {}),
            **depth,
            **unseen_tail([Tail.of(item.generation.logprobs) for item in observed]),
            **unseen_tail([Tail.of(item.reference) for item in observed], "reference"),
        }


@dataclass(frozen=True)
class ReferenceFloor:
    """A noise floor, and where it came from."""

    benign: Benign
    floor: Floor


def _floor(reference: Side, prompts: PromptSet) -> ReferenceFloor | None:
    """The noise floor of a reference in a session; none where it cannot decode."""
    if reference.context.open is None or not reference.can(Generate):
        return None
    benign = Benign(reference.context.cache)
    return ReferenceFloor(benign, benign.floor(reference, prompts))


def _judge(sample: DecodedSample, false_alarm: float) -> Verdict:
    run, limits = sample.run, sample.limits
    benign, floor = (None, None) if sample.measured is None else (sample.measured.benign, sample.measured.floor)
    observed = run.observed
    positions = sum(len(item.kl) for item in observed)
    beside = Beside.of(sample.reference, benign, floor, observed, limits, false_alarm)
    share = false_alarm / len(ways_in(observed))
    ways = [
        judge_way(name, places, observed, beside, floor, limits, share) for name, places in ways_in(observed).items()
    ]
    margin = max(limits.tie_margin, 0.0 if floor is None else _ties(floor, positions, false_alarm))
    metrics = {
        "max_regret": largest([item.regret for item in observed], Tolerance(at_most=margin)),
        **{name: metric for way in ways for name, metric in way.metrics.items()},
        **_counts(run, sample.least_positions),
    }
    evidence = f"{positions:,} positions up to {run.looked_at['deepest position']:,}, "
    evidence += classes(observed, margin, _drifts(observed, ways, beside, limits))
    if floor is not None:
        drift = float(np.sqrt(np.mean(np.concatenate([item.drift for item in observed]) ** 2)))
        metrics["times_floor"] = Metric(Estimate.exact(times_floor(drift, floor.drift), positions), unit="x")
        evidence += f", drift {drift:.1e} nats = {times_floor(drift, floor.drift):.2g}x floor{_without(floor)}"
    greedy = [item.generation for item in observed if not item.forced]
    evidence += _speculation(greedy, metrics) + _compilation(run, metrics)
    if run.depth_left_out:
        evidence += f"; depth left out: {run.depth_left_out}"
    diagnosis = _diagnosis(sample.candidate, observed, ways, margin) + _reasons(floor)
    return Verdict("equivalent", metrics, evidence, diagnosis, run.looked_at, sample.not_judged)


def _drifts(observed: Sequence[Observation], ways: Sequence[Way], beside: Beside, limits: Limits) -> list[bool]:
    """Whether each text is beyond a limit where the floor does not explain it."""
    beyond = beside.beyond(observed)
    found = {place: drifts(beyond[place], way.tests, limits) for way in ways for place in way.places}
    return [found[place] for place in range(len(observed))]


def _counts(run: DecodeRun, least_positions: int) -> dict[str, Metric]:
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


def _ties(floor: Floor, positions: int, false_alarm: float) -> float:
    """What the floor explains of regret, in nats.

    In 16 bits leads lie on a grid, and a tail that is fitted to a few of its values can grow without bounds: never more
    than `BEYOND_WORST` times what was seen, nor than what counted as near a tie at all.
    """
    bounds = (tie_margin(floor.lead, positions, false_alarm), BEYOND_WORST * floor.lead.worst, NEAR_TIE)
    return float(np.min(bounds))


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
    failed = {name.partition(".")[0] for name, metric in verdict.metrics.items() if metric.status is Status.FAIL}
    if not failed or not floor.contradictions or not failed <= DIVERGENCES:
        return
    name = max(floor.contradictions, key=lambda own: floor.contradictions[own])
    means = [metric.estimate.point for key, metric in verdict.metrics.items() if key.startswith("mean_kl")]
    if max(means) <= MULTIPLE * floor.contradictions[name]:
        raise contradiction(name, floor.contradictions[name], floor.mean_kl)


def _speculation(greedy: Sequence[Generation], metrics: dict[str, Metric]) -> str:
    drafted, accepted = (sum(getattr(own, name) for own in greedy) for name in ("drafted_tokens", "accepted_tokens"))
    if not drafted:
        return ""
    per_token = sum(len(own.steps) for own in greedy) / sum(len(own.logprobs) for own in greedy)
    metrics["acceptance_rate"] = Metric(Estimate.exact(accepted / drafted, drafted), unit="share")
    metrics["target_passes_per_token"] = Metric(Estimate.exact(per_token))
    return f", accepted {accepted / drafted:.0%}, {per_token:.2f} target passes/token"


def _compilation(run: DecodeRun, metrics: dict[str, Metric]) -> str:
    if run.recompiled is None:
        return ""
    metrics["recompilations"] = Metric(Estimate.exact(run.recompiled), Tolerance(at_most=0), "graphs when warm")
    return f", {run.recompiled} recompiled when warm"


def _diagnosis(candidate: Side, observed: Sequence[Observation], ways: Sequence[Way], margin: float) -> list[str]:
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


def _place(candidate: Side, item: Observation, index: int) -> list[str]:
    place = Place(item.prompt_id, item.generation.continuation, index)
    return [f"  {line}" for line in place.describe(candidate, item.reference, item.generation.logprobs)]


def _in_float32(candidate: Side, reference: Side, prompts: PromptSet, options: Mapping[str, Any]) -> str:
    """What a failure in 16 bits becomes in float32: what persists is the algorithm, what vanishes is rounding.

    Both sides compute in float32 where they are; nothing is loaded. No floor is measured: in float32 it is far below
    the practical limits. Whatever goes wrong here, the failure stands.
    """
    for side in (candidate, reference):
        if not side.can(Vary):
            return f"could not be repeated in float32: {side.variant.engine} keeps its dtype"
    try:
        wide = [dataclasses.replace(side.varied("float32"), context=Context()) for side in (candidate, reference)]
        verdict = equivalent(wide[0], wide[1], prompts, num_prompts=len(prompts), **options)
    except Exception as error:  # noqa: BLE001 - a failure is never lost by its own repetition
        return f"could not be repeated in float32: {type(error).__name__}: {error}"
    if verdict.status is Status.FAIL:
        return "in float32 too: the algorithm, not rounding"
    graphs = candidate.compilations() if candidate.can(CountGraphs) else 0
    compiled = ", or the compiled graph, which did not run there" if graphs else ""
    return f"not in float32 ({verdict.status} there): rounding in {candidate.dtype}{compiled}, not the algorithm"
