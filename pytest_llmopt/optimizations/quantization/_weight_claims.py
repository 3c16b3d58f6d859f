"""What every weight quantizer claims: projections packed as promised, and a price that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.inspection import Projection
    from pytest_llmopt.core.weight_format import WeightFormat

SLACK = 1.25
"""How far above the promised bytes a projection may lie: code books and scales weigh more on small ones."""
PACKED_SHARE = 0.85
"""Of all weights, at least: routers, convolutions and state matrices may stay; they are 8 % of a tiny Mamba."""
LEAST_KL = {"float32": 1e-8, "float64": 1e-8}
"""What rounding alone stays below; in 16 bits rounding gives as much as 8 bits do, and only exact equality tells."""
LEAST_KL_16 = 1e-10


def product_claim(use: Use) -> Claim:
    """Where a packed weight is a tensor type of its own: it reaches the linear product packed, and so its kernel."""
    body = use.inspection.body
    bypassed = [item for item in body if item.products == 0]
    return Claim(
        "bypassed_kernels",
        Metric(Estimate.exact(len(bypassed), len(body)), Tolerance(at_most=0), "modules"),
        f"the packed weight of {bypassed[0].name}: {bypassed[0].kind} is never multiplied: it is unpacked in front of "
        "every product, and the kernel of its format is not called"
        if bypassed
        else "",
    )


def weight_claims(
    use: Use, bytes_per_parameter: float, *, bytes_per_column: float = 0.0, form: WeightFormat | None = None
) -> list[Claim]:
    """The claims of a quantizer that promises so many bytes for each weight of the body, scales included.

    Args:
        use: what was seen of the candidate.
        bytes_per_parameter: held for each weight.
        bytes_per_column: held beside them for each input column, such as its place in an order.
        form: the format, for the projections that it keeps as they are; None keeps the head only.
    """
    body = [item for item in use.inspection.body if form is None or not form.keeps(item.name)]
    before = {item.name: item for item in use.reference.body}
    promised = {item.name: bytes_per_parameter * item.parameters + bytes_per_column * item.columns for item in body}
    packed = [item for item in body if item.weight_bytes <= SLACK * promised[item.name]]
    share = sum(promised.values()) / max(1, sum(item.parameters for item in body))
    same = [item for item in body if item.name in before and item.kind == before[item.name].kind]
    held = sum(item.weight_bytes for item in body) / max(1, sum(item.parameters for item in body))
    heads = {item.name: item.kind for item in use.reference.projections if item.is_head}
    changed = [item for item in use.inspection.projections if item.is_head and heads.get(item.name) != item.kind]
    lazy = next((item for item in body if item not in packed), None)
    divergence = float(np.mean(use.divergence))
    return [
        Claim(
            "packed",
            Metric(Estimate.exact(len(packed) / max(1, len(body)), len(body)), Tolerance(at_least=1), "share"),
            "projections hold more bytes than the scheme promises"
            + (f", such as {lazy.name}: {lazy.kind}, {lazy.bytes_per_parameter:.3g} bytes/weight" if lazy else ""),
        ),
        _packed_share(use, body, packed, form),
        Claim(
            "unquantized_types",
            Metric(Estimate.exact(len(same), len(body)), Tolerance(at_most=0), "modules"),
            f"modules are of the type that the reference has, such as {same[0].name}: {same[0].kind}" if same else "",
        ),
        Claim(
            "changed_heads",
            Metric(Estimate.exact(len(changed)), Tolerance(at_most=0), "modules"),
            f"the head must stay as it is: {changed[0].name} is now {changed[0].kind}" if changed else "",
        ),
        Claim(
            "bytes_per_weight",
            Metric(
                Estimate.exact(held, len(body)),
                Tolerance(at_least=share / SLACK, at_most=share * SLACK),
                "bytes",
            ),
            f"the scheme promises {share:.3g} bytes for each weight",
        ),
        Claim(
            "kl_divergence",
            Metric(
                Estimate.exact(divergence, len(use.divergence)),
                Tolerance(at_least=LEAST_KL.get(use.dtype, LEAST_KL_16)),
                "nats/token",
            ),
            "too good: it differs from the reference by no more than rounding, as an unquantized model does",
        ),
    ]


def _packed_share(
    use: Use, body: Sequence[Projection], packed: Sequence[Projection], form: WeightFormat | None
) -> Claim:
    """Of all weights: what is in no linear layer, such as a stack of experts, counts too."""
    names = {item.name for item in packed}
    others = {name: size for name, size in use.inspection.other_weights.items() if form is None or not form.keeps(name)}
    left = {item.name: item.parameters for item in body if item.name not in names} | others
    whole = sum(item.parameters for item in body) + sum(others.values())
    share = sum(item.parameters for item in packed) / max(1, whole)
    largest = sorted(left, key=lambda name: -left[name])[:3]
    return Claim(
        "packed_share",
        Metric(Estimate.exact(share, len(body)), Tolerance(at_least=PACKED_SHARE), "share"),
        f"{share:.0%} of all weights are packed, embeddings, norms and the head aside. Not packed: "
        f"{', '.join(largest)}{f' and {len(left) - 3} more' if len(left) > 3 else ''}. A method that leaves them on "  # noqa: PLR2004 - as many as are named
        "purpose says so by `kept` of its weight_format",
    )
