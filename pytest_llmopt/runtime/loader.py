"""One engine per variant: loaded when first asked for, kept, evicted when memory runs short and nobody uses it."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import LlmoptError, LlmoptWarning, RequirementMissingError, TestTimeoutError, WorkerError
from pytest_llmopt.core.requests import MeasureLoading
from pytest_llmopt.core.requirements import format_bytes
from pytest_llmopt.core.side import Context, Role, Side
from pytest_llmopt.runtime import memory
from pytest_llmopt.runtime.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.tokens import Tokenizer
    from pytest_llmopt.core.variant import Variant


class Loader:
    """Engines by the digest of their variant, least recently used first.

    An engine that was handed out is in use until `release`: nothing evicts it, since somebody holds it.
    """

    def __init__(
        self,
        engines: Registry,
        policy: LoadPolicy,
        available_bytes: Callable[[], int] | None = None,
        places: Places | None = None,
    ) -> None:
        """Start with nothing loaded.

        Args:
            engines: where the kinds of engines are registered.
            policy: what loading may do.
            available_bytes: what memory there is; None asks for that of a variant's device.
            places: where engines run; None for this process.
        """
        self._engines = engines
        self.places = places or Places()
        self._policy = policy
        self._available_bytes = available_bytes
        self._open: OrderedDict[str, Engine] = OrderedDict()
        self._in_use: set[str] = set()
        self._failed: dict[str, LlmoptError] = {}
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._reopened = 0
        self.loads: list[str] = []
        """The digest of every variant that was loaded, in order; one that was evicted and came back is there twice."""
        self.costs: dict[str, dict[str, float]] = {}
        """By digest: what each part of loading took, the least of all its loads, since the first imports a library."""

    def get(self, variant: Variant, *, keep: tuple[Variant, ...] = ()) -> Engine:
        """The engine of a variant, in use until `release`; loads it unless it is there.

        Args:
            variant: what to run.
            keep: variants that will be asked for next: what is loaded of them is not evicted either.

        Raises:
            LlmoptError: it cannot be loaded. The second test that wants it gets the same error at once.
            RequirementMissingError: there is no room for it beside what is in use.
        """
        digest = variant.digest
        if digest in self._failed:
            raise self._failed[digest]
        if not self._runs(digest):
            self._evict(digest)
        if digest not in self._open:
            self._make_room(variant, {other.digest for other in keep})
            try:
                self._open[digest] = self._load(variant, self._policy)
            except (WorkerError, TestTimeoutError):
                raise  # what a process died of it need not die of again, and a test's time is its own
            except LlmoptError as error:
                self._failed[digest] = error
                raise
            self.loads.append(digest)
        self._open.move_to_end(digest)
        self._in_use.add(digest)
        return self._open[digest]

    def tokenizer(self, variant: Variant) -> Tokenizer:
        """What turns text into the tokens of a variant's model, in this process; one for all that run that model.

        Raises:
            ModelError: it cannot be loaded.
        """
        key = (variant.engine, variant.model)
        if key not in self._tokenizers:
            self._tokenizers[key] = self._engines.load(variant.engine).tokenizer(variant, self._policy)
        return self._tokenizers[key]

    def side(
        self, variant: Variant, role: Role = "candidate", context: Context | None = None, *, anew: bool = False
    ) -> Side:
        """A variant as checks take it, where no session is around it.

        Args:
            variant: what to run.
            role: its place in the comparison.
            context: what its checks are told.
            anew: load it again, whatever is loaded; who asks for that closes the side.

        Raises:
            LlmoptError: it cannot be loaded.
        """
        tokenizer = self.tokenizer(variant)  # first: where there is none, nothing is opened that nobody would close
        engine = self.reopen(variant) if anew else self.get(variant)
        return Side(role, engine, tokenizer, context or Context())

    def context(self, cache: Path, seed: int = 0) -> Context:
        """What checks are told where no session is around them: how to open other variants."""
        return Context(
            seed,
            open=lambda variant: self.side(variant, "reference"),
            reopen=lambda variant: self.side(variant, anew=True),
            cache=cache,
        )

    def release(self) -> None:
        """Nothing that was handed out is in use any more: what is loaded stays, and may be evicted from now on."""
        self._in_use.clear()

    def reopen(self, variant: Variant, *, keep: tuple[Variant, ...] = ()) -> Engine:
        """An engine of a variant, loaded anew; who calls this closes it. Never evicts those to `keep`.

        It gets a seed of its own, so that what a load draws at random shows as a difference between two loads.

        Raises:
            LlmoptError: it cannot be loaded.
            RequirementMissingError: there is no room for it beside what is in use.
        """
        self._make_room(variant, {other.digest for other in keep})
        self._reopened += 1
        policy = dataclasses.replace(self._policy, seed=self._policy.seed + self._reopened)
        return self._load(variant, policy, [engine for digest, engine in self._open.items() if digest in self._in_use])

    def _load(self, variant: Variant, policy: LoadPolicy, beside: Iterable[Engine] = ()) -> Engine:
        engine = self.places.open(self._engines, variant, policy, beside)
        try:
            costs = engine.ask(MeasureLoading()) if MeasureLoading in engine.answers else {}
        except BaseException:
            engine.close()
            raise
        if not costs:
            return engine
        known = self.costs.setdefault(variant.digest, {})
        known |= {name: min(took, known.get(name, took)) for name, took in costs.items()}
        return engine

    def _make_room(self, variant: Variant, keep: set[str]) -> None:
        available = self._available_bytes or partial(memory.available_bytes, variant.device)
        wanted = memory.wanted_bytes(variant)
        keep = keep | self._in_use
        for digest in [digest for digest in self._open if digest not in keep]:
            if available() >= wanted:
                return
            self._evict(digest)
        # What it wants at its peak is an estimate; without room for its weights alone it cannot be loaded.
        least, free = memory.least_bytes(variant), available()
        held = dict.fromkeys(self._open[digest].info.variant.label for digest in self._open if digest in keep)
        if held and free < least:
            msg = (
                f"{variant.label} of {variant.model} needs {format_bytes(least)}, and {format_bytes(max(0, free))} are "
                f"free while the test uses {', '.join(held)}: use a smaller dtype, or a machine with more memory"
            )
            name = "memory"
            raise RequirementMissingError(name, msg)

    def _evict(self, digest: str) -> None:
        """Close what nobody uses; where that fails it is no fault of who needs the room."""
        engine = self._open.pop(digest)
        try:
            engine.close()
        except Exception as error:  # noqa: BLE001 - whatever its library raises
            told = f"{engine.info.variant.label} could not be closed: {type(error).__name__}: {error}"
            warnings.warn(f"{told}; its memory may not be free", LlmoptWarning, stacklevel=2)

    def has(self, variant: Variant) -> bool:
        """Whether a variant is loaded."""
        return variant.digest in self._open and self._runs(variant.digest)

    def _runs(self, digest: str) -> bool:
        """Whether what is loaded can be asked; one whose process ended cannot. Also of what is not loaded."""
        return digest not in self._open or bool(getattr(self._open[digest], "alive", True))

    def holds(self, engine: Engine) -> bool:
        """Whether an engine is open, and not evicted."""
        return any(held is engine for held in self._open.values())

    def close(self) -> None:
        """Close every engine that is still open, also when one of them cannot be closed."""
        self.release()
        with ExitStack() as stack:
            while self._open:
                stack.callback(self._open.popitem()[1].close)
