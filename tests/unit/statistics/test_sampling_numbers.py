"""Random numbers that are used twice, serve several rows or have few bits are seen, and sound ones are not."""

import math

import numpy as np
import pytest
from distributions import log_softmax

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.statistics.eprocess import sampling_evidence
from pytest_llmopt.statistics.warping import warp

ROWS, STEPS, VOCABULARY = 4, 60, 300
ALARM = math.log(1e4)


def numbers_of(rng, bug=""):
    """One for each row and step."""
    numbers = rng.random((ROWS, STEPS))
    if bug == "before":
        numbers[:, 1::2] = numbers[:, ::2]
    elif bug == "beside":
        numbers[:] = numbers[0]
    elif bug == "coarse":
        numbers = np.floor(numbers * 256) / 256
    return numbers


def evidence(seed, bug="", *, by_id=True, sampling=None, keeps_one_fewer=False, known=None):
    """Of texts that are drawn by the inverse of the distribution function."""
    rng = np.random.default_rng(seed)
    sampling = sampling or SamplingParams(temperature=1.0)
    numbers, targets = numbers_of(rng, bug), []
    for row in range(ROWS):
        log_p = log_softmax(2 * rng.standard_normal((STEPS, VOCABULARY)))
        law = warp(TopLogprobs.from_logprobs(np.zeros(STEPS, int), log_p), sampling)
        p, ids = np.exp(law.logprobs.top_logprobs), law.logprobs.top_ids
        if keeps_one_fewer:
            last = (p > 0).sum(axis=1) - 1
            p[np.arange(STEPS)[last > 0], last[last > 0]] = 0
            p /= p.sum(axis=1, keepdims=True)
        if by_id:
            order = np.argsort(ids, axis=1)
            p, ids = np.take_along_axis(p, order, axis=1), np.take_along_axis(ids, order, axis=1)
        places = np.minimum((p.cumsum(axis=1) <= numbers[row][:, None]).sum(axis=1), VOCABULARY - 1)
        tokens = np.take_along_axis(ids, places[:, None], axis=1)[:, 0]
        targets.append(warp(TopLogprobs.from_logprobs(tokens, log_p, known), sampling))
    return sampling_evidence(targets, beside=[None, *range(ROWS - 1)])


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=1.0), SamplingParams(temperature=1.0, top_p=0.8)])
def test_sound_numbers_do_not_alarm(sampling):
    peaks = [evidence(seed, sampling=sampling).peak for seed in range(60)]
    # Ville: above ln 20 with probability 1/20 at most; 60 runs stay below 8 with probability 0.99.
    assert sum(peak > math.log(20) for peak in peaks) < 8
    assert max(peaks) < ALARM


@pytest.mark.parametrize(
    ("bug", "by_id", "statistic"),
    [
        ("before", True, "number_before"),
        ("before", False, "number_before_sorted"),
        ("beside", True, "number_beside"),
        ("beside", False, "number_beside_sorted"),
        ("coarse", True, "coarse_number"),
        ("coarse", False, "coarse_number_sorted"),
    ],
)
def test_each_fault_is_seen_by_its_own_statistic(bug, by_id, statistic):
    found = evidence(0, bug, by_id=by_id)
    assert found.peak > ALARM
    assert max(found.by_statistic, key=found.by_statistic.get) == statistic


def test_a_filter_that_keeps_one_token_fewer_is_seen_although_nothing_lies_outside():
    found = evidence(0, sampling=SamplingParams(temperature=1.0, top_k=4), keeps_one_fewer=True)
    assert found.violations == 0
    assert found.peak > ALARM
    assert max(found.by_statistic, key=found.by_statistic.get) == "last_kept"


def test_a_tail_that_is_not_known_is_no_evidence_of_its_own():
    assert max(evidence(seed, known=100).peak for seed in range(20)) < ALARM


def test_a_row_beside_itself_is_refused():
    law = warp(TopLogprobs.from_logprobs(np.array([0]), np.log([[0.5, 0.5]])), SamplingParams(temperature=1.0))
    with pytest.raises(ValueError, match="only one before it is known"):
        sampling_evidence([law], beside=[0])
