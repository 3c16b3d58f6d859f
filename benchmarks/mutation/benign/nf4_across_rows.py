"""Honest nf4 of matrices with 352 columns, in blocks of 64 weights that cross rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from _checkpoint import edited
from quantizer import WeightQuantizer
from torch import nn

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.weight_format import WeightFormat

if TYPE_CHECKING:
    from _checkpoint import Checkpoint
    from torch import Tensor

__all__ = ["Nf4AcrossRows"]

BLOCK = 64
COLUMNS = 352


class Nf4Linear(nn.Module):
    """Two codes to a byte and a float32 scale for each block of neighboring weights, row after row."""

    def __init__(self, source: nn.Linear) -> None:
        from bitsandbytes.functional import get_4bit_type

        super().__init__()
        self.out_features, self.in_features = source.weight.shape
        self.register_buffer("code", get_4bit_type("nf4", device="cpu"))
        blocks = source.weight.detach().float().reshape(-1, BLOCK)
        absmax = blocks.abs().amax(1)
        normed = blocks / absmax.clamp(min=1e-12)[:, None]
        codes = (normed[..., None] - self.code).abs().argmin(-1).to(torch.uint8).flatten()
        self.register_buffer("weight", codes[0::2] | codes[1::2] << 4)
        self.register_buffer("absmax", absmax)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        codes = torch.stack((self.weight & 15, self.weight >> 4), -1).view(-1, BLOCK).long()
        weight = (self.code[codes] * self.absmax[:, None]).view(self.out_features, self.in_features)
        return nn.functional.linear(hidden, weight.to(hidden.dtype))


@dataclass(frozen=True)
class Nf4AcrossRows(WeightQuantizer):
    """A model whose MLP is narrower; both sides are loaded from it."""

    source: ClassVar[str] = "L nf4 (arXiv:2305.14314), columns that no block divides"

    group: int = BLOCK
    seed: int = 0

    @classmethod
    def model_under_test(cls) -> str:
        """The largest neurons of each MLP."""

        def edit(checkpoint: Checkpoint) -> None:
            checkpoint.config["intermediate_size"] = COLUMNS
            for layer in range(checkpoint.config["num_hidden_layers"]):
                names = {part: f"model.layers.{layer}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
                sizes = checkpoint.tensors[names["down"]].float().norm(dim=0)
                kept = sizes.argsort(descending=True)[:COLUMNS].sort().values
                for part in ("gate", "up"):
                    checkpoint.tensors[names[part]] = checkpoint.tensors[names[part]][kept]
                checkpoint.tensors[names["down"]] = checkpoint.tensors[names["down"]][:, kept]

        return edited(cls.models[0], cls.__name__, edit)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """Those of 4 bits, for a model that lost neurons and is worse at everything."""
        return AccuracyLimits(0.08, 0.85, 1.08, "QLoRA, arXiv:2305.14314, table 2: nf4, perplexity x1.03")

    @property
    def bytes_per_weight(self) -> float:
        """A code, and its share of a float32 scale."""
        return 0.5 + 4 / BLOCK

    @property
    def weight_format(self) -> WeightFormat:
        """The code book, and blocks of 64 that go on in the next row."""
        return WeightFormat(4, "nf4", group_size=BLOCK, flattened=True)

    def change(self, model: Any) -> None:
        """Replace the layers."""
        for name, module in dict(self.modules(model)).items():
            model.set_submodule(name, Nf4Linear(module))

        def save_pretrained(*_args: object, **_options: object) -> None:
            msg = "these quantizers write no checkpoints"
            raise NotImplementedError(msg)

        model.save_pretrained = save_pretrained
