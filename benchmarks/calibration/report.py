"""What the studies found, as `results.json` and `RESULTS.md`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study import NULL, interval

from pytest_llmopt.core.environment import describe_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from study import Study

GROUPS = {"zoo": "On the zoo: real engines", "": "Synthetic distributions"}


@dataclass(frozen=True)
class Finished:
    """Alarms of one study: per effect (no effect included), the runs and how often each rate alarmed."""

    runs: Mapping[str, int]
    alarms: Mapping[str, Sequence[int]]
    seconds: float


def rows(study: Study, finished: Finished) -> list[dict[str, Any]]:
    """One entry per rate of a study."""
    found = []
    for place, rate in enumerate(study.rates):
        runs, alarms = finished.runs[NULL], finished.alarms[NULL][place]
        low, high = interval(alarms, runs)
        found.append(
            {
                "name": f"{study.name}: {rate.label}" if rate.label else study.name,
                "nominal": rate.nominal,
                "null_runs": runs,
                "planned_runs": study.null_runs,
                "alarms": alarms,
                "rate": alarms / runs,
                "interval": [low, high],
                "kept": low <= rate.nominal,
                "power": {
                    effect: finished.alarms[effect][place] / finished.runs[effect]
                    for effect in finished.runs
                    if effect != NULL
                },
                "power_runs": max((runs for effect, runs in finished.runs.items() if effect != NULL), default=0),
                "seconds": round(finished.seconds, 1),
                "simulated": study.note,
            }
        )
    return found


def write(folder: Path, seed: int, done: Sequence[tuple[Study, Finished]]) -> None:
    """Both files, with what is finished so far."""
    tests = [row for study, finished in done for row in rows(study, finished)]
    environment = describe_environment()
    content = {"seed": seed, "tests": tests, "environment": environment}
    folder.joinpath("results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    folder.joinpath("RESULTS.md").write_text("\n".join(_lines(seed, tests, environment)), encoding="utf-8")


def _lines(seed: int, tests: list[dict[str, Any]], environment: Mapping[str, Any]) -> list[str]:
    broken = [test for test in tests if not test["kept"]]
    short = [test for test in tests if test["null_runs"] < test["planned_runs"]]
    runs = f"**fewer runs than planned in {len(short)} rows, marked so**" if short else "all planned runs"
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    lines = [
        "# Calibration",
        "",
        f"Made by `make calibration SEED={seed}` ({runs}). Python {environment['python']}, {packages}.",
        "",
        "Each test is run where nothing is wrong. `rate` is how often it alarmed, with Clopper and Pearson's 95 %",
        "interval; the promise counts as kept (PASS) when that interval begins at or below the nominal rate. Of a rate",
        "that is kept exactly, one interval in forty begins above it. A nominal rate of 1e-4 cannot be verified with",
        "some thousand runs (0 alarms in 2,000 only show that it is below 0.0018), so that tests which take a rate are",
        "also run at 1e-2 and 5e-2. Power is the share of runs that alarmed with the effect planted, at that rate.",
        "",
        f"{len(tests) - len(broken)} of {len(tests)} rates are kept.",
        "",
    ]
    if broken:
        lines += ["Not kept:", ""]
        lines += [f"- {test['name']} (nominal {test['nominal']:g}): {_share(test)}" for test in broken] + [""]
    for prefix, title in GROUPS.items():
        chosen = [test for test in tests if test["name"].startswith("zoo") == bool(prefix)]
        if chosen:
            lines += ["", f"## {title}", "", *_table(chosen), "", "### Power", "", *_power(chosen), ""]
    return lines


def _share(test: Mapping[str, Any]) -> str:
    low, high = test["interval"]
    return f"{test['rate']:.4g} [{low:.2g}, {high:.2g}]"


def _runs(test: Mapping[str, Any]) -> str:
    planned = test["planned_runs"]
    return f"{test['null_runs']:,}" + (f" of {planned:,} planned" if test["null_runs"] < planned else "")


def _table(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["| test | nominal | runs | alarms | rate | |", "|---|---|---|---|---|---|"]
    return head + [
        f"| {test['name']} | {test['nominal']:g} | {_runs(test)} | {test['alarms']} | {_share(test)} | "
        f"{'PASS' if test['kept'] else '**not kept**'} |"
        for test in tests
    ]


def _power(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["| test | nominal | runs | share of runs that alarmed |", "|---|---|---|---|"]
    return head + [
        f"| {test['name']} | {test['nominal']:g} | {test['power_runs']} | "
        + "; ".join(f"{effect}: {rate:.2g}" for effect, rate in test["power"].items())
        + " |"
        for test in tests
        if test["power"]
    ]
