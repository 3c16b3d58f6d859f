"""Where a model comes from, and what loading it may do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ZOO = ("tiny-llama", "tiny-qwen", "tiny-gemma")
"""The target models that ship with the package; each has a draft, `<name>-draft`."""


@dataclass(frozen=True)
class LoadPolicy:
    """What loading may do. Nothing is downloaded, unpickled or executed unasked."""

    download: bool = False
    trust_remote_code: bool = False
    unsafe_weights: bool = False
    """Also load weights that are not safetensors (pickles can execute code)."""
    draft: str | None = None
    """Folder or hub id of the draft model, for speculation that does not name one."""
    threads: int | None = None
    """CPU threads for each engine; None takes one for a small model, else this worker's share of the processors."""
    share: int = 1
    """The processors that this worker may use without taking them from another."""
    seed: int = 0
    """Of what a load draws at random, such as weights that the checkpoint does not have."""
    cache: Path = Path(".llmopt/cache")
    """Where quantized models that are expensive to make are kept."""


def fixtures_folder() -> Path:
    """The folder of the zoo and the prompt sets: inside an installed package, beside it in the repository."""
    package = Path(__file__).parent.parent
    inside = package / "fixtures"
    return inside if inside.is_dir() else package.parent / "fixtures"


def suites_folder() -> Path:
    """The folder of the shipped suites: inside an installed package, beside it in the repository."""
    package = Path(__file__).parent.parent
    inside = package / "suites"
    return inside if inside.is_dir() else package.parent / "suites"


def locate(model: str) -> str:
    """What to hand to `from_pretrained`: a local folder as it is, the folder of a zoo model, or else a hub id."""
    try:
        if Path(model).is_dir():
            return model
        if model.startswith("~") and (own := Path(model).expanduser()).is_dir():
            return str(own)
        shipped = fixtures_folder() / "models" / model
        return str(shipped) if "/" not in model and shipped.is_dir() else model
    except (OSError, ValueError, RuntimeError):  # no file can have such a name, or nobody here has that home
        return model
