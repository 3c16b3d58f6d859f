"""Lossless sampling never looks guilty, the known bugs do within some hundred tokens, and rounding is no bug."""

import math

import numpy as np
import pytest
from distributions import log_softmax, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from speculation_simulator import BLOCK, Speculation

from pytest_llmopt.core.errors import EmptySampleError, PositionMismatchError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.statistics.eprocess import ALL, _bets, floor_allowance, sampling_evidence
from pytest_llmopt.statistics.sampling_numbers import NUMBER_STATISTICS
from pytest_llmopt.statistics.sampling_statistics import DRAFT_STATISTICS, TARGET_STATISTICS, Outcomes
from pytest_llmopt.statistics.warping import warp

PLAIN = SamplingParams(temperature=1)
STATISTICS = {**TARGET_STATISTICS, **NUMBER_STATISTICS, **DRAFT_STATISTICS}


def evidence_of(draws, **options):
    return sampling_evidence([draws.target], [draws.draft], **options)


def drawn_from(rng, log_p, k=None, sampling=PLAIN, **options):
    """Tokens drawn from a distribution, and what `warp` says of them given the reference's idea of it."""
    tokens = (log_p[0].cumsum(axis=1) > rng.random((len(log_p[0]), 1))).argmax(axis=1)
    return warp(TopLogprobs.from_logprobs(tokens, log_p[1], k), sampling, **options)


@given(
    st.integers(0, 10_000),
    st.sampled_from(sorted(STATISTICS)),
    st.sampled_from([None, 1, 6]),
    st.sampled_from([PLAIN, SamplingParams(temperature=0.5, top_k=4), SamplingParams(temperature=1, top_p=0.7)]),
)
@settings(max_examples=80, deadline=None)
def test_no_bet_is_favorable_against_the_target(seed, statistic, draft_k, sampling):
    there, log_p, log_q = pair(seed, tokens=6, vocab_size=9, noise=1.0)
    draft = TopLogprobs.from_logprobs(there, log_q, draft_k)
    beside = Outcomes.of(warp(TopLogprobs.from_logprobs(there[::-1], log_q), sampling, tie_margin=0.3))
    mean = 0.0
    for token in range(9):  # at the last position, whatever was drawn before it
        there[-1] = token
        target = warp(TopLogprobs.from_logprobs(there, log_p), sampling, tie_margin=0.3)
        bets = _bets(Outcomes.of(target, draft, beside), STATISTICS[statistic])
        probability = math.exp(target.logprobs.token_logprobs[-1])
        mean = mean + (probability * np.exp(bets.gains[:, -1]) if probability else 0)
    assert mean == pytest.approx(np.ones(12))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_lossless_speculation_never_alarms(temperature):
    language = Speculation(seed=1, temperature=temperature)
    peaks = [evidence_of(language.draws(500, seed)).peak for seed in range(100)]
    assert max(peaks) < math.log(1e4)
    assert np.mean(np.array(peaks) > math.log(20)) <= 0.05  # Ville's inequality at another level


@pytest.mark.parametrize(
    ("bug", "temperature", "tokens"),
    [
        ("accept_all", 1.0, 150),
        ("accept_all", 0.3, 100),
        ("residual_is_p", 1.0, 1200),
        ("residual_is_p", 0.3, 2000),
        ("ensemble", 1.0, 2000),
        ("ensemble", 0.3, 600),
        ("argmax_draft", 1.0, 500),
        ("target_not_warped", 0.3, 100),
        ("reused_noise", 1.0, 1000),
    ],
)
def test_known_bugs_alarm_within_two_thousand_tokens(bug, temperature, tokens):
    language = Speculation(seed=1, temperature=temperature)
    for seed in range(3):
        assert evidence_of(language.draws(tokens, seed, bug)).alarm


def test_a_temperature_of_nine_tenths_for_one_shows_in_the_log_probability():
    evidence = evidence_of(Speculation(seed=1).draws(4000, 0, "temperature"))
    assert evidence.alarm
    assert max(evidence.by_statistic, key=evidence.by_statistic.get) == "log_p"


def test_the_top_k_of_both_sides_is_enough():
    draws = Speculation(seed=1).draws(1500, 0, "accept_all")
    correct = Speculation(seed=1).draws(1500, 0)
    for run, alarm in ((draws, True), (correct, False)):
        target, draft = run.target.logprobs, run.draft
        few = (
            TopLogprobs(side.token_ids, side.token_logprobs, side.top_ids[:, :6], side.top_logprobs[:, :6], 32)
            for side in (target, draft)
        )
        target, draft = few
        assert sampling_evidence([warp(target, PLAIN)], [draft]).alarm is alarm


def test_without_a_draft_the_target_alone_is_tested():
    draws = Speculation(seed=1).draws(500, 0, "argmax_draft")
    evidence = sampling_evidence([draws.target])
    assert evidence.alarm
    assert set(evidence.by_statistic) == {*TARGET_STATISTICS, *NUMBER_STATISTICS}


def test_a_bug_at_one_place_of_the_block_shows_in_its_stratum():
    language = Speculation(seed=1)
    good, bad = language.draws(1500, 0), language.draws(1500, 1, "accept_all")
    strata = {
        "first": [good.block_index < BLOCK, np.zeros(1500, bool)],
        "second": [np.zeros(1500, bool), np.ones(1500, bool)],
    }
    evidence = sampling_evidence([good.target, bad.target], [good.draft, bad.draft], strata=strata)
    assert evidence.by_stratum["first"] < math.log(1e4) < evidence.by_stratum["second"]
    assert evidence.tokens_to_alarm > 1500
    assert set(evidence.by_stratum) == {ALL, "first", "second"}


def test_strata_cost_no_more_than_their_share_of_the_mixture():
    draws = Speculation(seed=1).draws(500, 0, "accept_all")
    alone = evidence_of(draws).log_wealth
    beside = evidence_of(draws, strata={"none": [np.zeros(500, bool)]}).log_wealth
    assert (beside >= alone - math.log(2) - 1e-9).all()


def test_prompts_in_pieces_give_the_evidence_of_the_whole():
    draws = Speculation(seed=1).draws(300, 0, "ensemble")
    whole = sampling_evidence([draws.target]).by_statistic
    halves = [warp(draws.target.logprobs[part], PLAIN) for part in (slice(0, 150), slice(150, 300))]
    pieces = sampling_evidence(halves).by_statistic
    assert all(pieces[name] == pytest.approx(whole[name]) for name in ("log_p", "top1", "rank_pit"))


def test_one_token_outside_the_support_is_proof():
    there, log_p, _ = pair(0)
    there[:] = log_p.argmax(axis=1)
    there[7] = log_p[7].argmin()
    target = warp(TopLogprobs.from_logprobs(there, log_p), SamplingParams(temperature=1, top_k=3))
    evidence = sampling_evidence([target])
    assert evidence.violations == 1
    assert evidence.peak == math.inf
    assert evidence.tokens_to_alarm == 8


def test_a_support_of_near_ties_only_is_no_evidence():
    logprobs = TopLogprobs.from_logprobs(np.array([0, 1, 1]), np.log([[0.4, 0.399, 0.201]] * 3))
    evidence = sampling_evidence([warp(logprobs, SamplingParams(temperature=1, top_k=1), tie_margin=0.01)])
    assert evidence.uncertain == 3
    assert evidence.log_wealth == pytest.approx([0, 0, 0])


def test_nan_alarms():
    there, log_p, _ = pair(0)
    log_p[4] = math.nan
    assert sampling_evidence([warp(TopLogprobs.from_logprobs(there, log_p), PLAIN)]).alarm


def test_rounding_of_the_logits_is_no_evidence_at_a_filters_boundary():
    rng = np.random.default_rng(0)
    peaks, uncertain = [], 0
    for seed in range(30):
        _, log_p, rounded = pair(seed, tokens=400, vocab_size=40, noise=0.02)
        for sampling in (SamplingParams(temperature=0.8, top_k=8), SamplingParams(temperature=1, top_p=0.9)):
            acted_on = warp(TopLogprobs.from_logprobs(np.zeros(400, int), rounded), sampling).logprobs
            p = np.zeros((400, 40))
            np.put_along_axis(p, acted_on.top_ids, np.exp(acted_on.top_logprobs), axis=1)
            target = drawn_from(rng, (p, log_p), sampling=sampling, tie_margin=0.15)
            evidence = sampling_evidence([target])
            assert evidence.violations == 0
            peaks.append(evidence.peak)
            uncertain += evidence.uncertain
    assert max(peaks) < math.log(1e3)
    assert 0 < uncertain < 0.1 * 30 * 800


def test_the_floor_allowance_absorbs_rounding_that_always_leans_one_way():
    rng = np.random.default_rng(0)
    _, log_p, _ = pair(0, tokens=30_000, vocab_size=12)
    leaning = np.exp(log_softmax(log_p / 0.96))
    floor_kl = float((leaning * (np.log(leaning) - log_p)).sum(axis=1).mean())
    target = drawn_from(rng, (leaning, log_p))
    assert sampling_evidence([target]).alarm
    assert sampling_evidence([target], floor_kl=floor_kl).peak < 2
    hot = drawn_from(rng, (np.exp(log_softmax(log_p / 0.8)), log_p))
    assert sampling_evidence([hot], floor_kl=floor_kl).alarm


def test_the_floor_allowance_bounds_the_drift_it_is_derived_for():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(9), 200)
    tilted = np.exp(log_softmax(np.log(p) + 0.05 * rng.standard_normal(p.shape)))
    factor = np.exp(0.4 * np.log(p))
    factor /= (p * factor).sum(axis=1, keepdims=True)
    drift = np.cumsum(np.log((tilted * factor).sum(axis=1)))
    variances = (p * factor**2).sum(axis=1) - 1
    chi2 = (p * (tilted / p - 1) ** 2).sum(axis=1)
    allowed = floor_allowance(variances[None], chi2.max() / 2)[0]
    assert (drift <= allowed).all()


def test_bad_samples_are_refused():
    draws = Speculation(seed=1).draws(50, 0)
    other = Speculation(seed=1).draws(50, 1)
    with pytest.raises(EmptySampleError):
        sampling_evidence([])
    with pytest.raises(PositionMismatchError):
        sampling_evidence([draws.target], [other.draft])
    with pytest.raises(PositionMismatchError, match="'half' covers 25 tokens"):
        sampling_evidence([draws.target], strata={"half": [np.ones(25, bool)]})
