"""The noise floor of a reference: what it differs from itself by under changes that must change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.checks._floor.benign_changes import measure
from pytest_llmopt.checks._floor.figures import Floor
from pytest_llmopt.checks._floor.kept import KeptFloor
from pytest_llmopt.checks._floor.texts import PROMPTS
from pytest_llmopt.core.environment import describe_environment, fingerprint
from pytest_llmopt.core.loading import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import Continuation
    from pytest_llmopt.core.variant import Variant

__all__ = ["PROMPTS", "Benign", "Floor"]

BESIDE = 2
"""Copies that score the candidate's own tokens."""


@dataclass(frozen=True)
class Benign:
    """Where noise floors are remembered. All changes are made in place, on the reference itself: nothing is loaded."""

    cache: Path

    def floor(self, reference: Side, prompts: PromptSet) -> Floor:
        """The noise floor of a reference in this environment: measured once, then read from the cache.

        Raises:
            UnsoundReferenceError: it is not finite, or contradicts itself under a change that must not matter.
        """
        # It is compared with itself, so nothing that it said before counts as an answer.
        engine = reference.fresh()
        belongs_to = {
            "variant": reference.variant.digest,
            "environment": fingerprint(describe_environment()),
            "weights": _weights(reference.variant),
            "dtype": engine.dtype,
        }
        key = fingerprint(dict(belongs_to))
        kept = KeptFloor(self.cache / "noise-floor" / f"{reference.variant.digest}-{key}.json", belongs_to)
        floor = kept.read(engine)
        if floor is None:
            floor = measure(engine, prompts)
            kept.write(floor, engine, prompts)
        return floor

    @staticmethod
    def beside(reference: Side, floor: Floor, given: Sequence[Continuation]) -> list[list[TopLogprobs]]:
        """Teacher-forced log-probabilities of the reference under each of a few benign changes, one after the other."""
        return [reference.varied(change, seed).score(given) for change, seed in floor.copies[:BESIDE]]


def _weights(variant: Variant) -> list[tuple[str, int, int]]:
    """Name, size and time of each weight file of a local model: one that was trained again has another floor."""
    files = sorted(Path(locate(variant.model)).glob("*.safetensors"))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
