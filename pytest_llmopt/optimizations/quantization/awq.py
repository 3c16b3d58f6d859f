"""AWQ through GPTQModel: input channels that carry large activations are scaled up before the weights are rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._calibrated import CalibratedQuantizer
from pytest_llmopt.optimizations.quantization._kernels import Kernel, dispatch_claim, dispatched, needs_cuda
from pytest_llmopt.optimizations.quantization._quiet import elsewhere
from pytest_llmopt.optimizations.quantization._shapes import bytes_beside_codes, refuse_groups, share_a_scale
from pytest_llmopt.optimizations.quantization._weight_claims import weight_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_llmopt.core.applying import ModelSource
    from pytest_llmopt.core.claims import Claim, Use


__all__ = ["Awq"]

KERNELS = {
    "torch_awq": Kernel("AwqTorchLinear"),
    "torch_fused_awq": Kernel("TorchFusedAwqLinear"),
    "gemm": needs_cuda("AwqGEMMLinear"),
    "gemm_triton": needs_cuda("AwqGEMMTritonLinear"),
    "gemv": needs_cuda("AwqGEMVLinear"),
    "gemv_fast": needs_cuda("AwqGEMVFastLinear"),
    "exllama_v2": needs_cuda("AwqExllamaV2Linear"),
    "marlin": needs_cuda("AwqMarlinLinear", 8, 0),
    "machete": needs_cuda("AwqMacheteLinear", 9, 0),
}
CHOSEN = KERNELS | {"(aten)": Kernel("TorchAtenAwqLinear"), "(llm-awq)": needs_cuda("LLMAwqLinear")}
"""With those that the library takes by itself and Transformers has no name for."""
FORMATS = ("gemm", "gemv", "gemv_fast", "llm-awq")


@dataclass(frozen=True)
class Awq(CalibratedQuantizer):
    """Linear layers in 4 bits with a scale and a zero point for each group of input columns."""

    loading_options: ClassVar[frozenset[str]] = frozenset({"backend", "fuse_max_seq_len", "modules_to_fuse"})
    packages: ClassVar[tuple[str, ...]] = ("gptqmodel", "transformers")

    bits: int = 4
    group_size: int = 128
    """Input columns that share a scale; -1 for one scale to each output row."""
    zero_point: bool = True
    """Asymmetric."""
    format: str = "gemm"
    """How the codes are packed, AutoAWQ's `version`."""
    backend: str = "auto"
    """The kernel that runs it."""
    fuse_max_seq_len: int | None = None
    """Fused modules left Transformers with version 5: refused."""
    modules_to_fuse: tuple[str, ...] | None = None
    """Refused too."""

    def __post_init__(self) -> None:
        """Refuse values that the method does not have, or has no more."""
        one_of("bits", self.bits, (4,))
        one_of("group_size", self.group_size, (-1, 16, 32, 64, 128))
        one_of("zero_point", self.zero_point, (False, True))
        one_of("format", self.format, FORMATS)
        one_of("backend", self.backend, ("auto", *KERNELS))
        for name in ("fuse_max_seq_len", "modules_to_fuse"):
            if getattr(self, name) is not None:
                msg = f"{name}={getattr(self, name)!r} is not possible: Transformers 5 has no fused modules; omit it"
                raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, and a CUDA device for the formats and kernels that have no other kernel."""
        needs: tuple[Requirement, ...] = () if self.format == "gemm" else (Cuda(),)
        kernel = () if self.backend == "auto" else KERNELS[self.backend].needs
        return (Package("gptqmodel>=7", install="pip install 'pytest-llmopt[awq]'"), *dict.fromkeys((*needs, *kernel)))

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """Of 4 bits; looser without zero points."""
        if self.zero_point:
            return AccuracyLimits(0.05, 0.88, 1.05, "AWQ, arXiv:2306.00978, table 4: 4 bits in groups of 128")
        return AccuracyLimits(0.08, 0.86, 1.08, "AWQ, arXiv:2306.00978, table 4, for its asymmetric groups; then wider")

    @property
    def bytes_per_weight(self) -> float:
        """The code, and for each group a scale in 16 bits and a zero point: in the checkpoint and on CUDA kernels."""
        return self.bits / 8 + bytes_beside_codes(self.group_size, 2.5)

    @property
    def weight_format(self) -> WeightFormat:
        """Integers in groups, after a factor on every input."""
        return WeightFormat(
            self.bits,
            "asymmetric" if self.zero_point else "symmetric",
            group_size=share_a_scale(self.group_size),
            calibrated=True,
            rescaled=True,
            computes_in="bfloat16",
        )

    def claims(self, use: Use) -> Sequence[Claim]:
        """Packed as the kernel does that runs it, and that kernel is the one asked for."""
        held = 8 if dispatched(use) == "TorchAtenAwqLinear" else 2.5
        promised = self.bits / 8 + bytes_beside_codes(self.group_size, held)
        return [*weight_claims(use, promised), dispatch_claim(use, self.backend, CHOSEN)]

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """As AutoAWQ, llm-awq and GPTQModel write it."""
        names = {"w_bit": "bits", "q_group_size": "group_size", "version": "format"}
        known = {names.get(key, key): value for key, value in config.items() if value is not None}
        known["format"] = str(known.get("format", "gemm")).lower()
        if "zero_point" not in known and "sym" in known:
            known["zero_point"] = not known["sym"]
        return super().described_by(known, **options)

    def quantize(self, plan: ModelSource, folder: Path) -> None:
        """By GPTQModel, on the plan's device."""
        refuse_groups(plan, self.group_size)
        import torch
        from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

        config = QuantizeConfig(
            bits=self.bits,
            group_size=self.group_size,
            sym=not self.zero_point,
            quant_method="awq",
            format=self.format,
            offload_to_disk=False,
        )
        # Its kernels pack 16 bits only.
        dtype = getattr(torch, plan.dtype if plan.dtype in {"float16", "bfloat16"} else "bfloat16")
        trust = plan.policy.trust_remote_code
        model = GPTQModel.load(plan.model, config, device=plan.device, dtype=dtype, trust_remote_code=trust)
        backend = BACKEND.AWQ_TORCH if plan.device == "cpu" else BACKEND.AUTO
        texts = self.calibration_texts
        with elsewhere():
            model.quantize(texts, batch_size=1, backend=backend)
        model.save(str(folder))
