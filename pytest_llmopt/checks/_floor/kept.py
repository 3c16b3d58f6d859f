"""A noise floor in a file: read back only where the file is whole, and its reference is what it was measured on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.checks._floor.figures import Floor
from pytest_llmopt.checks._floor.texts import without_end
from pytest_llmopt.core.errors import StaleCacheWarning
from pytest_llmopt.core.files import write_json
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.statistics.noise import NoiseFloor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side

EDITION = 3
"""Counts changes of what is measured and kept: a floor of another edition is measured again."""
PROBE_TOKENS = 24
RESOLUTION = 1e-4
"""What a log-probability may move by although nothing changed, beside a few times the floor, in nats."""


class _UnusableError(Exception):
    """Why a file is not read."""


@dataclass(frozen=True)
class KeptFloor:
    """A floor with where it belongs, and a few log-probabilities that say whether the reference is still the same."""

    file: Path
    belongs_to: Mapping[str, Any]
    """What the floor is measured on, as plain JSON values."""

    def read(self, engine: Side) -> Floor | None:
        """The floor, where there is one of this very reference; warns, naming the file, where there is another."""
        try:
            return self._read(engine) if self.file.is_file() else None
        except OSError as error:
            message = f"the noise floor in {self.file} cannot be read ({error.strerror}): it is measured again"
        except _UnusableError as error:
            message = f"the noise floor in {self.file} {error}: it is measured again, and the file replaced"
        warnings.warn(message, StaleCacheWarning, stacklevel=2)
        return None

    def _read(self, engine: Side) -> Floor:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            digest, kept = content.pop("digest"), content
        except (ValueError, AttributeError, KeyError, TypeError, OSError) as error:
            msg = "cannot be read (cut short, or of an old edition)"
            raise _UnusableError(msg) from error
        if digest != _digest(kept):
            msg = "was edited after it was written"
            raise _UnusableError(msg)
        if kept.get("edition") != EDITION:
            msg = f"is of edition {kept.get('edition')}, not {EDITION}"
            raise _UnusableError(msg)
        if kept.get("belongs_to") != _plain(self.belongs_to):
            msg = "belongs to another reference or another environment"
            raise _UnusableError(msg)
        floor = _floor(kept["floor"])
        _compare(engine, kept["probe"], floor)
        return floor

    def write(self, floor: Floor, engine: Side, prompts: PromptSet) -> None:
        """Keep a floor; where there is no place for it, the verdict stands, and a warning says what that costs."""
        tokens = _probe_tokens(engine, prompts)
        probe = {"tokens": tokens, "logprobs": _logprobs(engine, tokens)}
        content: dict[str, Any] = {"edition": EDITION, "belongs_to": self.belongs_to}
        content = _plain(content | {"floor": dataclasses.asdict(floor), "probe": probe})
        try:
            write_json(self.file, content | {"digest": _digest(content)}, allow_nan=True, indent=None)
        except OSError as error:
            message = (
                f"the noise floor cannot be kept in {self.file} ({error.strerror}), so the next run measures it again: "
                "give a folder that can be written to by --llmopt-cache"
            )
            warnings.warn(message, StaleCacheWarning, stacklevel=2)


def _probe_tokens(engine: Side, prompts: PromptSet) -> list[int]:
    several = [token for prompt in prompts.take(PROBE_TOKENS) for token in without_end(prompt.encode(engine), engine)]
    return (several or [0])[: min(PROBE_TOKENS, engine.max_length or PROBE_TOKENS)]


def _logprobs(engine: Side, tokens: list[int]) -> list[float]:
    """Of the tokens after the first; of the first after itself where there is no other."""
    given = tuple(tokens if len(tokens) > 1 else tokens * 2)
    return [float(value) for value in engine.score([Continuation(given[:1], given[1:])])[0].token_logprobs]


def _compare(engine: Side, probe: Mapping[str, Any], floor: Floor) -> None:
    if max(probe["tokens"]) >= engine.vocab_size:
        msg = "belongs to a model with another vocabulary"
        raise _UnusableError(msg)
    before, now = np.asarray(probe["logprobs"], float), np.asarray(_logprobs(engine, probe["tokens"]))
    moved = float(np.sqrt(np.mean((now - before) ** 2))) if len(before) == len(now) else float("inf")
    if not moved <= RESOLUTION + floor.drift:
        msg = f"was measured on other weights: log-probabilities have moved by {moved:.2g} nats since"
        raise _UnusableError(msg)


def _floor(content: Mapping[str, Any]) -> Floor:
    floors = {name: NoiseFloor(**content[name]) for name in ("root_kl", "lead")}
    copies = tuple((name, seed) for name, seed in content["copies"])
    return Floor(**{**content, **floors, "copies": copies})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(content: Any) -> Any:
    """As it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(content))
