"""A reference is worth something only while it stays what it was: proven around every load and every check.

A candidate that lives in the same process can change its own reference: a library that patches a class, a default dtype
that is left switched, a weight that is shared. Both sides are then wrong alike, and every comparison passes.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.engine import bare
from pytest_llmopt.core.errors import LlmoptError, RequestError, TestTimeoutError, UnsoundReferenceError, WorkerError
from pytest_llmopt.core.requests import Score
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.watching import Change, Watchable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.core.watching import State, Watch

TEXT = "def longest(names, limit=10):\n    for name in names:\n        if len(name) > limit:\n            return name\n"
"""What a reference is asked about; fixed, so that its answers can be compared bit for bit."""
SCORED_TOKENS = 24
CONTEXT_TOKENS = 8
FORCED_TOKENS = 6
"""Through the decode path: a prefill and a few steps."""
NAMED = 5
"""Changes that a message names."""
ADVICE = (
    "Both sides of a comparison run in this process, so a verdict would compare the candidate with itself. "
    "Let the optimization change the loaded model's own modules (`module.forward = ...`) and not their classes, the "
    "library, or a setting of the whole process; or put back what it set before it returns."
)


@dataclass(frozen=True)
class GuardedReference:
    """A reference, and what it was when it was opened."""

    side: Side
    answers: bytes
    """To the fixed request; empty where it does not repeat itself, as sums by atomic operations do not."""
    watch: Watch | None

    @classmethod
    def of(cls, side: Side) -> GuardedReference:
        """What a reference is now."""
        asked = FixedProbe(side)
        # The first request of a process runs what later ones do not: imports, warnings that are given once.
        asked()
        engine = bare(side.engine)
        watch = engine.watch(asked) if isinstance(engine, Watchable) else None
        first, again = asked.answers, asked()
        if first not in {b"", again}:
            warnings.warn(
                f"{side.variant.label} of {side.variant.model} does not repeat itself bit for bit, so that a "
                "candidate leaves it as it is can be told by its code, weights and settings only, not by its answers",
                stacklevel=2,
            )
        return cls(side, again if first == again else b"", watch)

    def changes(self) -> Iterator[Change]:
        """What is otherwise now."""
        asked = FixedProbe(self.side)
        try:
            seen = self.watch.changes(asked) if self.watch is not None else ()
            answers = asked.answers or asked()
        except (WorkerError, TestTimeoutError):
            raise  # a process that ended, or a test that took too long: neither changed anything
        except Exception as error:  # noqa: BLE001 - it answered before: that it no longer does is the finding
            yield Change(f"it no longer answers: {type(error).__name__}: {error}")
            return
        other = self.answers not in {b"", answers}
        changes = [change for change in seen if other or not change.harmless]
        yield from changes
        if other and not changes:
            yield Change("it answers a fixed request otherwise, bit for bit, than before")


class FixedProbe:
    """A fixed request to an engine, and its last answers."""

    def __init__(self, side: Side) -> None:
        """Not asked yet."""
        self._side = side
        self.answers = b""

    def __call__(self) -> bytes:
        """Ask, and give the answers."""
        self.answers = _answers(self._side)
        return self.answers


class Guard:
    """Proves that the references of a session stay what they were, and puts back what a candidate changed."""

    def __init__(
        self,
        engines: Registry,
        holds: Callable[[Engine], bool],
        drop: Callable[[float], None],
        in_process: Callable[[Variant], bool] = lambda _variant: True,
    ) -> None:
        """Start without a reference.

        Args:
            engines: where the kinds of engines are registered.
            holds: whether an engine is still open.
            drop: closes every engine and forgets what was measured since a moment, in seconds since the epoch.
            in_process: whether a variant runs in this process, where others can change it.
        """
        self._engines = engines
        self._holds = holds
        self._drop = drop
        self._in_process = in_process
        self._open: dict[str, GuardedReference] = {}
        self._first: dict[str, bytes] = {}
        self._changing: dict[str, str] = {}
        self._held: list[object] = []
        self._left = ""

    def adopt(self, side: Side) -> bool:
        """Whether a reference is sound; remembers what it is where it was just opened.

        False where something changed it since the last check: then all is put back and every engine is closed, so that
        it has to be opened again. No verdict was given meanwhile.

        Raises:
            UnsoundReferenceError: it is not what its library ships, or not what the same reference was before.
        """
        digest = side.variant.digest
        known = self._open.get(digest)
        if known is not None and bare(known.side.engine) is bare(side.engine):
            changes = list(self._changes())
            if changes:
                self._restore(changes, [], time.time())
                told = _listed(change.what for change in changes)
                warnings.warn(
                    f"the reference had changed since an earlier test: {told}. It was loaded anew", stacklevel=2
                )
            return not changes
        if self._left:
            raise UnsoundReferenceError(self._left)
        now = GuardedReference.of(side)
        if now.watch is not None and now.watch.foreign:
            msg = f"the reference changed: before it was loaded, {_listed(now.watch.foreign)}. {ADVICE}"
            raise UnsoundReferenceError(msg)
        first = self._first.setdefault(digest, now.answers)
        if b"" not in {first, now.answers} and first != now.answers:  # one that does not repeat itself tells nothing
            msg = (
                "the reference changed: loaded anew, it answers the same request otherwise than when it was first "
                "loaded, though all that is known to have changed was put back. This process cannot be restored: run "
                "the tests of this model in a run without the one that ended in ERROR."
            )
            raise UnsoundReferenceError(msg)
        self._open[digest] = now
        return True

    @contextmanager
    def loading(self, variant: Variant) -> Iterator[None]:
        """Around the load of a candidate.

        Raises:
            UnsoundReferenceError: it changed a reference, or the process that references run in.
        """
        if variant.digest in self._changing:
            raise UnsoundReferenceError(self._changing[variant.digest])
        try:
            with self.watching(f"while {variant.label} was loaded", (variant,)):
                yield
        except UnsoundReferenceError as error:
            # Loading it again would do the same again.
            self._changing[variant.digest] = str(error)
            raise

    @contextmanager
    def watching(self, when: str, variants: tuple[Variant, ...]) -> Iterator[None]:
        """Around anything that a candidate does; also where it ends in an error.

        Raises:
            UnsoundReferenceError: a reference, or the process that it runs in, is not what it was.
        """
        started, states = time.time(), self._states(variants)
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it was, the reference is looked at before it goes on
            failure = error
        try:
            changes = [*(change for state in states for change in state.changes()), *self._changes()]
        except (WorkerError, TestTimeoutError) as error:
            raise failure or error from None
        if changes:
            self._restore(changes, states, started)
            msg = f"the reference changed: {_listed([change.what for change in changes])}, {when}. {ADVICE}"
            if failure is not None:
                msg += f"\nMeanwhile: {type(failure).__name__}: {failure}"
            raise UnsoundReferenceError(msg) from failure
        if failure is not None:
            raise failure

    def _states(self, variants: tuple[Variant, ...]) -> list[State]:
        here = [variant for variant in variants if self._in_process(variant)]
        kinds = {variant.engine: self._engines.load(variant.engine) for variant in here}
        return [kind.process_state() for kind in kinds.values() if hasattr(kind, "process_state")]

    def _changes(self) -> Iterator[Change]:
        """What is otherwise with any reference that is open."""
        self._open = {digest: known for digest, known in self._open.items() if self._holds(bare(known.side.engine))}
        for known in self._open.values():
            yield from known.changes()

    def _restore(self, changes: list[Change], states: list[State], since: float) -> None:
        """Put back what can be; the next test loads everything anew, and that must answer as the first did."""
        failed = []
        for change in changes:
            try:
                self._held.append(change.undo() if change.undo is not None else None)
            except Exception as error:  # noqa: BLE001 - the others are put back all the same
                failed.append(f"{change.what} ({type(error).__name__}: {error})")
        self._open.clear()
        self._drop(since)
        failed += [change.what for state in states for change in state.changes()]
        if failed:
            self._left = (
                f"the reference changed in an earlier test, and this process cannot be restored: {_listed(failed)}. "
                "Run the tests of this model in a run without that one."
            )


def _answers(side: Side) -> bytes:
    side = side.fresh()
    tokens = _tokens(side)
    context = max(1, min(CONTEXT_TOKENS, len(tokens) // 2))
    parts = [repr(tokens).encode()]
    if side.can(Score):
        parts += map(_bits, side.score([Continuation(tokens[:context], tokens[context:])]))
    forced = [token for token in tokens[context:] if token not in side.eos_token_ids][:FORCED_TOKENS]
    try:
        emitted = side.force([Continuation(tokens[:context], tuple(forced) or tokens[-1:])])
        parts += [_bits(item.logprobs) for item in emitted]
    except (LlmoptError, NotImplementedError) as error:
        # What it cannot do it could not before either; that it can or cannot is an answer as well.
        parts.append(type(error).__name__.encode())
    return b"".join(parts)


def _tokens(side: Side) -> TokenIds:
    tokens = side.encode(TEXT) or (0, 0)
    room = SCORED_TOKENS if side.max_length is None else min(SCORED_TOKENS, side.max_length)
    if room < 2:  # noqa: PLR2004 - a token of context and one to score
        msg = f"a reference with room for {room} tokens cannot be asked anything: it needs at least two"
        raise RequestError(msg)
    return (tokens * 2)[:room]


def _bits(scored: TopLogprobs) -> bytes:
    return b"".join(array.tobytes() for array in vars(scored).values() if hasattr(array, "tobytes"))


def _listed(items: Iterable[str]) -> str:
    told = list(dict.fromkeys(items))
    more = f"; and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return "; ".join(told[:NAMED]) + more
