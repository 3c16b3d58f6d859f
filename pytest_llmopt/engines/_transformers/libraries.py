"""The import of torch and Transformers, which takes longer than a small check."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def import_libraries() -> None:
    """Import what every model needs, once.

    It makes a million objects that live as long as the process. The garbage collector would look through them again and
    again meanwhile, and with every full collection afterwards, so it rests, and then sets them aside for good.
    """
    if "transformers.modeling_utils" in sys.modules:
        return
    with _collector_resting():
        import torch  # noqa: F401
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel  # noqa: F401


@contextmanager
def _collector_resting() -> Iterator[None]:
    given = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if given:
            gc.enable()
