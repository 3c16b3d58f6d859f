"""Quantiles of the common distributions, from scipy.special: importing scipy.stats takes longer than a small check."""

from __future__ import annotations

from scipy import special


def t_quantile(share: float, degrees: float) -> float:
    """The value that a t variable of so many degrees of freedom stays below with this probability."""
    return float(special.stdtrit(degrees, share))


def normal_quantile(share: float) -> float:
    """The value that a standard normal variable stays below with this probability."""
    return float(special.ndtri(share))


def beta_quantile(share: float, first: float, second: float) -> float:
    """The value that a beta variable stays below with this probability."""
    return float(special.betaincinv(first, second, share))


def fair_coin_quantile(share: float, tosses: int) -> int:
    """The smallest number of heads that at most so many are thrown with at least this probability."""
    heads = 0
    while special.bdtr(heads, tosses, 0.5) < share:
        heads += 1
    return heads


def fair_coin_p_value(heads: int, tosses: int) -> float:
    """Two-sided: how often a fair coin is at least as uneven."""
    fewer = min(heads, tosses - heads)
    return min(1.0, 2 * float(special.bdtr(fewer, tosses, 0.5)))


def poisson_upper(tail: float, mean: float) -> int:
    """The smallest number that a Poisson variable exceeds with at most this probability."""
    count = int(mean)
    while count and special.pdtrc(count - 1, mean) <= tail:
        count -= 1
    while special.pdtrc(count, mean) > tail:
        count += 1
    return count
