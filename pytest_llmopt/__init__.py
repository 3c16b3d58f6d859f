"""pytest-llmopt: regression tests for optimized language models.

Importing this costs nothing: names are resolved when they are used, and no engine is imported before one is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pytest_llmopt._version import __version__

if TYPE_CHECKING:
    from pytest_llmopt import llmopt
    from pytest_llmopt.checks._limits import Limits
    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.errors import LlmoptError, OptionError, RequirementMissingError
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.optimization import AccuracyLimits, Promise
    from pytest_llmopt.core.prompt import Prompt
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.requirements import Cuda, Package
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.tokens import Continuation
    from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
    from pytest_llmopt.engines._transformers.plan import LoadPlan
    from pytest_llmopt.optimizations.quantization._quantizer import Quantizer

__all__ = [
    "AccuracyLimits",
    "Continuation",
    "Cuda",
    "Estimate",
    "Generation",
    "Limits",
    "LlmoptError",
    "LoadPlan",
    "Metric",
    "OptionError",
    "Package",
    "Promise",
    "Prompt",
    "PromptSet",
    "Quantizer",
    "RequirementMissingError",
    "SamplingParams",
    "Status",
    "Tolerance",
    "TopLogprobs",
    "Verdict",
    "__version__",
    "llmopt",
]

_HOMES = {
    "checks._limits": ("Limits",),
    "core.answers": ("Generation",),
    "core.errors": ("LlmoptError", "OptionError", "RequirementMissingError"),
    "core.logprobs": ("TopLogprobs",),
    "core.optimization": ("AccuracyLimits", "Promise"),
    "core.prompt": ("Prompt",),
    "core.prompts": ("PromptSet",),
    "core.requirements": ("Cuda", "Package"),
    "core.sampling": ("SamplingParams",),
    "core.tokens": ("Continuation",),
    "core.verdict": ("Estimate", "Metric", "Status", "Tolerance", "Verdict"),
    "engines._transformers.plan": ("LoadPlan",),
    "optimizations.quantization._quantizer": ("Quantizer",),
}


def __getattr__(name: str) -> Any:
    if name == "llmopt":
        return importlib.import_module("pytest_llmopt.llmopt")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pytest_llmopt.{home}"), name)
    msg = f"module 'pytest_llmopt' has no attribute {name!r}"
    raise AttributeError(msg)
