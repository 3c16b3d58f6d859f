"""Running text holds ends of text at fixed places, whatever the prompts are; a bug that they trigger is seen."""

from types import SimpleNamespace

import pytest

from pytest_llmopt.checks._texts import END_EVERY, FIRST_END, running_text
from pytest_llmopt.core.prompts import PromptSet

LENGTH = 500


def engine(*ends, vocab_size=1000):
    return SimpleNamespace(
        eos_token_ids=frozenset(ends), vocab_size=vocab_size, encode=lambda text: tuple(range(10, 10 + len(text)))
    )


@pytest.mark.parametrize("prompts", [["one prompt of some length"], ["a", "bc"], ["x" * 900, "y" * 40]])
def test_ends_stand_at_fixed_places_and_take_turns(prompts):
    text = running_text(PromptSet.of(prompts), engine(3, 5), LENGTH)
    places = [place for place, token in enumerate(text) if token in {3, 5}]
    assert places == list(range(FIRST_END, LENGTH, END_EVERY))
    assert [text[place] for place in places[:4]] == [3, 5, 3, 5]
    assert len(text) == LENGTH


@pytest.mark.parametrize("ends", [(), (2000,)])
def test_without_an_end_that_the_vocabulary_has_it_is_the_prompts_alone(ends):
    text = running_text(PromptSet.of(["abc", "abc", "defgh"]), engine(*ends), 11)
    assert text == (10, 11, 12, 10, 11, 12, 13, 14, 10, 11, 12)
