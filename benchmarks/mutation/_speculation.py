"""How a mutant changes what the library does, only while the candidate's own `generate` runs."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mutation import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside it, an attribute of a library's module or class is another one."""
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)


def while_generating(model: Any, around: Callable[[dict[str, Any]], AbstractContextManager[Any]]) -> None:
    """Put a context around every `generate` of a model; it may change the keyword arguments of the call."""
    own = model.generate

    def generate(*args: Any, **kwargs: Any) -> Any:
        with around(kwargs):
            return own(*args, **kwargs)

    model.generate = generate


@dataclass(frozen=True)
class Verification(Mutant):
    """Sampled verification (Leviathan et al. 2023, algorithm 1) in parts that a mutant gets wrong one at a time.

    All laws are `[places, vocabulary]`; the target's has one place more than there are proposals.
    """

    category: ClassVar[str] = "speculative_sampled"
    honest: ClassVar[bool] = True
    base: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("decoding.assisted", {}),)
    needs: ClassVar[tuple[str, ...]] = ("sampling",)

    def change(self, model: Any) -> None:
        """Verify by these parts while the candidate generates."""
        import transformers.generation.utils as library

        @contextmanager
        def around(kwargs: dict[str, Any]) -> Iterator[None]:
            with ExitStack() as stack:
                for context in self.contexts(model, kwargs):
                    stack.enter_context(context)
                stack.enter_context(replaced(library, "_speculative_sampling", self._verify))
                yield

        while_generating(model, around)

    def contexts(self, _model: Any, _kwargs: dict[str, Any]) -> list[AbstractContextManager[Any]]:
        """What else is changed for the time of a call."""
        return []

    def target_logits(self, logits: Any) -> Any:
        """What the target's law is made of: logits after all warpers."""
        return logits

    def chance(self, p: Any, q: Any, proposals: Any) -> Any:
        """The probability that each proposal is accepted, if those before it were."""
        places = range(len(proposals))
        return p[places, proposals] / q[places, proposals]

    def matches(self, chance: Any) -> int:
        """How many proposals are accepted."""
        import torch

        return int((torch.rand_like(chance) <= chance).cumprod(0).sum())

    def residual(self, p: Any, q: Any, _proposal: Any) -> Any:
        """The law of the token in place of a rejected proposal, up to a factor, from the two laws at its place."""
        left = (p - q).clamp(min=0)
        return left if left.sum() > 0 else p

    def bonus(self, p: Any, _q: Any) -> Any:
        """The law of the token after a block that was accepted whole."""
        return p[-1]

    def draw(self, law: Any, _place: int) -> Any:
        """The token that the target adds."""
        import torch

        return torch.multinomial(law / law.sum(), 1)

    def _verify(self, ids: Any, drafts: Any, length: int, logits: Any, **_: Any) -> tuple[Any, Any]:
        import torch

        proposals, q = ids[0, -length:], drafts[0].softmax(-1)
        p = self.target_logits(logits)[0].softmax(-1)
        matches = self.matches(self.chance(p, q, proposals))
        law = self.bonus(p, q) if matches == length else self.residual(p[matches], q[matches], proposals[matches])
        token = self.draw(law, matches)
        return torch.cat([proposals[:matches], token])[None], torch.tensor(matches)


def certain_lookup(proposal_logits: Any = None) -> AbstractContextManager[None]:
    """Inside it, looked-up drafts are verified by rejection sampling, as proposals of a law that is certain of them."""
    import torch
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator as Lookup

    own = proposal_logits or Lookup.get_candidates

    def get_candidates(self: Any, input_ids: Any, **kwargs: Any) -> tuple[Any, Any]:
        ids, _ = own(self, input_ids, **kwargs)
        proposals = ids[0, input_ids.shape[1] :]
        if not len(proposals):
            return ids, None
        certain = torch.full((1, len(proposals), self.vocab_size), -float("inf"))
        certain[0, range(len(proposals)), proposals] = 0.0
        return ids, certain

    return replaced(Lookup, "get_candidates", get_candidates)


@dataclass(frozen=True)
class Acceptance(Mutant):
    """Greedy verification with another idea of which proposals match."""

    category: ClassVar[str] = "speculative_greedy"
    base: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("decoding.assisted", {}),)

    def accepts(self, scores: Any, proposal: int, place: int, length: int) -> bool:
        """Whether a proposal that is not the target's own token counts as a match all the same.

        Args:
            scores: of the target at this place, `[vocabulary]`.
            proposal: the token that was proposed.
            place: of the proposal in its block.
            length: of the block.
        """
        raise NotImplementedError

    def change(self, model: Any) -> None:
        """Raise the score of such a proposal where the target compares, after the logits were kept for the report."""
        from transformers.generation.candidate_generator import AssistedCandidateGenerator as Generator

        block: dict[str, Any] = {}

        def prefer(input_ids: Any, scores: Any) -> Any:
            place = input_ids.shape[1] - block.get("start", 0)
            proposals = block.get("proposals", ())
            if place < len(proposals) and self.accepts(scores[0], proposals[place], place, len(proposals)):
                scores = scores.clone()
                scores[0, proposals[place]] = scores[0].max() + 1
            return scores

        def get_candidates(generator: Any, input_ids: Any, **kwargs: Any) -> Any:
            block.clear()  # the draft is given the same processors
            ids, logits = own(generator, input_ids, **kwargs)
            block.update(start=input_ids.shape[1], proposals=ids[0, input_ids.shape[1] :].tolist())
            return ids, logits

        def around(kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            block.clear()
            kwargs["logits_processor"] = [*(kwargs.get("logits_processor") or ()), prefer]
            return replaced(Generator, "get_candidates", get_candidates)

        own = Generator.get_candidates
        while_generating(model, around)


def on_cache(model: Any, change: Callable[[Any], None]) -> None:
    """Change every cache that a model meets, once, before the pass that it is first used in."""

    def look(_model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
        cache = kwargs.get("past_key_values")
        if cache is not None and not hasattr(cache, "changed_by_mutant"):
            cache.changed_by_mutant = True
            change(cache)

    model.register_forward_pre_hook(look, with_kwargs=True)


def longer_mask(_model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A forward pre-hook: what the cache holds too much is attended too."""
    cache, mask, input_ids = (kwargs.get(name) for name in ("past_key_values", "attention_mask", "input_ids"))
    if cache is not None and mask is not None and input_ids is not None and mask.dim() == 2:  # noqa: PLR2004
        missing = int(cache.get_seq_length()) + input_ids.shape[1] - mask.shape[1]
        if missing > 0:
            import torch

            kwargs["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), missing)], dim=1)
    return args, kwargs
