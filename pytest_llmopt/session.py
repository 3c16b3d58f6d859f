"""What lives as long as a pytest session: settings, registries, the loader, what its checks are told."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmopt.core.environment import describe_environment
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.figures import HasFigures
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requirements import Requirement
from pytest_llmopt.core.side import Context, Role, Side
from pytest_llmopt.options import SESSION, SETTINGS
from pytest_llmopt.outcomes import Recorder
from pytest_llmopt.runtime.guard import Guard
from pytest_llmopt.runtime.loader import Loader
from pytest_llmopt.runtime.places import Places
from pytest_llmopt.runtime.remembering import RememberingEngine, Scores
from pytest_llmopt.runtime.timed import Stopwatch, TimedEngine

if TYPE_CHECKING:
    from pytest_llmopt.core.comparison import Comparison
    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.errors import RequirementMissingError
    from pytest_llmopt.core.figures import Figures
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.options import Settings


LIMIT_SHARE = 0.9
"""Of what a test may take, for a request in another process: its end is then told by that and not by the test's."""
EVIDENCE = "evidence"
"""In `--llmopt-require`: nothing may be left unjudged."""
REQUIREMENTS = pytest.StashKey[tuple[Requirement, ...]]()


@dataclass
class Session:
    """One per pytest process with tests of ours."""

    settings: Settings
    optimizations: Registry
    engines: Registry
    loader: Loader
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    scores: Scores = field(default_factory=Scores)
    guard: Guard = field(init=False)
    """Of the references that are open."""

    def __post_init__(self) -> None:
        """Set the guard over the loader."""
        self.guard = Guard(self.engines, self.loader.holds, self._start_anew, self.loader.places.in_process)

    @classmethod
    def of(cls, config: pytest.Config) -> Session:
        """The session of a pytest run: the one there is, or a new one with what plugins add through our hook."""
        known = config.stash.get(SESSION, None)
        if isinstance(known, cls):
            return known
        settings = config.stash[SETTINGS]
        added: dict[str, Any] = {}
        for optimizations in config.hook.pytest_llmopt_optimizations(config=config):
            added |= optimizations
        kinds: dict[str, Any] = {}
        for found in config.hook.pytest_llmopt_engines(config=config):
            kinds |= found
        engines = Registry("engines", "engine", kinds)
        try:
            places = Places.of(
                settings.get("python"),
                isolate=settings.get("isolate"),
                limit_s=LIMIT_SHARE * settings.get("timeout") or None,
                engines=engines.names(),
            )
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None
        loader = Loader(engines, settings.policy, places=places)
        session = cls(settings, Registry("optimizations", "optimization", added), engines, loader)
        config.stash[SESSION] = session
        return session

    def context(self, item: pytest.Item, comparison: Comparison) -> Context:
        """What the checks of a test are told, with a place for their verdicts."""
        both = (comparison.candidate, comparison.reference)
        recorder = Recorder(
            item,
            lambda: self.figures(comparison.candidate),
            lambda error: self.required(error, comparison.candidate.label),
        )

        def open_(variant: Variant) -> Side:
            with self.stopwatch.running():
                engine = self.loader.get(variant, keep=both)
            return self._side("reference", engine, context)

        def reopen(variant: Variant) -> Side:
            with self.stopwatch.running():
                engine = self.loader.reopen(variant, keep=both)
            try:
                return self._side("candidate", engine, context)
            except BaseException:
                engine.close()  # nobody else has it
                raise

        context = Context(
            int(self.settings.get("seed")),
            comparison.budget,
            self.settings.get("inconclusive") == "warn",
            EVIDENCE in self.settings.get("require"),
            open_,
            Path(self.settings.get("cache")),
            recorder.record,
            lambda: self.stopwatch.seconds,
            reopen,
            lambda: self.guard.watching(f"after a check of {comparison.candidate.label}", both),
            recorder.refuse,
            recorder.raised,
        )
        return context

    def open(self, role: Role, comparison: Comparison, context: Context) -> Side:
        """One side of a comparison; a reference is proven to be what it is when it is opened.

        Raises:
            LlmoptError: it cannot be loaded.
            UnsoundReferenceError: a candidate changed the reference, or there is none that is sound.
        """
        variant, keep = getattr(comparison, role), (comparison.candidate, comparison.reference)
        if role == "candidate" and comparison.candidate != comparison.reference and not self.loader.has(variant):
            with self.guard.loading(variant), self.stopwatch.running():
                return self._side(role, self.loader.get(variant, keep=keep), context)
        with self.stopwatch.running():
            side = self._side(role, self.loader.get(variant, keep=keep), context)
        if role == "reference" and not self.guard.adopt(side):
            with self.stopwatch.running():
                side = self._side(role, self.loader.get(variant, keep=keep), context)
            self.guard.adopt(side)
        return side

    def _side(self, role: Role, engine: Engine, context: Context) -> Side:
        """An engine as the checks of a test see it: timed, and a reference remembers what it has scored."""
        timed = TimedEngine(engine, self.stopwatch)
        shown = RememberingEngine(timed, self.scores) if role == "reference" else timed
        return Side(role, shown, self.loader.tokenizer(engine.info.variant), context)

    def _start_anew(self, since: float) -> None:
        """Close every engine, and forget what a reference that changed has said since a moment."""
        self.loader.close()
        self.scores = Scores()
        for file in Path(self.settings.get("cache")).glob("noise-floor/*.json"):
            with contextlib.suppress(OSError):  # another run may have been there first
                if file.stat().st_mtime >= since:
                    file.unlink()

    def figures(self, variant: Variant) -> Figures:
        """What the options of a variant amount to, and what it took to quantize and load so far."""
        told: dict[str, float | str] = {}
        for item in variant.optimizations:
            own = item.options.figures if isinstance(item.options, HasFigures) else {}
            told |= {name: f"{told[name]}, {value}" if name in told else value for name, value in own.items()}
        return told | self.loader.costs.get(variant.digest, {})

    def required(self, error: RequirementMissingError, label: str) -> frozenset[str]:
        """The names in `--llmopt-require` that turn a missing requirement into a failure.

        Args:
            error: what is missing.
            label: of the variants that need it.
        """
        names = {error.name, "all", *(part.partition("(")[0] for part in label.split(" + "))}
        return frozenset(self.settings.get("require")) & names

    def close(self) -> dict[str, Any]:
        """Close every engine; gives what this process has spent."""
        self.loader.close()
        # Only a process that computed on them knows which GPUs there are.
        return self.costs() | {"gpus": describe_environment()["gpus"]}

    def costs(self) -> dict[str, Any]:
        """What this process has spent so far."""
        loads = self.loader.loads
        return {"loads": len(loads), "variants": len(set(loads)), "engine_seconds": self.stopwatch.seconds}
