"""Ways to get sampled speculation wrong or merely slow, each planted into one candidate and nothing else."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Verification:
    """Another rule in place of `_speculative_sampling`, and only while this model generates."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple[Any, ...]] = ()
    conflicts: ClassVar[dict[str, str]] = {}

    rule: str = "correct"
    amount: float = 0.0

    def for_transformers(self, plan: Any) -> None:
        """Wrap `generate` once the model is there."""
        plan.after_load.append(self._wrap)

    def _wrap(self, model: Any) -> None:
        own = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            with RULES[self.rule](self.amount, kwargs):
                return own(*args, **kwargs)

        model.generate = generate


@contextmanager
def _patched(rule: Callable[..., Any]) -> Iterator[None]:
    import transformers.generation.utils as library

    right = library._speculative_sampling

    def planted(ids: Any, draft_logits: Any, length: int, logits: Any, **kwargs: Any) -> Any:
        return rule(right, ids, draft_logits, length, logits, **kwargs)

    library._speculative_sampling = planted
    try:
        yield
    finally:
        library._speculative_sampling = right


def _verify(
    ids: Any, draft_logits: Any, length: int, logits: Any, *, accept: Any = None, residual: Any = None, seen: Any = None
) -> Any:
    """Algorithm 1 of Leviathan et al. with the acceptance probability or the residual replaced."""
    import torch

    proposals = ids[0, -length:]
    p, q = logits[0].softmax(-1), draft_logits[0].softmax(-1)
    rows = torch.arange(length)
    chance = (seen if seen is not None else p)[rows, proposals] / q[rows, proposals]
    chance = chance if accept is None else accept(chance)
    matches = int((~(torch.rand(length) <= chance)).cumsum(0).lt(1).sum())
    law = p[matches]
    if matches < length:
        law = (p[matches] - q[matches]).clamp(min=0) if residual is None else residual(p, q, matches, proposals)
        law = law if law.sum() > 0 else p[matches]
    token = torch.multinomial(law / law.sum(), 1)
    return torch.cat([proposals[:matches], token])[None], matches


@contextmanager
def correct(_amount: float, _kwargs: Any) -> Iterator[None]:
    """The library as it is."""
    yield


@contextmanager
def seed_ignored(_amount: float, _kwargs: Any) -> Iterator[None]:
    """The generator goes on from a state of the system."""
    import torch

    torch.seed()
    yield


@contextmanager
def constant_seed(_amount: float, _kwargs: Any) -> Iterator[None]:
    """SL05: every call starts from the same state."""
    import torch

    torch.manual_seed(7)
    yield


@contextmanager
def filters_first(_amount: float, _kwargs: Any) -> Iterator[None]:
    """The temperature is applied after the filters."""
    from transformers.generation.logits_process import LogitsProcessorList, TemperatureLogitsWarper

    own = LogitsProcessorList.__call__

    def last(self: Any, *args: Any, **kwargs: Any) -> Any:
        ordered = LogitsProcessorList(sorted(self, key=lambda item: isinstance(item, TemperatureLogitsWarper)))
        return own(ordered, *args, **kwargs)

    LogitsProcessorList.__call__ = last
    try:
        yield
    finally:
        LogitsProcessorList.__call__ = own


@contextmanager
def accept_all(_amount: float, _kwargs: Any) -> Iterator[None]:
    """SP01: the count of matches is the number of proposals."""
    with _patched(lambda _right, *args, **_: _verify(*args, accept=lambda chance: chance + 1)):
        yield


@contextmanager
def residual_of_target(_amount: float, _kwargs: Any) -> Iterator[None]:
    """A rejected proposal is replaced by a draw from p."""
    with _patched(lambda _right, *args, **_: _verify(*args, residual=lambda p, _q, at, _ids: p[at])):
        yield


@contextmanager
def ensemble(amount: float, kwargs: Any) -> Iterator[None]:
    """The library's own `assistant_ensemble_weight`: lossy by design."""
    kwargs["assistant_ensemble_weight"] = amount
    yield


@contextmanager
def not_warped(_amount: float, kwargs: Any) -> Iterator[None]:
    """SP04: verification takes the target before temperature and filters (temperature alone is undone here)."""
    temperature = kwargs.get("temperature", 1.0)
    with _patched(lambda _right, ids, drafts, length, logits, **_: _verify(ids, drafts, length, logits * temperature)):
        yield


@contextmanager
def argmax_draft(_amount: float, _kwargs: Any) -> Iterator[None]:
    """SP02: the draft decodes greedily, and its proposals are verified with its softmax."""
    from transformers.generation.candidate_generator import AssistedCandidateGenerator

    own = AssistedCandidateGenerator._generate_candidates

    def greedy(self: Any, arguments: Any) -> Any:
        self.generation_config.do_sample = False
        return own(self, arguments)

    AssistedCandidateGenerator._generate_candidates = greedy
    try:
        yield
    finally:
        AssistedCandidateGenerator._generate_candidates = own


@contextmanager
def zeroed_rows(_amount: float, _kwargs: Any) -> Iterator[None]:
    """Like SP08: the probability of every earlier proposal of the block is zeroed in place in the later rows."""

    def rule(_right: Any, ids: Any, drafts: Any, length: int, logits: Any, **_: Any) -> Any:
        logits = logits.clone()
        for row in range(1, length):
            logits[0, row, ids[0, -length:][:row]] = -float("inf")
        return _verify(ids, drafts, length, logits)

    with _patched(rule):
        yield


@contextmanager
def one_hot(_amount: float, _kwargs: Any) -> Iterator[None]:
    """SP17: the sampled draft is verified as a certain proposal. Slow, and lossless."""

    def rule(_right: Any, ids: Any, drafts: Any, length: int, logits: Any, **_: Any) -> Any:
        import torch

        certain = torch.full_like(drafts, -float("inf"))
        certain[0, torch.arange(length), ids[0, -length:]] = 0.0
        return _verify(ids, certain, length, logits)

    with _patched(rule):
        yield


@contextmanager
def temperature_factor(amount: float, kwargs: Any) -> Iterator[None]:
    """The whole decoder runs at another temperature."""
    kwargs["temperature"] = kwargs.get("temperature", 1.0) * amount
    yield


@contextmanager
def wrong_top_k(amount: float, kwargs: Any) -> Iterator[None]:
    """One more token, or fewer, may be drawn."""
    kwargs["top_k"] = kwargs["top_k"] + int(amount)
    yield


@contextmanager
def one_seed(_amount: float, _kwargs: Any) -> Iterator[None]:
    """The random state is set again before every verification."""

    def rule(right: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        torch.manual_seed(7)
        return right(*args, **kwargs)

    with _patched(rule):
        yield


RULES: dict[str, Callable[[float, Any], Any]] = {
    rule.__name__: rule
    for rule in (
        correct,
        accept_all,
        residual_of_target,
        ensemble,
        not_warped,
        argmax_draft,
        zeroed_rows,
        one_hot,
        temperature_factor,
        wrong_top_k,
        one_seed,
        seed_ignored,
        constant_seed,
        filters_first,
    )
}


@dataclass(frozen=True)
class Raised:
    """One token's logit is far above all others at every position: by default the end's."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple[Any, ...]] = ()
    conflicts: ClassVar[dict[str, str]] = {}

    token: int | None = None

    def for_transformers(self, plan: Any) -> None:
        """Change what the head gives."""
        plan.after_load.append(self._raise)

    def _raise(self, model: Any) -> None:
        token = model.config.eos_token_id if self.token is None else self.token

        def raised(_head: Any, _args: Any, logits: Any) -> Any:
            logits = logits.clone()
            logits[..., token] += 60
            return logits

        model.get_output_embeddings().register_forward_hook(raised)


@dataclass(frozen=True)
class Certain(Raised):
    """Always the same token, which ends nothing."""

    token: int | None = 7


def pytest_llmopt_optimizations(config: Any) -> dict[str, Any]:
    """Register them, as a user would."""
    return {"planted.verification": Verification, "planted.ending": Raised, "planted.certain": Certain}
