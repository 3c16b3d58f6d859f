"""A buffer that a fused kernel reads later is taken for free and reused: the residual is overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["BufferOverwritten"]


@dataclass(frozen=True)
class BufferOverwritten(Mutant):
    """In one layer the residual stream holds the normalized hidden state instead of its input."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG01 pytorch/pytorch#183575"
    base: ClassVar = (("decoding.compiled", {"backend": "aot_eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("decode",)

    def change(self, model: Any) -> None:
        """Let one norm write its output into its input, in decode steps."""
        norm = model.model.layers[2].input_layernorm
        own = norm.forward

        def forward(hidden_states: Any) -> Any:
            output = own(hidden_states)
            if hidden_states.shape[1] == 1:
                hidden_states.copy_(output)
            return output

        norm.forward = forward
