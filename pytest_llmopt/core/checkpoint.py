"""What a checkpoint says beside its weights: plain facts, compared by name."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FACTS: Mapping[str, str] = {
    "eos_token_ids": "the tokens that end a generation",
    "stop_strings": "the texts that end a generation",
    "context_length": "the tokens that there is room for, by the configuration",
    "rope": "how positions are encoded",
    "attention_windows": "how far layers look back",
    "tied_weights": "whether head and embedding are one tensor",
    "special_tokens": "the special tokens with their ids",
    "added_tokens": "tokens beside the vocabulary of the tokenizer's model",
    "tokenizer": "the ids of some texts, and the whole vocabulary",
    "chat_template": "how a conversation becomes a text",
}
"""Every fact by name, with what it is."""
SHOWN = 60
"""Characters of a value in a message."""


@dataclass(frozen=True)
class Difference:
    """One fact that two checkpoints do not share."""

    fact: str
    place: str
    """Inside of it, such as the text that is encoded otherwise; empty where the fact is one value."""
    first: str
    second: str

    def __str__(self) -> str:
        """Name and both values, the second first: "eos_token_ids is [3], not [0]"."""
        place = f" of {self.place}" if self.place else ""
        return f"{self.fact}{place} is {_short(self.second)}, not {_short(self.first)}"


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[Difference]:
    """The facts that both state and state otherwise, each with the first place where it differs.

    Args:
        first: facts by name, each value JSON, as of the reference.
        second: the same of the other, as of the candidate.
    """
    shared = [name for name in first if name in second and first[name] != second[name]]
    return [_difference(name, first[name], second[name]) for name in shared]


def refuse_unknown(declared: Iterable[str]) -> frozenset[str]:
    """The names of facts that are declared to change.

    Raises:
        OptionError: there is no such fact (names the nearest and all).
    """
    names = frozenset([declared] if isinstance(declared, str) else declared)
    for name in sorted(names - FACTS.keys()):
        near = difflib.get_close_matches(name, FACTS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        msg = f"declared={name!r} is no fact of a checkpoint; {hint}facts: {', '.join(FACTS)}"
        raise OptionError(msg)
    return names


def _difference(name: str, first: str, second: str) -> Difference:
    one, other = json.loads(first), json.loads(second)
    if isinstance(one, dict) and isinstance(other, dict):
        for place in dict.fromkeys([*one, *other]):
            if place not in one or place not in other or one[place] != other[place]:
                values = (_value(side, place) for side in (one, other))
                return Difference(name, place, *values)
    return Difference(name, "", first, second)


def _value(side: Mapping[str, object], place: str) -> str:
    return json.dumps(side[place], ensure_ascii=False) if place in side else "absent"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
