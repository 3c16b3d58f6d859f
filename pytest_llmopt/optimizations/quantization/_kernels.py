"""The kernels that a library may run packed weights with: which one was asked for, and which was really dispatched."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.requirements import Cuda
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

# GPTQModel takes half of the processors for its workers and fails where that is one; it reads this when it first works.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, (os.cpu_count() or 1) // 2)))

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.requirements import Requirement


@dataclass(frozen=True)
class Kernel:
    """One way to run packed weights."""

    module: str
    """Class of the linear layers that run it."""
    needs: tuple[Requirement, ...] = ()


def needs_cuda(module: str, *capability: int) -> Kernel:
    """A kernel that runs on CUDA devices of at least some compute capability."""
    major, minor = capability or (0, 0)
    return Kernel(module, (Cuda(capability=(major, minor)),))


def dispatched(use: Use) -> str:
    """Class of most of the body's modules."""
    kinds = Counter(item.kind.partition("[")[0] for item in use.inspection.body)
    return kinds.most_common(1)[0][0] if kinds else ""


def dispatch_claim(use: Use, backend: str, kernels: Mapping[str, Kernel]) -> Claim:
    """Every projection runs the kernel that was asked for; one of those that are known where the choice was free."""
    allowed = {kernel.module for kernel in kernels.values()} if backend == "auto" else {kernels[backend].module}
    body = use.inspection.body
    kinds = Counter(item.kind.partition("[")[0] for item in body)
    runs = sum(count for kind, count in kinds.items() if kind in allowed)
    seen = ", ".join(f"{kind} x {count}" for kind, count in sorted(kinds.items()))
    return Claim(
        "dispatched",
        Metric(Estimate.exact(runs, len(body)), Tolerance(at_least=max(1, len(body))), f"modules, {seen}"),
        f"backend={backend!r} runs {', '.join(sorted(allowed))}; the model has {seen or 'no projections'}",
    )
