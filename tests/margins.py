"""How far verdicts stay from their limits: an outcome that hangs on the last bit is another one on another processor.

Every verdict that a check gives while a test runs passes by here, also in the pytest runs that a test makes in its own
process. A judged metric whose interval comes nearer to its limit than a tenth of the way from no difference is listed
when the session ends, and fails it unless the test says why: `@pytest.mark.near_limit("reason")`. A plugin for our own
tests, and for a run of the gate: `PYTHONPATH=tests llmopt gate -p margins`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass

import pytest

from pytest_llmopt.core.verdict import Metric, Status, Verdict

TIMED = "_speedup"
"""Ratios of clocks hang on the load of a machine and not on its rounding."""
TENTH = 0.1
"""The nearest that an interval may come to its limit, as a share of the way from no difference to the limit."""
CARRIED = "llmopt_margins"
"""The attribute of a test report that carries what was near, also from a worker of pytest-xdist."""
MARKER = "near_limit"
RATIOS = {"x", "times", "of rounding"}
"""Units of which no difference is 1; of a share that must be large it is 1 as well, of all else 0."""
SEEN: list[Verdict] = []
"""Verdicts since the last report of a phase of a test."""
SEQUENTIAL = {"log_wealth"}
"""Evidence that grows until it passes its limit and stops there: how far beyond says nothing of how firm it is."""

GROWS = "32 prompts decide it, and where they do not, up to 128 are taken"
COSTLY = "nf4 costs this model nearly what it may; without an adapter, other seeds moved the interval by 0.003"
SUITES = {
    "test_quantized_weights[tiny-qwen-bitsandbytes_int8]": GROWS,
    "test_quantized_weights[tiny-qwen-bitsandbytes_nf4]": COSTLY,
    "test_qlora_accurate[tiny-llama]": GROWS,
    "test_qlora_accurate[tiny-qwen]": COSTLY,
    "test_method[tiny-qwen-awq]": GROWS,
    "test_method[tiny-qwen-compressed_tensors_w4a16]": GROWS,
}
"""Reasons of the shipped suites, whose tests have no marker of ours: they are for the models of others."""


@dataclass(frozen=True)
class Near:
    """A metric of a verdict that came near its limit."""

    nodeid: str
    check: str
    metric: str
    told: str
    distance: float
    reason: str
    """Why it may, as its test declares; empty where it does not."""


def distance(name: str, metric: Metric) -> float:
    """How far the interval is from where its verdict would be another, in units of the way from no difference.

    Infinite for what is exact: counts, and the whole of something (`at least 1` of a share).
    """
    estimate, tolerance = metric.estimate, metric.tolerance
    if name in SEQUENTIAL and metric.status is Status.FAIL:
        return math.inf
    if name.endswith(TIMED):
        return math.inf
    if tolerance is None or math.isnan(estimate.low) or math.isnan(estimate.high):
        return math.inf
    return min(
        (
            _from_bound(bound, metric, _span(name, metric, bound))
            for bound in (tolerance.at_least, tolerance.at_most)
            if math.isfinite(bound)
        ),
        default=math.inf,
    )


def _from_bound(bound: float, metric: Metric, span: float) -> float:
    """The nearer end of the interval from a bound; the end that is less far beyond it where it lies on both sides."""
    low, high = metric.estimate.low, metric.estimate.high
    ends = [end for end in (low, high) if math.isfinite(end)]
    exact = (low == high or len(ends) == 1) and all(float(end).is_integer() for end in (bound, *ends))
    if exact or not ends or not span:
        return math.inf
    return min(abs(end - bound) for end in ends) / span


def _span(name: str, metric: Metric, bound: float) -> float:
    """The way from no difference to a bound."""
    least, most = metric.tolerance.at_least, metric.tolerance.at_most
    if math.isfinite(least) and math.isfinite(most):
        return (most - least) / 2
    whole = metric.unit in RATIOS or name.endswith("_ratio") or (metric.unit == "share" and bound == least)
    return abs(bound - whole)


def near(verdict: Verdict) -> dict[str, float]:
    """The metrics of a verdict that are nearer to their limits than they may be, with how near."""
    found = {name: distance(name, metric) for name, metric in verdict.metrics.items()}
    return {name: value for name, value in found.items() if value < TENTH}


def pytest_configure(config):
    """Watch the verdicts of this process."""
    config.addinivalue_line("markers", f"{MARKER}(reason): a verdict of this test may come near its limit")
    config.pluginmanager.register(Audit(), "llmopt-margins")
    watch()


def watch() -> None:
    """From now on keep what checks decide; verdicts that a test writes by hand are no outcome of any computation."""
    given = Verdict.__init__
    if given.__module__ == __name__:
        return

    def init(self: Verdict, *args: object, **kwargs: object) -> None:
        given(self, *args, **kwargs)
        if sys._getframe(1).f_globals.get("__name__", "").startswith("pytest_llmopt.checks."):
            SEEN.append(self)

    Verdict.__init__ = init


class Audit:
    """Takes what was near out of the reports of this process, or of all workers, and has the last word."""

    def __init__(self) -> None:
        self.judged = 0
        self.near: list[Near] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item):
        """Attach what was near in a phase of a test to its report."""
        report = yield
        mark = item.get_closest_marker(MARKER)
        reason = SUITES.get(item.name.partition("@")[0], "") if mark is None else next(iter(mark.args), "")
        found = [
            asdict(Near(item.nodeid, verdict.check, name, _told(verdict.metrics[name]), value, reason))
            for verdict in SEEN
            for name, value in near(verdict).items()
        ]
        judged = sum(metric.tolerance is not None for verdict in SEEN for metric in verdict.metrics.values())
        SEEN.clear()
        # pytest-xdist carries attributes of plain values to the controller.
        report.__dict__[CARRIED] = [judged, found]
        return report

    def pytest_runtest_logreport(self, report):
        """Keep what the report carries."""
        judged, found = getattr(report, CARRIED, (0, []))
        self.judged += judged
        self.near += [Near(**each) for each in found]

    @property
    def undeclared(self) -> list[Near]:
        """What no test gives a reason for."""
        return [each for each in self.near if not each.reason]

    def pytest_sessionfinish(self, session, exitstatus):
        """Fail a session that would pass."""
        if self.undeclared and exitstatus == pytest.ExitCode.OK and not hasattr(session.config, "workerinput"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        """List what was near: first what is declared, then what fails the session."""
        if not self.judged:
            return
        terminalreporter.section("distance of verdicts from their limits")
        terminalreporter.write_line(
            f"{self.judged:,} judged metrics, {len(self.near)} nearer to a limit than {TENTH:.0%} of the way to it, "
            f"{len(self.undeclared)} of them without a reason"
        )
        for each in sorted(self.near, key=lambda each: (not each.reason, each.nodeid)):
            why = f"may be: {each.reason}" if each.reason else "NOT DECLARED: judge more, set the limit where it "
            why += "" if each.reason else f'belongs, or say why with @pytest.mark.{MARKER}("...")'
            terminalreporter.write_line(f"{each.nodeid}: {each.check}, {each.metric} {each.told}, {each.distance:.1%}")
            terminalreporter.write_line(f"    {why}")


def _told(metric: Metric) -> str:
    estimate, tolerance = metric.estimate, metric.tolerance
    return f"[{estimate.low:.6g}, {estimate.high:.6g}] in [{tolerance.at_least:.6g}, {tolerance.at_most:.6g}]"
