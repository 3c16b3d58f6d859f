"""What a candidate sampled, with the target's and the draft's view of every token, and the evidence in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._reference import choices, require_finite_reference
from pytest_llmopt.checks._sampling.draft_blocks import DraftBlocks
from pytest_llmopt.checks._vocabulary import require_vocabulary
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.prompt import require_room
from pytest_llmopt.statistics.acceptance import Acceptance, acceptance_identity, expected_acceptance
from pytest_llmopt.statistics.acceptance_evidence import excess_acceptance
from pytest_llmopt.statistics.edge_evidence import EdgeEvidence, edge_evidence
from pytest_llmopt.statistics.eprocess import SamplingEvidence, sampling_evidence
from pytest_llmopt.statistics.warping import IncompleteEvidenceError, WarpedLogprobs, warp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, IntArray
    from pytest_llmopt.core.prompt import Prompt
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import Continuation

ROUNDING_KL = 2e-4
"""Mean KL divergence at temperature 1 that 16-bit rounding alone explains, in nats per token."""

ACCEPTANCE_SHARE = 0.25
"""Of the wealth that is bet on too many acceptances; the rest is bet on the tokens."""

EDGE_SHARE = 0.1
"""Of the wealth that is bet on tokens tied at a filter's edge."""

READINGS = ("warped once", "warped twice")
"""How an engine may warp its draft. Transformers 5 hands the warpers of the target to the draft, whose own `generate`
then appends them again: at temperature 0.7 the draft proposes at 0.49. Lossless all the same, as it verifies with the
distribution that it proposed from."""


@dataclass(frozen=True)
class Rates:
    """What decides an alarm."""

    false_alarm: float
    floor_kl: float
    tie_margin: float


@dataclass(frozen=True, eq=False)
class SampledText:
    """One prompt sampled once."""

    prompt_id: str
    generation: Generation
    scored: TopLogprobs
    """By the reference, before processors and warping."""
    acted_on: TopLogprobs
    """What the candidate's sampler reports, behind the processors that both sides have, before warping."""
    target: WarpedLogprobs
    drafts: tuple[TopLogprobs, ...]
    """The draft's warped log-probabilities by reading; empty where there is no draft."""
    blocks: DraftBlocks
    overlaps: FloatArray
    """Probability that lossless verification accepts a proposal, unless it ends the text: `[readings, tokens]`."""
    least: FloatArray
    """The same without what the unknown tokens of both sides may share: `[readings, tokens]`."""
    beside: int | None
    """The place among all that was drawn of a text that the same call drew, where there is one before it."""

    @property
    def favorite(self) -> FloatArray:
        """The target's probability of the draft's favorite: `[tokens]`."""
        return np.exp(_known(self.target.logprobs, self.drafts[0].top_ids[:, :1]))[:, 0]

    def behind_favorite(self) -> FloatArray:
        """How far the token that came is behind the draft's favorite, in nats before warping twice: `[tokens]`."""
        first = self.drafts[0]
        return (first.top_logprobs[:, 0] - first.token_logprobs).astype(np.float64)


@dataclass(frozen=True, eq=False)
class SamplingFindings:
    """The evidence in all tokens together."""

    log_wealth: FloatArray
    """Of the bets on tokens and on acceptances together, after each token: `[tokens]`."""
    tokens: SamplingEvidence
    """Of the tokens alone."""
    excess: float
    """The highest log-wealth of the bets on too many acceptances, 0 where no draft is known."""
    acceptance: Acceptance | None
    """Against the identity, by the reading that fits; None where no draft is known."""
    lost: float
    """The highest log-wealth of the bets on too few acceptances, by the reading that explains them best."""
    reading: int
    """Which of the readings fits the accepted proposals."""
    edges: EdgeEvidence
    """Of the tokens tied at a filter's edge alone."""

    @property
    def peak(self) -> float:
        """The highest log-wealth so far; NaN where it was ever undefined."""
        return max(0.0, float(self.log_wealth.max())) if not np.isnan(self.log_wealth).any() else math.nan

    @property
    def slow(self) -> bool:
        """Whether proposals are accepted less often than lossless verification would, by every reading."""
        return not self.lost <= self.tokens.threshold

    @property
    def alarm(self) -> bool:
        """Whether the wealth ever exceeded the threshold, or became NaN."""
        return not self.peak <= self.tokens.threshold

    @property
    def tokens_to_alarm(self) -> int | None:
        """How many tokens it took, or None where there is no alarm."""
        return int(np.argmin(self.log_wealth <= self.tokens.threshold)) + 1 if self.alarm else None


@dataclass
class DrawnSample:
    """Everything that was drawn so far."""

    candidate: Side
    reference: Side
    draft: Side | None
    rates: Rates
    sampling: SamplingParams
    """But for the seed, which every round has of its own."""
    drawn: list[SampledText] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of tokens."""
        return sum(len(item.scored) for item in self.drawn)

    def add(self, prompts: Sequence[Prompt], seed: int, max_new_tokens: int | None = None) -> None:
        """Sample each prompt once more, and let reference and draft score what came out.

        Args:
            prompts: kept by length, the longest first, as an engine is likely to make batches of them.
            seed: of this call.
            max_new_tokens: tokens to sample after each, where not those of the setting.

        Raises:
            UnsoundReferenceError: the reference's log-probabilities of some token are not finite.
        """
        sampling = replace(
            self.sampling,
            seed=seed,
            max_new_tokens=self.sampling.max_new_tokens if max_new_tokens is None else max_new_tokens,
        )
        encoded = {place: prompt.encode(self.candidate) for place, prompt in enumerate(prompts)}
        order = sorted(encoded, key=lambda place: len(encoded[place]), reverse=True)
        given = [(prompts[place].id, encoded[place]) for place in order]
        require_room(given, sampling.max_new_tokens, self.candidate, self.reference)
        generations = self.candidate.generate([encoded[place] for place in order], sampling)
        names = [name for name, _ in given]
        require_vocabulary(names, generations, self.reference)
        continuations = [item.continuation for item in generations]
        scored = self.reference.score(continuations)
        for name, continuation, logprobs in zip(names, continuations, scored, strict=True):
            require_finite_reference([name], [continuation], [logprobs])
        laws, acted_on = self._processed(continuations, scored, [item.logprobs for item in generations])
        drafts = [()] * len(names) if self.draft is None else self._readings(self.draft.score(continuations), sampling)
        ends, first = self.candidate.eos_token_ids, len(self.drawn)
        for name, generation, score, law, own, draft in zip(
            names, generations, scored, laws, acted_on, drafts, strict=True
        ):
            target = warp(law, sampling, tie_margin=self.rates.tie_margin)
            blocks = DraftBlocks.of(generation, ends, sampling.max_new_tokens)
            overlaps, least = (_overlaps(target.logprobs, draft, ends, tail=tail) for tail in (True, False))
            place = len(self.drawn)
            beside = place - 1 if place > first else None
            self.drawn.append(SampledText(name, generation, score, own, target, draft, blocks, overlaps, least, beside))

    def _processed(
        self, continuations: Sequence[Continuation], scored: Sequence[TopLogprobs], reported: Sequence[TopLogprobs]
    ) -> tuple[Sequence[TopLogprobs], Sequence[TopLogprobs]]:
        """What each side draws from before warping: behind the logits processors, where the reference has any.

        The draft is opened without them, so that nothing is known of what it proposes by.
        """
        laws = choices(self.reference, continuations, scored)
        if laws is scored:
            return scored, reported
        self._forget_draft()
        return laws, choices(self.candidate, continuations, reported)

    def _forget_draft(self) -> None:
        """Go on as if there was no draft: only power is lost."""
        self.draft = None
        self.drawn = [replace(item, drafts=(), overlaps=item.overlaps[:0], least=item.least[:0]) for item in self.drawn]

    def _readings(self, scored: Sequence[TopLogprobs], sampling: SamplingParams) -> Sequence[tuple[TopLogprobs, ...]]:
        unfiltered = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (1.0, 0, 1.0, 0.0)
        try:
            once = [warp(item, sampling).logprobs for item in scored]
            twice = [] if unfiltered else [warp(item, sampling).logprobs for item in once]
        except IncompleteEvidenceError:  # a draft that is not known well enough is no draft
            self._forget_draft()
            return [()] * len(scored)
        return [(item,) for item in once] if unfiltered else list(zip(once, twice, strict=True))

    def evidence(self) -> SamplingFindings:
        """The evidence in everything drawn so far.

        Which reading of the draft is bet with may depend on the tokens, since the number of readings is paid for: the
        wealth of the chosen one over that number never exceeds the mean wealth of all, which is fair.
        """
        reading = self._fitting_reading()
        drafts = [item.drafts[reading] for item in self.drawn] if self.draft is not None else None
        names = self.drawn[0].blocks.strata
        tokens = sampling_evidence(
            [item.target for item in self.drawn],
            drafts,
            strata={name: [item.blocks.strata[name] for item in self.drawn] for name in names},
            beside=[item.beside for item in self.drawn],
            false_alarm=self.rates.false_alarm,
            floor_kl=self.rates.floor_kl,
        )
        edges = self._edges()
        on_tokens = np.logaddexp(tokens.log_wealth + math.log(1 - EDGE_SHARE), edges.log_wealth + math.log(EDGE_SHARE))
        examined, accepted = self._joined("examined"), self._joined("accepted")
        if self.draft is None or not examined.any():
            return SamplingFindings(on_tokens, tokens, 0.0, None, 0.0, reading, edges)
        bounds = self._overlaps[:, examined]
        # An engine may also propose the draft's favorite, and verify it as the certain proposal that it is.
        most = np.max([*bounds, np.concatenate([item.favorite for item in self.drawn])[examined]], axis=0)
        won = excess_acceptance(most, accepted[examined], floor_kl=self.rates.floor_kl)
        path = np.concatenate([[0.0], won])[np.cumsum(examined)]
        log_wealth = np.logaddexp(
            on_tokens - math.log(len(bounds)) + math.log(1 - ACCEPTANCE_SHARE),
            path + math.log(ACCEPTANCE_SHARE),
        )
        acceptance = acceptance_identity(bounds[reading], accepted[examined])
        lost = self._lost(examined, accepted)
        return SamplingFindings(log_wealth, tokens, max(0.0, float(won.max())), acceptance, lost, reading, edges)

    def _edges(self) -> EdgeEvidence:
        acted_on = [item.acted_on for item in self.drawn]
        given = [item.generation.prompt_ids for item in self.drawn]
        return edge_evidence([item.target for item in self.drawn], acted_on, self.sampling, given)

    def _lost(self, examined: BoolArray, accepted: BoolArray) -> float:
        """The evidence that proposals are accepted too seldom, in nats: of the reading that has the least of it.

        Every reading is a hypothesis of its own, and all have to be refuted. That the engine proposes the draft's
        favorites is one of them until a proposal was accepted that is none.
        """
        readings = list(np.concatenate([item.least for item in self.drawn], axis=1)[:, examined])
        behind = np.concatenate([item.behind_favorite() for item in self.drawn])[accepted]
        if (behind <= self.rates.tie_margin).all():
            ends = sorted(self.candidate.eos_token_ids)
            favorites = [np.where(np.isin(item.drafts[0].top_ids[:, 0], ends), 0, item.favorite) for item in self.drawn]
            readings.append(np.concatenate(favorites)[examined])
        rejected, floor = ~accepted[examined], self.rates.floor_kl
        return max(0.0, min(float(excess_acceptance(1 - least, rejected, floor_kl=floor).max()) for least in readings))

    def proposed(self) -> BoolArray:
        """Where a proposal waited for the token: `[tokens]`."""
        return self._joined("proposed")

    @property
    def _overlaps(self) -> FloatArray:
        return np.concatenate([item.overlaps for item in self.drawn], axis=1)

    def _joined(self, name: str) -> BoolArray:
        return np.concatenate([getattr(item.blocks, name) for item in self.drawn])

    def _fitting_reading(self) -> int:
        """The reading of the draft that explains best which proposals were accepted."""
        if self.draft is None or len(self.drawn[0].drafts) == 1:
            return 0
        target = TopLogprobs.concatenate([item.target.logprobs for item in self.drawn])
        accepted = self._joined("accepted")
        fits = []
        for reading, overlap in enumerate(self._overlaps):
            draft = np.concatenate([item.drafts[reading].token_logprobs for item in self.drawn])
            with np.errstate(divide="ignore", invalid="ignore"):
                law = np.minimum(target.token_logprobs, draft) - np.log(overlap)
            fits.append(float(np.nan_to_num(np.maximum(law[accepted], -30.0)).sum()))
        return int(np.argmax(fits))


def _overlaps(target: TopLogprobs, drafts: Sequence[TopLogprobs], ends: frozenset[int], *, tail: bool) -> FloatArray:
    """Sum of min(p, q) over the tokens that do not end the text, by reading: `[readings, tokens]`."""
    ids = np.broadcast_to(np.array(sorted(ends), int), (len(target), len(ends)))
    shares = [
        expected_acceptance(target, draft, tail=tail)
        - np.exp(np.minimum(_known(target, ids), _known(draft, ids))).sum(axis=1)
        for draft in drafts
    ]
    return np.stack(shares) if shares else np.empty((0, len(target)))


def _known(logprobs: TopLogprobs, ids: IntArray) -> FloatArray:
    """Log-probabilities of given tokens, minus infinity where they are not known."""
    found = logprobs.lookup(ids)
    return np.where(np.isnan(found), -np.inf, found)
