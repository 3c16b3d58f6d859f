"""GGUF: the files of llama.cpp, as Transformers loads them, and small ones written by the gguf package."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.applying import Produced
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization import _gguf_file
from pytest_llmopt.optimizations.quantization._calibrated import CheckpointQuantizer
from pytest_llmopt.optimizations.quantization._unpacked import unpacked_claims
from pytest_llmopt.optimizations.quantization._weight_claims import weight_claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.applying import ModelSource
    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.figures import Figures
    from pytest_llmopt.core.loading import LoadPolicy


__all__ = ["Gguf"]

BLOCK = 32
FORMATS = {
    "Q8_0": WeightFormat(8, group_size=BLOCK),
    "Q5_0": WeightFormat(5, group_size=BLOCK),
    "Q4_0": WeightFormat(4, group_size=BLOCK),
    "Q5_1": WeightFormat(5, "affine", group_size=BLOCK),
    "Q4_1": WeightFormat(4, "affine", group_size=BLOCK),
}


@dataclass(frozen=True)
class Gguf(CheckpointQuantizer):
    """Weights in blocks with their scales, in one file; on a CPU Transformers unpacks them while it loads."""

    packages: ClassVar[tuple[str, ...]] = ("gguf", "transformers")

    quant_type: str | None = None
    """Of the linear layers; None takes Q8_0, or what most of them have in a file that is given."""
    file: str = ""
    """A `.gguf` file of the model under test; empty writes one."""

    def __post_init__(self) -> None:
        """Refuse types that the gguf package cannot write, and a file that is not there.

        Raises:
            OptionError: naming the type or the file.
        """
        if not self.file:
            one_of("quant_type", self.quant_type, (None, *_gguf_file.WRITTEN))
            return
        one_of("quant_type", self.quant_type, (None, *_gguf_file.BYTES))
        if not _gguf_file.is_there(self.file):
            msg = f"file={self.file!r} is not there; give the path of a .gguf file on this machine"
            raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; it runs on a CPU too."""
        return (Package("gguf>=0.10", install="pip install 'pytest-llmopt[gguf]'"),)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By bits for each weight."""
        source = "llama.cpp, tools/perplexity README (PR 6936): Llama 3 8B by type"
        limits = (
            (8, AccuracyLimits(0.002, 0.97, 1.01, f"{source}; Q8_0 KL 0.0014")),
            (5.5, AccuracyLimits(0.03, 0.90, 1.03, f"{source}; Q5_0 KL 0.022, perplexity 2 % up")),
            (3.5, AccuracyLimits(0.10, 0.86, 1.10, f"{source}; Q4_0 KL 0.072, perplexity 8 % up")),
        )
        found = next((item for least, item in limits if 8 * self.bytes_per_weight >= least), None)
        return found or AccuracyLimits(0.50, 0.60, 1.60, f"{source}; Q2_K KL 0.45, perplexity 56 % up")

    @property
    def bytes_per_weight(self) -> float:
        """In the file: the codes and the scales of a block, exactly."""
        return _gguf_file.BYTES[self._type]

    @property
    def figures(self) -> Figures:
        """Bits with the scales of the block, as llama.cpp counts them, and its weights."""
        return {"bits": 8 * self.bytes_per_weight, "group": _gguf_file.BLOCKS[self._type][0]}

    @property
    def weight_format(self) -> WeightFormat | None:
        """Blocks of 32 with a scale in float16.

        None of floats, of K-quants and IQ types, whose scales are quantized again, and of MXFP4 with its powers of two.
        """
        form = FORMATS.get(self._type)
        # Another's file may be weighted by an importance matrix.
        return dataclasses.replace(form, calibrated=True) if form is not None and self.file else form

    def claims(self, use: Use) -> Sequence[Claim]:
        """A small file, and weights in memory that are what it decodes to; packed ones where there is a kernel."""
        packed = any(item.kind.startswith("GgufLinear") for item in use.inspection.body)
        claims = (weight_claims if packed else unpacked_claims)(use, self.bytes_per_weight)
        # A type of floats gives the weights of the checkpoint back, as it should.
        return [item for item in claims if item.name != "kl_divergence" or self._type not in {"F32", "F16", "BF16"}]

    @property
    def brings_weights(self) -> bool:
        """Whether a file is given."""
        return bool(self.file)

    def precheck(self, model: str, policy: LoadPolicy) -> None:  # noqa: ARG002 - every optimization is told
        """Refuse a file that is no GGUF file of a version that is read.

        Raises:
            ModelError: naming the file.
        """
        if self.file:
            _gguf_file.refuse_other_files(Path(self.file))

    def produce(self, source: ModelSource) -> Produced | None:
        """The file that is given, or one of the cache, written first where it is missing."""
        if self.file:
            return Produced(str(Path(self.file).parent), file=Path(self.file).name)
        written = super().produce(source)
        return None if written is None else dataclasses.replace(written, file=_gguf_file.NAME)

    def quantize(self, plan: ModelSource, folder: Path) -> None:
        """By the gguf package, rounded to nearest."""
        _gguf_file.write(plan, folder / _gguf_file.NAME, self._type)

    @property
    def _type(self) -> str:
        if self.quant_type is not None:
            return self.quant_type
        return _gguf_file.type_of(Path(self.file)) if self.file else "Q8_0"
