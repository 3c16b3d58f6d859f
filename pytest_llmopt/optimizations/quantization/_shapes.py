"""The shapes of a model's linear layers, known from its config before any weight is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from pytest_llmopt.core.applying import ModelSource


def share_a_scale(group_size: int) -> int | Literal["channel"]:
    """Inputs that share a scale, as a weight format says it; -1 stands for one scale to each output channel."""
    return "channel" if group_size < 0 else group_size


def bytes_beside_codes(group_size: int, per_group: float) -> float:
    """Bytes of each weight for the scale and zero point of its group; one to a whole row counts as nothing."""
    return 0.0 if group_size < 0 else per_group / group_size


def linear_shapes(plan: ModelSource) -> dict[str, tuple[int, int]]:
    """Rows (outputs) and columns (inputs) of every linear layer but the output embedding, by module name."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    policy = plan.policy
    source = {"local_files_only": not policy.download, "trust_remote_code": policy.trust_remote_code}
    config = AutoConfig.from_pretrained(plan.weights or plan.model, **source)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=policy.trust_remote_code)
    head = model.get_output_embeddings()
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }


def refuse_groups(plan: ModelSource, group_size: int, *, of: str = "columns") -> None:
    """Refuse groups that do not fit the model: libraries leave such a layer as it is, or fail in the middle.

    A negative size stands for whole rows, which always fit.

    Raises:
        OptionError: names the first module whose rows or columns cannot be divided, and both numbers.
    """
    for name, shape in linear_shapes(plan).items() if group_size > 0 else ():
        length = shape[0 if of == "rows" else 1]
        if length % group_size:
            msg = f"group_size={group_size} does not divide the {length} {of} of {name}; choose a divisor of {length}"
            raise OptionError(msg)
