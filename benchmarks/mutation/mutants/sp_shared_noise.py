"""The token in place of a rejected proposal is drawn with the very noise that the draft drew with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from _speculation import Verification, replaced

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["SharedNoise"]


@dataclass(frozen=True)
class SharedNoise(Verification):
    """One seeded random state per request serves draft and target, and is set again for the target."""

    source: ClassVar[str] = "SP reused random state (no issue: one seeded state per request for draft and target)"
    states: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def contexts(self, _model: Any, _kwargs: dict[str, Any]) -> list[AbstractContextManager[Any]]:
        """Remember the state that the draft starts from."""
        import torch
        from transformers.generation.candidate_generator import AssistedCandidateGenerator as Generator

        own = Generator._generate_candidates  # noqa: SLF001 - where the library asks the draft

        def remember(generator: Any, arguments: Any) -> Any:
            self.states[:] = [torch.get_rng_state()]
            return own(generator, arguments)

        return [replaced(Generator, "_generate_candidates", remember)]

    def draw(self, law: Any, place: int) -> Any:
        """With the noise of the draft's token at this place."""
        import torch

        with torch.random.fork_rng():
            torch.set_rng_state(self.states[0])
            return [torch.multinomial(law[None], 1)[0] for _ in range(place + 1)][-1]
