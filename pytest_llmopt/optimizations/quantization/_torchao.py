"""The schemes of torchao: what each may be asked for, the library's config for it, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.requirements import Cuda, Package, Requirement

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUPS = (32, 64, 128, 256)
MSLK = Package("mslk>=1.0.0")
LAYOUTS: dict[str, tuple[Requirement, ...]] = {
    "opaque": (),
    "tile_packed_to_4d": (Cuda(capability=(8, 0)),),
    "plain": (Cuda(capability=(9, 0)), MSLK),
    "preshuffled": (Cuda(capability=(9, 0)), MSLK),
}
"""Of int4 weights, with what each needs; the first is the prototype for CPUs."""


@dataclass(frozen=True)
class Scheme:
    """What a scheme has, its defaults first."""

    config: str
    bits: tuple[int, ...] = (8,)
    group_sizes: tuple[int, ...] = (-1,)
    zero_points: bool = False
    """Whether they can be chosen."""
    activations: str | None = None
    needs: tuple[Requirement, ...] = ()

    @property
    def default_bits(self) -> int:
        """4 where there is a choice."""
        return 4 if len(self.bits) > 1 else self.bits[0]


ANY = tuple(range(1, 9))
SCHEMES = {
    "int8_weight_only": Scheme("Int8WeightOnlyConfig", group_sizes=(-1, *GROUPS)),
    "int8_dynamic_activation": Scheme("Int8DynamicActivationInt8WeightConfig", activations="int8"),
    "int4_weight_only": Scheme("Int4WeightOnlyConfig", (4,), (128, 32, 64, 256)),
    "intx_weight_only": Scheme("IntxWeightOnlyConfig", ANY, (32, -1, *GROUPS[1:]), zero_points=True),
    "int8_dynamic_activation_intx_weight": Scheme(
        "Int8DynamicActivationIntxWeightConfig", ANY, (32, -1, *GROUPS[1:]), zero_points=True, activations="int8"
    ),
    "float8_weight_only": Scheme("Float8WeightOnlyConfig"),
    "float8_dynamic_activation": Scheme(
        "Float8DynamicActivationFloat8WeightConfig", activations="float8", needs=(Cuda(capability=(8, 9)),)
    ),
    "float8_dynamic_activation_int4_weight": Scheme(
        "Float8DynamicActivationInt4WeightConfig",
        (4,),
        (128,),
        activations="float8",
        needs=(Cuda(capability=(9, 0)), MSLK),
    ),
}


def config_of(scheme: str, bits: int, group_size: int, symmetric: bool | None, layout: str) -> Any:  # noqa: FBT001 - as the option
    """The config of torchao."""
    import torch
    from torchao import quantization
    from torchao.quantization.granularity import PerAxis, PerGroup, PerRow

    kind = getattr(quantization, SCHEMES[scheme].config)
    granularity = PerGroup(group_size) if group_size > 0 else None
    if scheme == "int4_weight_only":
        if layout != "opaque":
            return kind(group_size=group_size, int4_packing_format=layout)
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(group_size=group_size)
    if "intx" in scheme:
        weight = "weight_" if "activation" in scheme else ""
        mapping = {} if symmetric is None else {f"{weight}mapping_type": _mapping(symmetric=symmetric)}
        options = {f"{weight}granularity": granularity or PerAxis(0), **mapping}
        return kind(weight_dtype=getattr(torch, f"int{bits}"), **options)
    if scheme == "float8_dynamic_activation":
        return kind(granularity=PerRow())
    return kind(granularity=granularity) if granularity is not None and scheme == "int8_weight_only" else kind()


def _mapping(*, symmetric: bool) -> Any:
    from torchao.quantization.quant_primitives import MappingType

    return MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC


def stated_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our options from a `quantization_config`.

    Raises:
        OptionError: torchao's config in it is of a kind that has no scheme here.
    """
    inner = config.get("quant_type", {})
    inner = inner.get("default", inner) if isinstance(inner, dict) else {"_type": str(inner)}
    kind, data = str(inner.get("_type")), inner.get("_data", {})
    names = {scheme.config: name for name, scheme in SCHEMES.items()}
    names["PrototypeInt4WeightOnlyConfig"] = "int4_weight_only"
    if kind not in names:
        msg = f"the checkpoint's torchao config is {kind}; known here: {', '.join(sorted(names))}"
        raise OptionError(msg)
    options: dict[str, Any] = {"scheme": names[kind]}
    granularity = data.get("granularity", data.get("weight_granularity"))
    within = granularity.get("_data", {}) if isinstance(granularity, dict) else {}
    group_size = data.get("group_size") or within.get("group_size")
    scheme = SCHEMES[names[kind]]
    if len(scheme.group_sizes) > 1:
        options["group_size"] = group_size or -1
    if "weight_dtype" in data and len(scheme.bits) > 1:
        options["bits"] = int(data["weight_dtype"]["_data"].removeprefix("int"))
    if scheme.zero_points:
        mapping = data.get("mapping_type", data.get("weight_mapping_type", {"_data": "SYMMETRIC"}))
        options["symmetric"] = mapping["_data"].startswith("SYMMETRIC")
    if names[kind] == "int4_weight_only":
        layout = data.get("int4_packing_format", {"_data": "opaque"})["_data"]
        options["layout"] = layout.lower()
    return options
