"""Tokens that a candidate emits and its reference does not have: a failure of the candidate, and no crash."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec

from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.side import Side

Given = ParamSpec("Given")


class OutsideVocabularyError(LlmoptError):
    """A candidate emitted tokens that its reference does not have, so that nothing can be asked about them."""

    def __init__(self, count: int, tokens: int, found: str) -> None:
        """Keep how many of how many there were, and where the first one was."""
        super().__init__(found)
        self.count = count
        self.tokens = tokens

    def verdict(self, check: str) -> Verdict:
        """FAIL."""
        metric = Metric(Estimate.exact(self.count, self.tokens), Tolerance(at_most=0), "tokens")
        advice = "look at its output head for rows that stand for no token, and at what masks their logits"
        lines = (str(self), advice)
        return Verdict(check, {"outside_vocabulary": metric}, str(self), lines, {"emitted tokens": self.tokens})


def require_vocabulary(names: Sequence[str], generations: Sequence[Generation], judge: Side) -> None:
    """Refuse to hand on tokens that the side which is to judge them does not have.

    Args:
        names: the prompts.
        generations: what the candidate emitted after each.
        judge: the reference, or the candidate where there is none.

    Raises:
        OutsideVocabularyError: naming the first prompt with such a token, its position and the id.
    """
    size = judge.vocab_size
    outside = [[not 0 <= token < size for token in item.token_ids] for item in generations]
    count = sum(map(sum, outside))
    if not count:
        return
    row = next(row for row, found in enumerate(outside) if any(found))
    place = outside[row].index(True)
    item = generations[row]
    found = (
        f"emitted the token id {item.token_ids[place]} after prompt {names[row]!r}, at position "
        f"{len(item.prompt_ids) + place} (token {place} after the prompt): outside the vocabulary of "
        f"{judge.variant.model}, which ends at {size - 1}; {count} such tokens in all"
    )
    raise OutsideVocabularyError(count, sum(map(len, outside)), found)


def fails_outside_vocabulary(check: Callable[Given, Verdict]) -> Callable[Given, Verdict]:
    """The same check, which gives FAIL where the candidate emitted such a token."""

    @functools.wraps(check)
    def judged(*args: Given.args, **options: Given.kwargs) -> Verdict:
        try:
            return check(*args, **options)
        except OutsideVocabularyError as found:
            return found.verdict(check.__name__)

    return judged
