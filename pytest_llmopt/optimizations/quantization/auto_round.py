"""AutoRound: whether each weight rounds up or down is learned by signed gradient descent, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.values import LARGEST, CountOrNone, Range
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._calibrated import CalibratedQuantizer
from pytest_llmopt.optimizations.quantization._shapes import bytes_beside_codes, refuse_groups, share_a_scale
from pytest_llmopt.optimizations.quantization._weight_claims import weight_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_llmopt.core.applying import ModelSource
    from pytest_llmopt.core.claims import Claim, Use


__all__ = ["AutoRound"]

FORMATS = {"auto_round": (), "auto_gptq": ("gptqmodel>=7", "optimum>=2"), "auto_awq": ("gptqmodel>=7",)}
"""With what loading each of them needs beside the library."""


@dataclass(frozen=True)
class AutoRound(CalibratedQuantizer):
    """Linear layers in 2 to 8 bits with a scale for each group of input columns, their rounding tuned."""

    config_names: ClassVar[Mapping[str, str]] = {"symmetric": "sym"}
    loading_options: ClassVar[frozenset[str]] = frozenset({"backend"})
    packages: ClassVar[tuple[str, ...]] = ("auto-round", "transformers")

    bits: int = 4
    """Of the weights; activations stay in 16 bits (the schemes W2A16 to W8A16)."""
    group_size: int = 128
    """Input columns that share a scale; -1 for one scale to each output row."""
    symmetric: bool = True
    """No zero points."""
    iters: CountOrNone = 200
    """Steps of gradient descent for each block; 0 rounds to the nearest."""
    format: str = "auto_round"
    """How it is written; the others are loaded as GPTQ and AWQ checkpoints are."""
    backend: str = "auto"
    """AutoRound's kernel for its own format, such as `torch`."""
    seqlen: Annotated[int, Range(16, LARGEST)] = 128
    """Tokens of each calibration sample: the prompts are cut from one long text."""

    def __post_init__(self) -> None:
        """Refuse values that the method does not have."""
        one_of("bits", self.bits, (2, 3, 4, 5, 6, 7, 8))
        one_of("group_size", self.group_size, (-1, 16, 32, 64, 128, 256))
        one_of("symmetric", self.symmetric, (False, True))
        one_of("format", self.format, tuple(FORMATS))
        if self.format == "auto_awq" and self.bits != 4:  # noqa: PLR2004 - bits
            msg = f"bits={self.bits} is not possible with format='auto_awq'; allowed: 4"
            raise OptionError(msg)
        if self.format != "auto_round" and self.backend != "auto":
            msg = f"backend={self.backend!r} is for format='auto_round', not for {self.format!r}; omit it"
            raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, and those that load the format."""
        how = "pip install 'pytest-llmopt[auto_round]'"
        return tuple(Package(spec, install=how) for spec in ("auto-round>=0.16", *FORMATS[self.format]))

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width."""
        if self.bits >= 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.005, 0.96, 1.01, "k-bit scaling laws, arXiv:2212.09720: 8-bit weights near 16")
        if self.bits >= 4:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.05, 0.88, 1.05, "AutoRound, arXiv:2309.05516: 4 bits near lossless, mostly")
        if self.bits == 3:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.25, 0.72, 1.25, "AutoRound, arXiv:2309.05516: W3G128")
        return AccuracyLimits(1.0, 0.50, 3.0, "AutoRound, arXiv:2309.05516: W2G128")

    @property
    def bytes_per_weight(self) -> float:
        """The code, and for each group a scale in 16 bits and a zero point."""
        return self.bits / 8 + bytes_beside_codes(self.group_size, 2 + self.bits / 8)

    @property
    def weight_format(self) -> WeightFormat:
        """Integers in groups, each rounded up or down as learned; the kernels compute in 16 bits."""
        return WeightFormat(
            self.bits,
            "symmetric" if self.symmetric else "asymmetric",
            group_size=share_a_scale(self.group_size),
            calibrated=self.iters > 0,
            computes_in="bfloat16",
        )

    def claims(self, use: Use) -> Sequence[Claim]:
        """Packed as promised; each input column may have its group's number, int32."""
        return weight_claims(use, self.bytes_per_weight, bytes_per_column=4)

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """As AutoRound writes it; a checkpoint does not say how long the samples were."""
        return super().described_by({key: value for key, value in config.items() if key != "format"}, **options)

    def quantize(self, plan: ModelSource, folder: Path) -> None:
        """By AutoRound, on the plan's device."""
        refuse_groups(plan, self.group_size)
        import torch
        import transformers
        from auto_round import AutoRound as Library

        source = {"trust_remote_code": plan.policy.trust_remote_code, "local_files_only": True}
        tokenizer = transformers.AutoTokenizer.from_pretrained(plan.model, **source)
        dtype = getattr(torch, plan.dtype, "auto")
        model = transformers.AutoModelForCausalLM.from_pretrained(plan.model, dtype=dtype, **source).to(plan.device)
        text = "\n\n".join(prompt.text for prompt in self.calibration_prompts)
        samples = list(tokenizer(text, return_tensors="pt")["input_ids"][0].split(self.seqlen))
        samples = [sample[None] for sample in samples if len(sample) == self.seqlen]
        tuned = Library(
            model,
            tokenizer,
            scheme=f"W{self.bits}A16",
            group_size=self.group_size,
            sym=self.symmetric,
            iters=self.iters,
            dataset=samples,
            seqlen=self.seqlen,
            nsamples=len(samples),
            device_map=plan.device,
            enable_torch_compile=False,
        )
        tuned.quantize_and_save(str(folder), format=self.format)
        # It may write into a folder of its own below the one it is given.
        for written in [path.parent for path in folder.glob("*/config.json")]:
            for file in list(written.iterdir()):
                file.rename(folder / file.name)
            written.rmdir()
