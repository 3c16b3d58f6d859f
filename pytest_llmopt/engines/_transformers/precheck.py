"""What can be told of a variant before a library is imported: most slips of the pen end here, in milliseconds."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_llmopt.core.model_files import check_model
from pytest_llmopt.core.quoting import explained, quoted
from pytest_llmopt.core.requirements import Package, require
from pytest_llmopt.core.sources import place_of
from pytest_llmopt.engines._transformers.devices import check_device

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.variant import Variant

INSTALL = "pip install 'pytest-llmopt[transformers]'"
LIBRARIES = (Package("torch>=2.6", install=INSTALL), Package("transformers>=5.10", install=INSTALL))


def precheck(variant: Variant, policy: LoadPolicy) -> None:
    """Accept a variant that may load.

    Raises:
        ModelError: the files of its model, or of what an optimization brings along, are absent or broken.
        OptionError: there is no such device or backend.
        RequirementMissingError: the device, a library or a draft is not there.
    """
    with explained(
        f"{variant.label} of {quoted(variant.model)} cannot be looked at", "check that its files may be read"
    ):
        _precheck(variant, policy)


def _precheck(variant: Variant, policy: LoadPolicy) -> None:
    require(*LIBRARIES)
    check_device(variant)
    folder = place_of(variant.model, policy)
    if folder is not None:
        weights = not any(getattr(item.options, "brings_weights", False) for item in variant.optimizations)
        _check_model(folder, variant.model, policy, _state(folder), weights=weights)
    for item in variant.optimizations:
        check = getattr(item.options, "precheck", None)
        if check is not None:
            check(variant.model, policy)


@lru_cache(maxsize=64)
def _check_model(folder: Path, name: str, policy: LoadPolicy, _state: object, *, weights: bool) -> None:
    """Once for each state of a folder: a run may have hundreds of variants of one model."""
    check_model(folder, name, policy, weights=weights)


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size in bytes and time of change of the files."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(found)
