"""What is claimed of weights that are packed in their file and unpacked in memory: nothing about memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance
from pytest_llmopt.optimizations.quantization._weight_claims import SLACK, weight_claims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.claims import Use

STORED = "stored_bytes_per_weight"
"""Figure of the file: bytes for each weight of the body, scales included."""
ON_GRID = "on_grid"
"""Figure of the model in memory: the share of projections whose weights are all values of the format."""


def unpacked_claims(use: Use, bytes_per_weight: float) -> list[Claim]:
    """The claims of a quantizer whose file is small and whose model in memory is as large as the reference.

    The figures `STORED` and `ON_GRID` are those that it asked the plan to measure.
    """
    measured = use.inspection.measured
    share = measured.get(ON_GRID, 0.0)
    stored = measured.get(STORED, float("inf"))
    shared = [
        claim for claim in weight_claims(use, bytes_per_weight) if claim.name in {"changed_heads", "kl_divergence"}
    ]
    return [
        Claim(
            ON_GRID,
            Metric(Estimate.exact(share, len(use.inspection.body)), Tolerance(at_least=1), "share"),
            "projections hold weights in memory that are no values of the format",
        ),
        Claim(
            STORED,
            Metric(
                Estimate.exact(stored),
                Tolerance(at_least=bytes_per_weight / SLACK, at_most=bytes_per_weight * SLACK),
                "bytes",
            ),
            f"the format promises {bytes_per_weight:.3g} bytes for each weight in the file",
        ),
        *shared,
    ]


def body_of(model: Any) -> dict[str, Any]:
    """The linear layers of a model by name, without its head."""
    head = model.get_output_embeddings()
    named = model.named_modules()
    return {
        name: module
        for name, module in named
        if isinstance(getattr(module, "in_features", None), int) and module is not head
    }


def stored_bytes_per_weight(model: Any, weights: str) -> float:
    """Bytes that the files of a checkpoint that was loaded hold for each weight of the body, biases left out."""
    body = body_of(model)
    held = sum(
        size
        for name, size in _tensors(_folder(weights))
        if name.rpartition(".")[0] in body and name.rpartition(".")[2] not in {"bias", "weight_shape"}
    )
    return held / max(1, sum(module.in_features * module.out_features for module in body.values()))


def as_stored(model: Any, weights: str, block: tuple[int, int]) -> float:
    """The share of projections whose weights are the float8 codes of the files times the scales of their blocks."""
    import torch
    from safetensors import safe_open

    body, matching = body_of(model), 0
    for file in sorted(_folder(weights).glob("*.safetensors")):
        with safe_open(str(file), "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - no dictionary
                module = body.get(name.removesuffix(".weight_scale_inv"))
                if module is None or not name.endswith(".weight_scale_inv"):
                    continue
                codes, scale = stored.get_tensor(name.removesuffix("_scale_inv")).float(), stored.get_tensor(name)
                spread = scale.float().repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
                expected = codes * spread[: codes.shape[0], : codes.shape[1]]
                held = module.weight.detach().float().cpu()
                slack = 1e-5 if module.weight.dtype == torch.float32 else 2**-7
                matching += held.shape == expected.shape and torch.allclose(held, expected, rtol=slack, atol=1e-12)
    return matching / max(1, len(body))


def _folder(weights: str) -> Path:
    """Where a checkpoint lies, which was downloaded if it had to be."""
    if Path(weights).is_dir():
        return Path(weights)
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(weights, "config.json", local_files_only=True)).parent


def _tensors(folder: Path) -> Iterator[tuple[str, int]]:
    """Names and bytes of the tensors, from the headers alone."""
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                yield name, end - begin
