"""A model of which every tensor came from its checkpoint, and whose checkpoint has no tensor left over."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMED = 3
"""Names of each kind in a message."""


@dataclass
class LoadReport:
    """What the library's loader found, its own exceptions undone."""

    missing: set[str] = field(default_factory=set)
    """Parameters and buffers that no tensor was for, so that they were newly initialized."""
    unexpected: set[str] = field(default_factory=set)
    """Tensors that nothing was there for."""
    mismatched: set[str] = field(default_factory=set)
    """With the shape in the checkpoint and in the model."""
    errors: list[str] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)
    """Missing or unexpected names that the architecture itself declares as such."""
    stated: str = ""
    """The class that the configuration says, where that is another than was opened."""

    def refuse(self, source: str, cause: Exception | None = None) -> None:
        """Accept what is complete.

        Args:
            source: folder or hub id, for the message.
            cause: what the library raised.

        Raises:
            ModelError: naming what is missing, left over or of another shape.
        """
        parts = [
            _named("missing from the checkpoint, so newly initialized", self.missing),
            _named("in the checkpoint, but nowhere in the model", self.unexpected),
            _named("of another shape", self.mismatched),
            _named("not converted", self.errors),
        ]
        found = [part for part in parts if part]
        if found:
            msg = (
                f"{quoted(source)} does not hold this model{self.stated}: {'; '.join(found)}. Compare the names in its "
                "files with config.json (number of layers, prefix, tied head), and export it again"
            )
            raise ModelError(msg) from cause


def open_complete(source: str, **options: Any) -> tuple[Any, tuple[str, ...]]:
    """A causal language model in evaluation mode, and the names that its architecture leaves out on purpose.

    Args:
        source: folder or hub id.
        options: of `from_pretrained`.

    Raises:
        ModelError: a tensor is missing, left over or of another shape.
    """
    from transformers import AutoModelForCausalLM

    with _watching() as reports:
        try:
            model, info = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **options)
        except Exception as error:
            # The library gives names only to its log, and stumbles over what it would initialize in packed layers.
            if reports:
                reports[-1].refuse(source, error)
            raise
    # Without the method that is watched, there is what the library says when it is done: its own exceptions are made.
    report = reports[-1] if reports else LoadReport(set(info["missing_keys"]), set(info["unexpected_keys"]))
    report.refuse(source)
    return model.eval(), tuple(sorted(report.excused))


@contextmanager
def _watching() -> Iterator[list[LoadReport]]:
    """Inside it, what each load found is kept, before the loader drops some of it.

    It drops what a class lists in `_keys_to_ignore_on_load_missing` and `..._unexpected`, and buffers that checkpoints
    of old hold, such as `inv_freq`; all of that happens in one method, which is watched.
    """
    from transformers import PreTrainedModel

    name = "_finalize_model_loading"
    given, finish = vars(PreTrainedModel).get(name), getattr(PreTrainedModel, name, None)
    reports: list[LoadReport] = []
    if given is None or finish is None:  # another version of the library
        yield reports
        return

    def watch(model: Any, load_config: Any, info: Any) -> Any:
        report = LoadReport(set(info.missing_keys), set(info.unexpected_keys))
        stated, opened = getattr(model.config, "architectures", None) or [], type(model).__name__
        if stated and opened not in stated:
            report.stated = f" (opened as {opened}, and its config.json says {stated[0]})"
        tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
        report.missing -= {name for pair in tied.items() for name in pair if set(pair) - info.missing_keys}
        report.mismatched |= {f"{name} {list(theirs)} for {list(ours)}" for name, theirs, ours in info.mismatched_keys}
        report.errors += [f"{key}: {error}" for key, error in (info.conversion_errors or {}).items()]
        report.errors += [str(error) for error in info.error_msgs or ()]
        reports.append(report)
        found = finish(model, load_config, info)
        report.excused |= (report.missing - set(found.missing_keys)) | (report.unexpected - set(found.unexpected_keys))
        report.missing, report.unexpected = set(found.missing_keys), set(found.unexpected_keys)
        return found

    setattr(PreTrainedModel, name, staticmethod(watch))
    try:
        yield reports
    finally:
        setattr(PreTrainedModel, name, given)


def _named(what: str, names: set[str] | Sequence[str]) -> str:
    if not names:
        return ""
    first = sorted(names)[:NAMED]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} {what} ({', '.join(first)}{more})"
