"""Sides without a session around them: of a real model, and of an engine that a test makes up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_llmopt.assertions import assertion
from pytest_llmopt.core.engine import ModelInfo, bare
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.side import Side
from pytest_llmopt.core.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_llmopt.core.verdict import Verdict


def open_side(variant: Variant, policy: LoadPolicy | None = None, role: str = "candidate") -> Side:
    """The engine of a variant with its tokenizer; who calls this closes it."""
    kind = Registry("engines", "engine").load(variant.engine)
    policy = policy or LoadPolicy(threads=1)
    return Side(role, kind.open(variant, policy), kind.tokenizer(variant, policy))


@dataclass
class FakeEngine:
    """An engine of no library: a function for each request that it is to know."""

    functions: Mapping[type, Callable[[Any], Any]] = field(default_factory=dict)
    variant: Variant = field(default_factory=lambda: Variant("m"))
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of `ModelInfo`, beside the variant."""
    asked: list[Any] = field(default_factory=list)
    closed: bool = False

    @property
    def info(self) -> ModelInfo:
        """A small model of the name."""
        return ModelInfo(self.variant, **{"vocab_size": 7, "dtype": "float32", **self.facts})

    @property
    def answers(self) -> frozenset[type]:
        """What it has a function for."""
        return frozenset(self.functions)

    def ask(self, request: Any) -> Any:
        """What the function says."""
        self.asked.append(request)
        return self.functions[type(request)](request)

    def close(self) -> None:
        """Remember that it was."""
        self.closed = True


class Letters:
    """A tokenizer that needs no files: a letter is a token."""

    def encode(self, text: str) -> tuple[int, ...]:
        """The letters' places in the alphabet."""
        return tuple(ord(letter) - ord("a") for letter in text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """And back."""
        return "".join(chr(token + ord("a")) for token in token_ids)


def fake_side(
    functions: Mapping[type, Callable[[Any], Any]] | None = None, role: str = "candidate", **facts: Any
) -> Side:
    """A side of such an engine."""
    variant = facts.pop("variant", Variant("m"))
    return Side(role, FakeEngine(functions or {}, variant, facts), Letters())


def running_of(side: Any) -> Any:
    """What a side of Transformers has loaded, to plant something in it."""
    return bare(getattr(side, "engine", side))._running


def as_(role: str, side: Side) -> Side:
    """A side in another place of a comparison."""
    return replace(side, role=role)


def asserted(name: str, candidate: Side, reference: Side, prompts: Any, **options: Any) -> Verdict:
    """The verdict of an assertion on two sides, whatever roles they were opened in."""
    check = assertion(name, Registry("checks", "check").load(name))
    return check(
        candidate=as_("candidate", candidate), reference=as_("reference", reference), prompts=prompts, **options
    )
