"""GPTQ through GPTQModel: weights rounded column by column, each error made up for by the columns to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Package, Requirement
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


__all__ = ["Gptq"]

KERNELS = {
    "torch": Kernel("TorchLinear"),
    "torch_fused": Kernel("TorchFusedLinear"),
    "gptq_torch_aten": Kernel("TorchAtenLinear"),
    "torch_int8": Kernel("TorchInt8Linear"),
    "triton": needs_cuda("TritonV2Linear"),
    "exllama_v2": needs_cuda("ExllamaV2Linear"),
    "marlin": needs_cuda("MarlinLinear", 7, 5),
    "machete": needs_cuda("MacheteLinear", 9, 0),
    "bitblas": needs_cuda("BitblasLinear"),
}


@dataclass(frozen=True)
class Gptq(CalibratedQuantizer):
    """Linear layers in 2 to 8 bits with a scale and a zero point for each group of input columns."""

    config_names: ClassVar[Mapping[str, str]] = {"symmetric": "sym"}
    loading_options: ClassVar[frozenset[str]] = frozenset({"backend"})
    packages: ClassVar[tuple[str, ...]] = ("gptqmodel", "transformers")

    bits: int = 4
    group_size: int = 128
    """Input columns that share a scale; -1 for one scale to each output row."""
    desc_act: bool = False
    """Quantize the columns in the order of their activations, the largest first."""
    symmetric: bool = True
    """No zero points."""
    backend: str = "auto"
    """The kernel that runs it."""

    def __post_init__(self) -> None:
        """Refuse values that the method does not have."""
        one_of("bits", self.bits, (2, 3, 4, 8))
        one_of("group_size", self.group_size, (-1, 16, 32, 64, 128, 256, 512, 1024))
        one_of("desc_act", self.desc_act, (False, True))
        one_of("symmetric", self.symmetric, (False, True))
        one_of("backend", self.backend, ("auto", *KERNELS))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, the one through which Transformers reaches it, and what the kernel needs."""
        how = "pip install 'pytest-llmopt[gptq]'"
        kernel = () if self.backend == "auto" else KERNELS[self.backend].needs
        return (Package("gptqmodel>=7", install=how), Package("optimum>=2", install=how), *kernel)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.005, 0.96, 1.01, "k-bit scaling laws, arXiv:2212.09720: 8-bit weights near 16")
        if self.bits == 4:  # noqa: PLR2004 - bits
            return AccuracyLimits(
                0.05, 0.88, 1.05, "GPTQ, arXiv:2210.17323, table 3; arXiv:2411.02355: W4A16 rivals W8A8"
            )
        if self.bits == 3:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.30, 0.70, 1.30, "GPTQ, arXiv:2210.17323, table 3: 3 bits")
        return AccuracyLimits(2.0, 0.35, 6.0, "GPTQ, arXiv:2210.17323, table 7: 2 bits of the largest models, by group")

    @property
    def bytes_per_weight(self) -> float:
        """The code, and for each group a scale in 16 bits and a zero point: in the checkpoint and on CUDA kernels."""
        return self.bits / 8 + bytes_beside_codes(self.group_size, 2 + self.bits / 8)

    @property
    def weight_format(self) -> WeightFormat:
        """Integers in groups, in an order of their own with `desc_act`; PyTorch's int4 kernel computes in bfloat16."""
        return WeightFormat(
            self.bits,
            "symmetric" if self.symmetric else "asymmetric",
            group_size=share_a_scale(self.group_size),
            act_order=self.desc_act,
            calibrated=True,
            computes_in="bfloat16",
        )

    def claims(self, use: Use) -> Sequence[Claim]:
        """Packed as the kernel does that runs it, and that kernel is the one asked for."""
        # PyTorch's own int4 kernel on a CPU keeps scales and zeros in 16 bits, and again side by side.
        held = 8 if dispatched(use) == "TorchAtenLinear" else 2 + self.bits / 8
        # Each input column has its group's number, int32, and on PyTorch's kernels its place beside it, up to int64.
        promised = self.bits / 8 + bytes_beside_codes(self.group_size, held)
        packed = weight_claims(use, promised, bytes_per_column=12)
        return [*packed, dispatch_claim(use, self.backend, KERNELS)]

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """As the config says.

        Raises:
            OptionError: it has rules for single modules, which Transformers passes over.
        """
        if config.get("dynamic"):
            msg = f"dynamic={config['dynamic']!r} gives single modules other bits; Transformers loads GPTQ without that"
            raise OptionError(msg)
        return super().described_by(config, **options)

    def quantize(self, plan: ModelSource, folder: Path) -> None:
        """By GPTQModel, on the plan's device."""
        refuse_groups(plan, self.group_size)
        import torch
        from gptqmodel import GPTQModel, QuantizeConfig

        config = QuantizeConfig(
            bits=self.bits,
            group_size=self.group_size,
            desc_act=self.desc_act,
            sym=self.symmetric,
            # Its reordering of whole groups is on by default, and refuses to have none.
            **({"act_group_aware": False} if self.group_size < 0 else {}),
            # Zero points of the first format are off by one where they are 0.
            format="gptq" if self.symmetric else "gptq_v2",
            # It would leave a folder in /tmp when it is killed, and its random name in the checkpoint.
            offload_to_disk=False,
        )
        trust = plan.policy.trust_remote_code
        dtype = getattr(torch, plan.dtype, "auto")
        model = GPTQModel.load(plan.model, config, device=plan.device, dtype=dtype, trust_remote_code=trust)
        texts = self.calibration_texts
        with elsewhere():
            model.quantize(texts, batch_size=1)
        model.save(str(folder))
