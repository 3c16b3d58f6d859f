"""One engine per variant: loaded when first asked for, kept, evicted when memory runs short."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_llmopt.core.engine import KnowsLoadingCosts
from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.runtime import memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.variant import Variant


class Loader:
    """Engines by the digest of their variant, least recently used first."""

    def __init__(
        self, engines: Registry, policy: LoadPolicy, available_bytes: Callable[[], int] = memory.available_bytes
    ) -> None:
        """Start with nothing loaded."""
        self._engines = engines
        self._policy = policy
        self._available_bytes = available_bytes
        self._open: OrderedDict[str, Engine] = OrderedDict()
        self._failed: dict[str, LlmoptError] = {}
        self._reopened = 0
        self.loads: list[str] = []
        """The digest of every variant that was loaded, in order; one that was evicted and came back is there twice."""
        self.costs: dict[str, dict[str, float]] = {}
        """By digest: what each part of loading took, the least of all its loads, since the first imports a library."""

    def get(self, variant: Variant, *, keep: tuple[Variant, ...] = ()) -> Engine:
        """The engine of a variant; loads it unless it is there. Never evicts those to `keep`.

        Raises:
            LlmoptError: it cannot be loaded. The second test that wants it gets the same error at once.
        """
        digest = variant.digest
        if digest in self._failed:
            raise self._failed[digest]
        if digest not in self._open:
            self._make_room(variant, {other.digest for other in keep})
            try:
                self._open[digest] = self._load(variant, self._policy)
            except LlmoptError as error:
                self._failed[digest] = error
                raise
            self.loads.append(digest)
        self._open.move_to_end(digest)
        return self._open[digest]

    def reopen(self, variant: Variant, *, keep: tuple[Variant, ...] = ()) -> Engine:
        """An engine of a variant, loaded anew; who calls this closes it. Never evicts those to `keep`.

        It gets a seed of its own, so that what a load draws at random shows as a difference between two loads.

        Raises:
            LlmoptError: it cannot be loaded.
        """
        self._make_room(variant, {other.digest for other in keep})
        self._reopened += 1
        return self._load(variant, dataclasses.replace(self._policy, seed=self._policy.seed + self._reopened))

    def _load(self, variant: Variant, policy: LoadPolicy) -> Engine:
        engine: Engine = self._engines.load(variant.engine).open(variant, policy)
        if isinstance(engine, KnowsLoadingCosts):
            known = self.costs.setdefault(variant.digest, {})
            known |= {name: min(took, known.get(name, took)) for name, took in engine.loading_costs.items()}
        return engine

    def _make_room(self, variant: Variant, keep: set[str]) -> None:
        wanted = memory.wanted_bytes(variant)
        for digest in [digest for digest in self._open if digest not in keep]:
            if self._available_bytes() >= wanted:
                return
            self._open.pop(digest).close()

    def has(self, variant: Variant) -> bool:
        """Whether a variant is loaded."""
        return variant.digest in self._open

    def holds(self, engine: Engine) -> bool:
        """Whether an engine is open, and not evicted."""
        return any(held is engine for held in self._open.values())

    def close(self) -> None:
        """Close every engine that is still open, also when one of them cannot be closed."""
        with ExitStack() as stack:
            while self._open:
                stack.callback(self._open.popitem()[1].close)
