"""A reference against itself under changes that must change nothing, each of which has to prove that it does not.

In float32 a benign change moves the distributions by a mean KL divergence of about 1e-12 nats per token. What moves
them by more than `ROUNDING` is no benign change: a copy that is another function, or a reference that contradicts
itself. In 16 bits rounding is as large as small bugs are, so a change proves itself on the same weights in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmopt.checks._floor.figures import ChangedReference, Floor, floor_of
from pytest_llmopt.checks._floor.texts import Texts, texts_of
from pytest_llmopt.core.errors import NothingToChangeError, RequirementMissingError, UnsoundReferenceError, WorkerError
from pytest_llmopt.core.requests import ForceDecode, Vary
from pytest_llmopt.core.varied import SIXTEEN_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side

PERMUTED, EAGER, FLOAT32 = "permuted", "eager attention", "float32"
ROUNDING = 1e-6
"""Most mean KL divergence of a benign change in float32, in nats per token: a TF32 matrix product has 1.5e-6."""
SANE = 0.01
"""Mean KL divergence, in nats per token, beyond which a reference that contradicts itself so can judge nothing."""
FEW = 4.0
"""In 16 bits, most mean KL divergence of a benign change over that of the same weights in float32. Two roundings that
are independent of each other have twice the divergence of one; on the zoo changes have 0.3 to 1.6 times."""
UNPROVEN = 1e-3
"""Most mean KL divergence of a natural change in 16 bits where float32 cannot be had: twenty times that of the zoo."""
ALIKE = 1e-7
"""Mean KL divergence of the decode path, in nats per token, below which it rounds as the forward pass does; 16 bits
have about 1e-5 where it does not."""
COPIES = 2
"""Permuted copies that are scored, one after the other."""
PROVED_ON = 3
"""Texts that a copy is compared on in float32."""
STEPS = 12
"""Tokens of each text that are decoded anew under a change: every one of them is a step."""
ALONE = 2
"""Texts that are decoded one at a time."""


def measure(engine: Side, prompts: PromptSet) -> Floor:
    """The noise floor of an engine, from changes that proved to be benign.

    Raises:
        UnsoundReferenceError: it is not finite, or contradicts itself by more than `SANE`.
    """
    texts = texts_of(engine, prompts)
    scored = engine.score(texts.given)
    require_finite(scored, "scores a text")
    require_finite(texts.decoded, "decodes")
    found = _Measurement(engine, texts, scored)
    if engine.dtype in SIXTEEN_BITS:
        found.look_at_float32()
    if engine.can(ForceDecode):
        found.look_at_decoding()
    found.look_at_copies()
    if not found.changes:
        alone = [one for item in texts.given for one in engine.score([item])]
        found.judge_natural(found.change("one text at a time", alone))
    if not found.changes:
        found.refuse()
    return floor_of(found.changes, found.copies, found.left_out, found.contradictions)


def require_finite(scored: Sequence[TopLogprobs], when: str) -> None:
    """Refuse a reference whose distributions hold NaN or infinity.

    Raises:
        UnsoundReferenceError: one does.
    """
    bad = sum(int((~item.is_finite).sum()) for item in scored)
    if bad:
        msg = (
            f"the reference is not finite: {bad} of {sum(map(len, scored))} positions are NaN or infinite where it "
            f"{when}. Nothing can be judged by it: try it in float32, or with other weights"
        )
        raise UnsoundReferenceError(msg)


def contradiction(name: str, figure: float, limit: float) -> UnsoundReferenceError:
    """What to raise where a reference differs from itself under a change that must not matter."""
    return UnsoundReferenceError(
        f"the reference contradicts itself under {name}: {figure:.2g} nats per token, where rounding explains "
        f"{limit:.1g}. Nothing can be judged by it at that precision, and the candidate is not to blame: report it "
        "to the library, or give another reference with llmopt.against"
    )


@dataclass(eq=False)
class _Measurement:
    """What was found so far."""

    engine: Side
    texts: Texts
    scored: Sequence[TopLogprobs]
    changes: list[ChangedReference] = field(default_factory=list)
    copies: list[tuple[str, int]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    contradictions: dict[str, float] = field(default_factory=dict)
    rounding: float | None = None
    """Mean KL divergence of the same weights in float32, where there are 16 bits and it can be had."""
    wide: ChangedReference | None = None

    @property
    def limit(self) -> float:
        """Most mean KL divergence of a benign change at this precision, in nats per token."""
        if self.engine.dtype not in SIXTEEN_BITS:
            return ROUNDING
        return UNPROVEN if self.rounding is None else min(max(ROUNDING, FEW * self.rounding), SANE)

    def change(self, name: str, changed: Sequence[TopLogprobs], rows: Sequence[int] = ()) -> ChangedReference:
        """A change of the first positions of some texts; of all texts where no rows are given."""
        places = tuple(rows or range(len(self.scored)))
        base = [self.scored[row][: len(own)] for row, own in zip(places, changed, strict=True)]
        return ChangedReference(name, base, changed, places)

    def judge_natural(self, change: ChangedReference, limit: float | None = None) -> bool:
        """Whether a change that must not matter stays within rounding; then it belongs to the floor.

        Raises:
            UnsoundReferenceError: it is beyond every sane bound.
        """
        limit = self.limit if limit is None else limit
        figure = change.figure
        if figure <= limit and change.name not in self.contradictions:
            self.changes.append(change)
            return True
        self.contradicts(change.name, figure, limit)
        return False

    def contradicts(self, name: str, figure: float, limit: float) -> None:
        """Keep a contradiction.

        Raises:
            UnsoundReferenceError: it is beyond every sane bound.
        """
        if not figure <= SANE:
            raise contradiction(name, figure, limit)
        if figure > limit:
            self.contradictions[name] = max(figure, self.contradictions.get(name, 0.0))

    def refuse(self) -> None:
        """Refuse a reference that no change leaves as it is.

        Raises:
            UnsoundReferenceError: always.
        """
        name = max(self.contradictions, key=lambda own: self.contradictions[own])
        raise contradiction(name, self.contradictions[name], self.limit)

    def attempt(self, name: str, call: Callable[[], None]) -> bool:
        """Whether a change could be made. What goes wrong in a change that nobody asked for ends no check."""
        try:
            call()
        except (UnsoundReferenceError, WorkerError):
            raise
        except NothingToChangeError:
            return False
        except RequirementMissingError as error:
            self.left_out[name] = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises where it is made to do what it never did
            self.left_out[name] = f"{type(error).__name__}: {error}"
        return name not in self.left_out

    def look_at_decoding(self) -> None:
        """The decode path, in the batch that the texts were decoded in and one at a time; another attention kernel."""
        shortest = sorted(range(len(self.scored)), key=lambda row: len(self.texts.given[row].prompt_ids))[:ALONE]
        cut = [self.texts.first(row, STEPS) for row in shortest]
        batch = self.change(self.texts.batched, self.texts.decoded)
        alone = self.change(
            "cached decode", [self.engine.force([item], batch_size=1)[0].logprobs for item in cut], shortest
        )
        # Alone there is no padding: what is wrong there is wrong in the cache, and shows in every batch as well.
        if self.judge_natural(alone):
            self.judge_natural(batch)
        elif not batch.figure <= self.limit:
            self.contradicts(alone.name, batch.figure, self.limit)
        elif batch.name not in self.contradictions:
            self.changes.append(batch)
        # Figures of a few texts are put in relation to one of all texts, which comes first.
        self.changes.sort(key=lambda item: len(item.rows), reverse=True)
        if self.engine.can(Vary):
            self.attempt(EAGER, self._eager)

    def _eager(self) -> None:
        eager = self.change(EAGER, self.engine.varied(EAGER).score(self.texts.given))
        if self.judge_natural(eager):
            self.copies.append((EAGER, 0))

    def look_at_float32(self) -> None:
        """How large rounding is, and whether what must not matter does not where there is none."""
        if self.engine.can(Vary):
            self.attempt(FLOAT32, self._float32)

    def _float32(self) -> None:
        texts, engine = self.texts, self.engine.varied(FLOAT32)
        cut = texts.beginnings(STEPS)
        wide = engine.score(texts.given)
        decoded = [item.logprobs for item in engine.force(cut)]
        base = [own[: len(item.token_ids)] for own, item in zip(wide, cut, strict=False)]
        path = ChangedReference(texts.batched, base, decoded, tuple(range(len(cut))))
        if not path.figure <= ROUNDING:
            rows = range(min(ALONE, len(cut)))
            alone = [engine.force([cut[row]], batch_size=1)[0].logprobs for row in rows]
            own = ChangedReference("cached decode", base[: len(alone)], alone, tuple(rows))
            path = own if not own.figure <= ROUNDING else path
        require_finite(wide, "computes in float32")
        self.contradicts(path.name, path.figure, ROUNDING)
        self.wide = self.change(FLOAT32, wide)
        self.rounding = self.wide.figure

    def look_at_copies(self) -> None:
        """Neurons and residual channels in another order, one copy after the other, in place."""
        if self.engine.can(Vary):
            for seed in range(COPIES):
                if not self.attempt(PERMUTED, lambda seed=seed: self._permuted(seed)):  # type: ignore[misc]
                    break
        if self.wide is not None and self.wide.figure <= SANE:
            self.changes.append(self.wide)
            self.copies.append((FLOAT32, 0))
        elif self.wide is not None:
            self.left_out[FLOAT32] = f"rounding alone moves it by {self.wide.figure:.2g} nats per token"
        # The first ones are asked about the candidate's own tokens. A permuted copy rounds everywhere; but what rounds
        # alike in any order, as eager attention does its scores in 16 bits, only float32 shows.
        self.copies.sort(key=lambda copy: (copy != (PERMUTED, 0), copy[0] != FLOAT32, copy[0] != PERMUTED))

    def _permuted(self, seed: int) -> None:
        if self.wide is not None:
            some = self.texts.given[:PROVED_ON]
            copy = self.engine.varied(FLOAT32).varied(PERMUTED, seed).score(some)
            self._require_same(
                ChangedReference(PERMUTED, self.wide.changed[: len(some)], copy, ()).figure, ROUNDING, FLOAT32
            )
        permuted = self.engine.varied(PERMUTED, seed)
        scored = self.change(f"permuted {seed}", permuted.score(self.texts.given))
        # A copy that is another function need not be decoded.
        wanted = seed == 0 and scored.figure <= self._limit_of_copies and self.engine.can(ForceDecode)
        decoding = self.texts.beginnings(STEPS) if wanted else []
        decoded = [item.logprobs for item in permuted.force(decoding)] if decoding else []
        self._require_same(scored.figure, self._limit_of_copies, self.engine.dtype)
        self.changes.append(scored)
        if decoded:
            path = self.change(f"permuted {seed}, decode path", decoded, range(len(decoded)))
            if path.figure <= self.limit:
                self.changes.append(path)
        self.copies.append((PERMUTED, seed))

    @property
    def _limit_of_copies(self) -> float:
        """Without float32, a copy in 16 bits may differ by a few times what the decode path does.

        On a processor without vector instructions every shape rounds alike: there, by what eager attention does.
        """
        if self.engine.dtype not in SIXTEEN_BITS or self.rounding is not None:
            return self.limit
        figures = {item.name: item.figure for item in self.changes}
        decoding = max(figures.get(name, 0.0) for name in ("cached decode", self.texts.batched))
        return min(self.limit, FEW * (decoding if decoding > ALIKE else figures.get(EAGER, 0.0)))

    @staticmethod
    def _require_same(figure: float, limit: float, dtype: str) -> None:
        if not figure <= limit:
            reason = "it is not finite" if math.isnan(figure) else f"{figure:.2g} nats per token in {dtype}"
            msg = f"another function on this architecture: {reason}, where rounding explains {limit:.1g}"
            raise RequirementMissingError(PERMUTED, msg)
