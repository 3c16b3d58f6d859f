"""What an engine sets for the whole process while it works, and puts back: threads and generators of random numbers."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def scoped(device: Any, *, threads: int | None = None, seed: int | None = None) -> Iterator[None]:
    """Inside it, torch has so many threads and every global generator the given seed; afterwards all is as before.

    Two engines, and the tests around them, share these: what one leaves behind would show in the other.

    Args:
        device: where the model is; on a CUDA device, its generator is one of them.
        threads: of torch; None leaves them.
        seed: for torch, numpy and `random`; None leaves them until something inside draws.
    """
    import torch

    before, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()  # noqa: NPY002 - kept
    devices = [device] if getattr(device, "type", str(device)).startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            if seed is not None:
                reseed(seed)
            yield
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - that of the process, not ours


def reseed(seed: int) -> None:
    """Set every global generator: a library may draw from any of them while it runs."""
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - that of the process, not ours
