"""Totals and sizes of clusters: what a standard error needs when the tokens of one prompt are not independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.distributions import t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray

ASSUMED_CORRELATION = 0.05
"""Correlation between tokens of one prompt that a proportion is given until the sample shows its own."""

ASSUMED_CLUSTERS = 4
"""The number of prompts that this assumption weighs as much as."""


@dataclass(frozen=True)
class Clusters:
    """The prompts of a sample as totals and sizes. The mean of all tokens is their ratio of totals."""

    totals: FloatArray
    """The sum of each prompt's values: `[prompts]`."""
    sizes: FloatArray
    """The number of values of each prompt, none of them zero: `[prompts]`."""
    nonnegative: bool
    """Whether no value is negative or NaN."""

    @classmethod
    def of(cls, values: Sequence[FloatArray | BoolArray]) -> Clusters:
        """From one array of values per prompt; prompts without values are left out.

        Raises:
            EmptySampleError: there is no value.
        """
        prompts = [np.asarray(prompt, np.float64) for prompt in values if len(prompt)]
        if not prompts:
            msg = f"no values to summarize in {len(values)} prompts"
            raise EmptySampleError(msg)
        return cls(
            totals=np.array([prompt.sum() for prompt in prompts]),
            sizes=np.array([float(len(prompt)) for prompt in prompts]),
            nonnegative=all(bool((prompt >= 0).all()) for prompt in prompts),
        )

    @property
    def clusters(self) -> int:
        """The number of prompts that have values."""
        return len(self.totals)

    @property
    def ratio(self) -> float:
        """The mean over all values."""
        return float(self.totals.sum() / self.sizes.sum())

    @property
    def deviations(self) -> FloatArray:
        """How far the ratio without each prompt is from the mean of such ratios, in the values' unit: `[prompts]`."""
        without = (self.totals.sum() - self.totals) / (self.sizes.sum() - self.sizes)
        return without - without.mean()

    @property
    def standard_error(self) -> float:
        """Of the ratio by the jackknife, in the values' unit. Needs two prompts.

        Deleting one prompt at a time (Cochran 1977, 6.17), which errs upwards (Efron and Stein 1981) where the
        linearized error errs downwards: with few prompts of very different lengths by a fifth.
        """
        share = (self.clusters - 1) / self.clusters
        return float(np.sqrt(share * (self.deviations**2).sum()))

    @property
    def equal_clusters(self) -> float:
        """How many equally long prompts theirs are worth (Kish 1965, 11.7)."""
        return float(self.sizes.sum() ** 2 / (self.sizes**2).sum())

    @property
    def degrees_of_freedom(self) -> float:
        """How many normal values the squared standard error is worth, less one: what its t quantile is read at.

        The smaller of two figures, both prompts - 1 for normal prompts of one length: Kish's number of equally long
        prompts less one, and Satterthwaite's 2 / squared coefficient of variation of a variance, n times that being
        kurtosis - (n - 3) / (n - 1). At least 1.
        """
        n = self.clusters
        scale = float(np.sqrt((self.deviations**2).mean()))
        kurtosis = float(((self.deviations / scale) ** 4).mean()) if scale > 0 else 0.0
        spread = kurtosis - (n - 3) / (n - 1)
        return max(1.0, min(self.equal_clusters - 1, 2 * n / spread if spread > 0 else math.inf))

    @property
    def skewness(self) -> float:
        """Third standardized moment of the prompts, bias-corrected, over the square root of their number."""
        n, scale = self.clusters, float(np.sqrt((self.deviations**2).mean()))
        if n < 3 or scale == 0:  # noqa: PLR2004 - two points have no skewness
            return 0.0
        biased = -float(((self.deviations / scale) ** 3).mean())
        return biased * math.sqrt(n * (n - 1)) / (n - 2) / math.sqrt(n)

    @property
    def skewness_error(self) -> float:
        """Standard error of `skewness` for normal prompts (Cramér 1946, 29.3), over the same root; 0 for two prompts.

        Of skewed prompts the sample shows too little skewness, the less the fewer they are: it is at most (n - 2) /
        sqrt(n - 1) before the correction of its bias.
        """
        n = self.clusters
        return math.sqrt(6 * (n - 1) / ((n - 2) * (n + 1) * (n + 3))) if n > 2 else 0.0  # noqa: PLR2004 - as above

    def effective_size(self, confidence: float) -> float:
        """How many independent values a sample of zeros and ones is worth: its size over its design effect.

        The design effect, at least 1, is the observed one or its average with the assumed one, whichever is larger,
        see `cluster_proportion`; the quotient of t quantiles accounts for the few degrees of freedom it was estimated
        with.
        """
        tokens, share = float(self.sizes.sum()), self.ratio
        if self.clusters == 1:
            return 1.0
        assumed = 1 + max(0.0, float((self.sizes**2).sum()) / tokens - 1) * ASSUMED_CORRELATION
        seen = min(int((self.totals > 0).sum()), int((self.totals < self.sizes).sum()))
        observed = max(1.0, self.standard_error**2 * tokens / (share * (1 - share))) if 0 < share < 1 else 1.0
        effect = max(observed, (seen * observed + ASSUMED_CLUSTERS * assumed) / (seen + ASSUMED_CLUSTERS))
        tail = (1 + confidence) / 2
        fewer = t_quantile(tail, max(tokens - 1, 1)) / t_quantile(tail, max(1.0, self.equal_clusters - 1))
        return tokens / effect * fewer**2
