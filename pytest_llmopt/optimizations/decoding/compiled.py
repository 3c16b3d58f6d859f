"""The whole forward pass through `torch.compile`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import Optimization, Promise, one_of
from pytest_llmopt.core.requirements import Cuda, Package, Requirement
from pytest_llmopt.optimizations.decoding._decoding_claims import MODES, compiled_claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.loading import LoadPolicy

__all__ = ["Compiled"]

NEEDS: dict[str, tuple[Requirement, ...]] = {
    "cudagraphs": (Cuda(),),
    "tvm": (Package("apache-tvm", module="tvm"),),
    "openxla": (Package("torch-xla", module="torch_xla"),),
}
"""By backend of `torch.compile`, what it needs beside torch."""


@dataclass(frozen=True)
class Compiled(Optimization):
    """`model.forward = torch.compile(model.forward, ...)`: prefill and decode steps alike."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    mode: str = "default"
    fullgraph: bool = False
    dynamic: bool | None = None
    """None lets the compiler start static and generalize at the first change of shape."""
    backend: str = "inductor"

    def __post_init__(self) -> None:
        """Refuse modes that `torch.compile` does not have."""
        one_of("mode", self.mode, MODES)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """What the backend needs."""
        return NEEDS.get(self.backend, ())

    def precheck(self, model: str, policy: LoadPolicy) -> None:  # noqa: ARG002 - every optimization is told
        """Refuse a backend that nobody has registered; torch is imported only for one that it does not always have.

        Raises:
            OptionError: naming the nearest and all.
        """
        if self.backend in {"inductor", *NEEDS}:
            return
        from torch._dynamo import list_backends

        known = list_backends()
        if self.backend not in (*known, *list_backends(exclude_tags=())):
            near = difflib.get_close_matches(str(self.backend), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            msg = (
                f"backend={self.backend!r} of torch.compile does not exist; {hint}there are {', '.join(known)}; one of "
                "your own is registered with torch._dynamo.register_backend in conftest.py"
            )
            raise OptionError(msg)

    def claims(self, use: Use) -> Sequence[Claim]:
        """Graphs were compiled, and none when warm."""
        return compiled_claims(use)
