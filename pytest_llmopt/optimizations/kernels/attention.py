"""Attention kernels: eager, SDPA, FlexAttention, FlashAttention-2, or any that is registered with Transformers."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import Optimization, Promise
from pytest_llmopt.core.quoting import quoted
from pytest_llmopt.core.requirements import Cuda, Package, Requirement
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.loading import LoadPolicy

__all__ = ["Attention"]

REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "flash_attention_2": (Cuda(capability=(8, 0)), Package("flash-attn>=2.6", module="flash_attn")),
    "flash_attention_3": (Cuda(capability=(9, 0)), Package("flash-attn-3", module="flash_attn_interface")),
    "flash_attention_4": (Cuda(capability=(9, 0)), Package("flash-attn-4", module="flash_attn.cute")),
}
HUB_KERNELS = (Package("kernels>=0.18.2", install="pip install 'kernels>=0.18.2,<0.19'"),)
"""What fetches a kernel of the hub, which is named like a model: `org/name`."""
EVERYWHERE = ("eager", "sdpa", "flex_attention")


@dataclass(frozen=True)
class Attention(Optimization):
    """One attention implementation, by its name in Transformers (`attn_implementation`)."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    implementation: str = "sdpa"

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The GPU and the package of the kernels that come in one."""
        return HUB_KERNELS if "/" in str(self.implementation) else REQUIREMENTS.get(self.implementation, ())

    def precheck(self, model: str, policy: LoadPolicy) -> None:  # noqa: ARG002 - every optimization is told
        """Refuse a name that is none of a kernel. Transformers is imported only for a name that is not its own.

        Raises:
            OptionError: naming the nearest and all.
        """
        name = self.implementation
        if name in EVERYWHERE or name in REQUIREMENTS or _of_hub(str(name)):
            return
        from transformers import AttentionInterface

        known = sorted({*EVERYWHERE, *REQUIREMENTS, *AttentionInterface().valid_keys()})
        known = [item for item in known if not item.startswith("paged|")]  # for continuous batching alone
        if name not in known:
            near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            msg = (
                f"attention implementation {quoted(name)} does not exist; {hint}there are {', '.join(known)}; one of "
                "your own is registered with AttentionInterface.register in conftest.py, one of the hub is org/name"
            )
            raise OptionError(msg)

    def claims(self, use: Use) -> Sequence[Claim]:
        """The configuration names it, and every call of a layer went to it."""
        seen, calls = use.inspection.attention, use.inspection.attention_calls or {}
        total = sum(calls.values())
        others = ", ".join(name for name in calls if name != self.implementation)
        return [
            Claim(
                "configured",
                Metric(Estimate.exact(float(seen == self.implementation)), Tolerance(at_least=1)),
                f"the configuration names {seen}, not {self.implementation}",
            ),
            Claim(
                "called",
                Metric(
                    Estimate.exact(calls.get(self.implementation, 0) / max(1, total), total),
                    Tolerance(at_least=1),
                    "share",
                ),
                f"layers call {others or 'no registered kernel'} instead of {self.implementation}",
            ),
        ]


def _of_hub(name: str) -> bool:
    """Whether it names a kernel of the hub, with a version and a function perhaps."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.-]+)?", name) is not None
