"""Each quantile is that of scipy.stats, which is not imported for it."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from pytest_llmopt.statistics import distributions

SHARES = (1e-9, 0.00125, 0.025, 0.5, 0.8, 0.975, 0.99875)


@pytest.mark.parametrize("share", SHARES)
def test_continuous_quantiles(share):
    """Of the normal, t and beta distributions, the shapes of a few clustered prompts included."""
    assert distributions.normal_quantile(share) == pytest.approx(stats.norm.ppf(share), rel=1e-12)
    for degrees in (1, 1.7, 7, 95, 4000.5):
        assert distributions.t_quantile(share, degrees) == pytest.approx(stats.t.ppf(share, degrees), rel=1e-9)
    for first, second in ((0.4, 9.1), (1, 32), (37.25, 3.5), (5000, 1.2), (0.01, 1e5)):
        expected = stats.beta.ppf(share, first, second)
        assert distributions.beta_quantile(share, first, second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("tosses", [1, 2, 5, 6, 30, 101, 1000])
def test_a_fair_coin(tosses):
    """Its quantiles, and the two-sided p-value of the exact binomial test."""
    for share in set(SHARES) - {0.5}:  # where two numbers of heads are exactly as right
        assert distributions.fair_coin_quantile(share, tosses) == stats.binom.ppf(share, tosses, 0.5)
    for heads in {0, 1, tosses // 3, tosses // 2, tosses}:
        expected = stats.binomtest(heads, tosses, 0.5).pvalue
        assert distributions.fair_coin_p_value(heads, tosses) == pytest.approx(expected, rel=1e-9)
    assert distributions.fair_coin_p_value(0, 0) == 1.0


@pytest.mark.parametrize("mean", [1e-9, 0.01, 0.7, 12.5, 900.0])
def test_the_upper_end_of_a_poisson_variable(mean):
    """It is exceeded with at most the probability asked for, and one less is not."""
    for tail in (1e-6, 0.001, 0.05, 0.9):
        count = distributions.poisson_upper(tail, mean)
        assert count == stats.poisson.isf(tail, mean)
        assert stats.poisson.sf(count, mean) <= tail
        assert count == 0 or stats.poisson.sf(count - 1, mean) > tail


def test_no_statistic_imports_scipy_stats():
    """It takes half a second, of which nothing is used."""
    code = (
        "import pkgutil, sys, pytest_llmopt.checks as checks, pytest_llmopt.statistics as statistics, importlib\n"
        "for package in (checks, statistics):\n"
        "    for found in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(found.name)\n"
        "print('scipy.stats' in sys.modules, 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]
    assert np.isfinite(distributions.t_quantile(0.975, 3))
