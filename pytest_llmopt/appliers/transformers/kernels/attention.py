"""An attention implementation, chosen while loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import RequirementMissingError

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


SUPPORTED_BY = {
    "sdpa": "_supports_sdpa",
    "flex_attention": "_supports_flex_attn",
    "flash_attention_2": "_supports_flash_attn",
    "flash_attention_3": "_supports_flash_attn",
}
"""The class attribute with which an architecture of Transformers says that it has a kernel."""


def _apply(options: Any, plan: LoadPlan) -> None:
    """Load the model with it.

    Raises:
        RequirementMissingError: the architecture does not have this kernel.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    policy = plan.policy
    config = AutoConfig.from_pretrained(
        plan.model, local_files_only=not policy.download, trust_remote_code=policy.trust_remote_code
    )
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    flag = SUPPORTED_BY.get(options.implementation)
    if flag is not None and architecture is not None and not getattr(architecture, flag, True):
        msg = f"needs an architecture with {options.implementation}; {architecture.__name__} of Transformers has none"
        raise RequirementMissingError(options.implementation, msg)
    plan.set("load", "attn_implementation", options.implementation, by="attention")


applier = Applier(_apply)
