"""Any pre-quantized checkpoint, and any quantization config of Transformers: the method is read from the config."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Produced
from pytest_llmopt.core.errors import ModelError, OptionError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.model_files import check_model, check_quantization, config_of
from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.quoting import explained, quoted, said
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sources import place_of
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.applying import ModelSource
    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.figures import Figures
    from pytest_llmopt.core.requirements import Requirement
    from pytest_llmopt.core.weight_format import WeightFormat

__all__ = ["Configured"]

UNNAMED = "name a checkpoint= that is quantized already, or a config= to quantize with"
TOLD = ("gptq", "awq")
"""Methods whose checkpoints are held to their weight format."""


class Given:
    """A config as the user gave it; two are equal when they say the same."""

    def __init__(self, value: Any) -> None:
        """Keep the config itself, which may hold what no dictionary does."""
        self.value = value

    @property
    def content(self) -> dict[str, Any]:
        """What it says, as a checkpoint would hold it."""
        return dict(self.value) if isinstance(self.value, dict) else dict(self.value.to_dict())

    def __str__(self) -> str:
        """What differs from the defaults of its class, on one line."""
        brief = getattr(self.value, "to_diff_dict", None)
        content = self.content if brief is None else {"quant_method": self.content.get("quant_method"), **brief()}
        return json.dumps(content, sort_keys=True, default=str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))


@dataclass(frozen=True)
class Configured(Quantizer):
    """What a checkpoint's `quantization_config` says, or a config that is handed over.

    Write `quantized(checkpoint=...)`, `quantized(config=...)` or `quantized("gptq", checkpoint=..., bits=4)`; options
    beside the checkpoint are what it is expected to be.
    """

    checkpoint: str = ""
    """Folder or hub id of a checkpoint that is quantized already; the reference stays the model under test, which
    `{model}` stands for: `checkpoint="{model}-AWQ"`."""
    config: Any = None
    """A quantization config of Transformers, or the dictionary of one, to quantize the model under test with."""
    method: str = ""
    """The method that the checkpoint is expected to have; empty takes what it says."""
    options: tuple[tuple[str, Any], ...] = ()
    """Options of the method: what the checkpoint is expected to have, or what only loading decides."""

    def __post_init__(self) -> None:
        """Make the config comparable.

        Raises:
            OptionError: it is no quantization config.
        """
        if self.config is None or isinstance(self.config, Given):
            return
        if not isinstance(self.config, dict) and not hasattr(self.config, "to_dict"):
            msg = f"config={self.config!r} is neither a quantization config of Transformers nor the dictionary of one"
            raise OptionError(msg)
        object.__setattr__(self, "config", Given(self.config))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """Those of the method; none yet where the checkpoint is still to be downloaded."""
        try:
            return () if self.known is None else self.known.requirements
        except ModelError:
            return ()

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """Those of the method; of one that is not known here, those of 4 bits or of 8."""
        if self.known is not None:
            return self.known.accuracy_limits
        if self._bits >= 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.01, 0.95, 1.02, "arXiv:2411.02355: FP8 is lossless, INT8 loses 1-3 %")
        return AccuracyLimits(0.10, 0.86, 1.10, "arXiv:2411.02355: W4A16 rivals 8 bits; wider, for other formats")

    @property
    def bytes_per_weight(self) -> float:
        """As the method promises."""
        return self._bits / 8 if self.known is None else self.known.bytes_per_weight

    @property
    def activations(self) -> str | None:
        """As the method promises."""
        return None if self.known is None else self.known.activations

    @property
    def figures(self) -> Figures:
        """As the method says."""
        return {"bits": self._bits} if self.known is None else self.known.figures

    @property
    def weight_format(self) -> WeightFormat | None:
        """As the method says.

        The config of a checkpoint does not say whether weights were rescaled before they were rounded, or tuned: where
        it is of GPTQ or AWQ both is allowed for; None of other checkpoints.
        """
        try:
            form = None if self.known is None else self.known.weight_format
        except ModelError:  # it is not here yet
            return None
        if not self.checkpoint or form is None:
            return form
        method = plain_name(str(self._content.get("quant_method", "")))
        return dataclasses.replace(form, calibrated=True, rescaled=True) if method in TOLD else None

    def claims(self, use: Use) -> Sequence[Claim]:
        """As the method does."""
        return super().claims(use) if self.known is None else self.known.claims(use)

    @property
    def produces(self) -> tuple[str, ...]:
        """Whose checkpoint it is; nobody's where there is a config, by which to quantize or to load otherwise.

        Raises:
            ModelError: the checkpoint is not here, or its config cannot be read.
        """
        if not self.checkpoint or self.config is not None:
            return ()
        method = self.method or plain_name(str(self._content.get("quant_method", "")))
        return (f"quantization.{method}",)

    def produce(self, source: ModelSource) -> Produced:
        """The checkpoint that is named, as it is.

        Raises:
            OptionError: it is not what the options say.
            ModelError: its config cannot be read.
        """
        read_config(self.checkpoint, download=source.policy.download)
        self.check_expected()
        return Produced(locate(self.checkpoint))

    @property
    def brings_weights(self) -> bool:
        """Whether a checkpoint is named."""
        return bool(self.checkpoint)

    def precheck(self, model: str, policy: LoadPolicy) -> None:  # noqa: ARG002 - every optimization is told
        """Refuse a checkpoint that is not there, is broken, or is not what the options say.

        Raises:
            OptionError: neither a checkpoint nor a config is given, or it is another than is expected.
            ModelError: says what is wrong with the checkpoint.
        """
        if not self.checkpoint and self.config is None:
            raise OptionError(UNNAMED)
        if self.config is not None:
            check_quantization(self._content, "the quantization config that is given")
        if not self.checkpoint:
            return
        folder = place_of(self.checkpoint, policy, "checkpoint")
        if folder is not None:
            check_model(folder, self.checkpoint, policy, "checkpoint", tokenizer=False)
            self.check_expected()

    def check_expected(self) -> None:
        """Refuse a checkpoint that is not what the options say.

        Raises:
            OptionError: naming what is asked for and what the checkpoint has.
        """
        found = str(self._content.get("quant_method", ""))
        if self.method and plain_name(found) != self.method:
            msg = f"quantized({self.method!r}) is asked for, but {self.checkpoint} says quant_method={found!r}"
            raise OptionError(msg)
        if self.known is None:
            return
        for name, wanted in self.options:
            states = getattr(self.known, name)
            if name not in self.known.loading_options and states != wanted:
                msg = f"{name}={wanted!r} is asked for, but the config of {self.checkpoint} has {name}={states!r}"
                raise OptionError(msg)

    @cached_property
    def _content(self) -> dict[str, Any]:
        """The `quantization_config`."""
        if self.config is not None:
            return self.config.content
        return read_config(self.checkpoint) if self.checkpoint else {}

    @cached_property
    def known(self) -> Quantizer | None:
        """The method with the options that the config states, where there is a file for it."""
        registry = Registry("optimizations", "optimization")
        name = f"quantization.{plain_name(str(self._content.get('quant_method', '')))}"
        if name not in registry.names():
            return None
        kind: type[Quantizer] = registry.load(name)
        given = {key: value for key, value in self.options if key in kind.loading_options}
        try:
            return kind.described_by(self._content, **given)
        except (OptionError, TypeError, ValueError) as error:
            stated = f"of the checkpoint {quoted(self.checkpoint)}" if self.checkpoint else "that is given"
            msg = f"the quantization_config {stated} cannot be used: {said(error)}; correct it, or export it again"
            raise OptionError(msg) from error

    @property
    def _bits(self) -> float:
        """What a config of an unknown method says of its width; 4 where it says nothing."""
        for key in ("bits", "nbits", "num_bits", "weight_bits", "w_bit"):
            if isinstance(self._content.get(key), (int, float)):
                return float(self._content[key])
        return 4.0


def read_config(checkpoint: str, *, download: bool = False) -> dict[str, Any]:
    """The `quantization_config` of a checkpoint, from its folder or from the hub's cache on this machine.

    Raises:
        ModelError: there is no such checkpoint here, or it is not quantized.
    """
    folder = place_of(checkpoint, LoadPolicy(download=download), "checkpoint")
    if folder is None:
        from huggingface_hub import hf_hub_download

        with explained(f"config.json of the checkpoint {quoted(checkpoint)} cannot be fetched", "compare its hub id"):
            folder = Path(hf_hub_download(checkpoint, "config.json")).parent
    found = config_of(folder, f"checkpoint {quoted(checkpoint)}").get("quantization_config")
    if found is None:
        msg = (
            f"the checkpoint {quoted(checkpoint)} is not quantized: its config.json has no quantization_config; name "
            "one that is, or a method to quantize the model with"
        )
        raise ModelError(msg)
    check_quantization(found, f"quantization_config in config.json of the checkpoint {quoted(checkpoint)}")
    return dict(found)
