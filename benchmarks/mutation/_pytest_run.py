"""The judge of what patches classes: the test that a user would write, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from mutation import HERE

if TYPE_CHECKING:
    from mutation import Entry

TEST = """
from pytest_llmopt import llmopt

{markers}
def test_candidate(candidate, reference, prompts):
    gate = getattr(llmopt, "assert_gate", llmopt.assert_equivalent)
    gate(candidate, reference, prompts)
"""
SHORT = 160
"""Characters kept of a message."""


def judged(entry: Entry, seed: int, *, isolated: bool = False) -> dict[str, Any]:
    """What a run of pytest with this plugin says, as the other judges say it: every outcome but a pass is a catch."""
    started = time.perf_counter()
    names = [f"@llmopt.optimization({name!r}, **{dict(given)!r})" for name, given in entry.kind.base]
    names += ["@llmopt.isolated()"] if isolated else []
    with tempfile.TemporaryDirectory() as folder:
        test, report = Path(folder) / "test_candidate.py", Path(folder) / "junit.xml"
        markers = "\n".join([*names, f"@llmopt.optimization({entry.full_name!r})"])
        test.write_text(TEST.format(markers=markers), encoding="utf-8")
        options = [f"--llmopt-model={entry.kind.model_under_test()}", f"--llmopt-dtype={entry.kind.dtype}"]
        options += ["--llmopt-device=cpu", "--llmopt-threads=1", f"--llmopt-seed={seed}", f"--junitxml={report}"]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "mutation",
            "-p",
            "no:cacheprovider",
            *options,
            str(test),
        ]
        path = os.pathsep.join(filter(None, [str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        caught = _outcome(report, done.stdout + done.stderr)
    return {"caught": caught, "seconds": time.perf_counter() - started, "looked_at": {}}


def _outcome(report: Path, printed: str) -> str | None:
    """None of a single pass; of anything else, how it ended and what was said first.

    Raises:
        RuntimeError: no test ran.
    """
    cases = list(ET.parse(report).iter("testcase")) if report.is_file() else []  # noqa: S314 - our own file
    if len(cases) != 1:
        msg = f"the test run judged {len(cases)} candidates instead of one:\n{printed[-2000:]}"
        raise RuntimeError(msg)
    ends = list(cases[0])
    bad = next((item for item in ends if item.tag in {"failure", "error", "skipped"}), None)
    return None if bad is None else f"pytest run: {bad.tag}: {(bad.get('message') or '').strip()[:SHORT]}"
