"""What the whole process computes by: whoever changes it for one model changes it for all."""

from __future__ import annotations

import atexit
import os
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.watching import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Variables that decide which kernel runs, or in how many threads, so in which order it sums.

Not CUBLAS_WORKSPACE_CONFIG: quantizers set it for their own calibration, and it makes sums only more repeatable.
"""
BACKENDS = (
    "cuda.matmul.allow_tf32",
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "cuda.matmul.allow_fp16_accumulation",
    "cudnn.enabled",
    "cudnn.benchmark",
    "cudnn.deterministic",
    "cudnn.allow_tf32",
    "mkldnn.enabled",
    "mkldnn.deterministic",
    "mkldnn.allow_tf32",
    "mkldnn.fp32_precision",
    "mkldnn.matmul.fp32_precision",
    "nnpack.enabled",
)
"""Switches below `torch.backends`; a release of torch that lacks one has nothing to compare."""
ATTENTION_KERNELS = ("flash", "mem_efficient", "math", "cudnn")
"""Those of `scaled_dot_product_attention` that can be switched off."""


@dataclass(frozen=True)
class Setting:
    """One thing that the process computes by."""

    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None
    opaque: bool = False
    """Too long to be shown, as the state of a generator is."""


@dataclass(frozen=True)
class ProcessState:
    """The settings of the process at one moment."""

    settings: Mapping[str, Setting]
    values: Mapping[str, Any]

    @classmethod
    def now(cls) -> ProcessState:
        """As it is now."""
        settings = dict(_settings())
        return cls(settings, {name: setting.read() for name, setting in settings.items()})

    def changes(self) -> list[Change]:
        """What is otherwise now."""
        changed = []
        for name, setting in self.settings.items():
            was, now = self.values[name], setting.read()
            if not _same(was, now):
                told = f"{name} is another one" if setting.opaque else f"{name} is now {now}, was {was}"
                changed.append(Change(told, _undoing(setting, was)))
        return changed


def _undoing(setting: Setting, value: Any) -> Callable[[], object] | None:
    write = setting.write
    return None if write is None else lambda: write(value)


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(was) == len(now) and all(map(_same, was, now))
    if hasattr(was, "shape") and hasattr(now, "shape"):
        return bool(was.shape == now.shape and (was == now).all())
    return bool(was == now)


def _settings() -> Iterator[tuple[str, Setting]]:
    yield from _modes()
    yield from _switches()
    yield from _generators()
    for name in ENVIRONMENT:
        yield f"the environment variable {name}", _variable(name)


def _modes() -> Iterator[tuple[str, Setting]]:
    import torch
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    yield "torch's default dtype", Setting(torch.get_default_dtype, torch.set_default_dtype)
    yield "torch's default device", Setting(_default_device, torch.set_default_device)
    yield "torch's number of threads", Setting(torch.get_num_threads, torch.set_num_threads)
    yield "torch's grad mode", Setting(torch.is_grad_enabled, torch._C._set_grad_enabled)  # noqa: SLF001 - as `set_grad_enabled`, which is a context
    yield "torch's inference mode", Setting(torch.is_inference_mode_enabled, _set_inference_mode)
    for device in ("cpu", "cuda"):
        yield f"autocast on {device}", Setting(*_autocast(device))
    # The default device is such a mode as well; its own setting puts it back.
    yield "the stack of torch's function modes", Setting(lambda: list(map(type, _get_current_function_mode_stack())))
    yield "the stack of torch's dispatch modes", Setting(lambda: list(map(type, _get_current_dispatch_mode_stack())))


def _autocast(device: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    import torch

    def read() -> tuple[bool, Any]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def write(value: tuple[bool, Any]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return read, write


def _default_device() -> str | None:
    """None where none was set, which is another state than a CPU that was: that one costs every call a detour."""
    import torch

    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)  # noqa: SLF001 - no public way to tell
    return None if context is None else str(context.device)


def _set_inference_mode(enabled: bool) -> None:  # noqa: FBT001 - called with what was read
    """Switch it, to the end of the process."""
    import torch

    # What switched it on holds it on until it is left, and that is not ours: another one inside it. Were this one
    # collected after the other, it would bring back what it found, at a moment that nobody chooses.
    mode = torch.inference_mode(enabled)
    mode.__enter__()
    atexit.register(mode.__exit__, None, None, None)


def _switches() -> Iterator[tuple[str, Setting]]:
    import torch

    cuda = torch.backends.cuda
    for name in ATTENTION_KERNELS:
        read, write = getattr(cuda, f"{name}_sdp_enabled", None), getattr(cuda, f"enable_{name}_sdp", None)
        if read is not None and write is not None:
            yield f"the {name} kernel of scaled_dot_product_attention", Setting(read, write)
    # Before those of single backends, which it sets as well.
    precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield "torch's float32 matmul precision", Setting(*precision)
    for path in BACKENDS:
        setting = _attribute(torch.backends, path)
        if setting is not None:
            yield f"torch.backends.{path}", setting
    yield "torch's deterministic algorithms", Setting(*_determinism())
    yield "the flushing of denormal numbers", Setting(_flushes_denormals, torch.set_flush_denormal)


def _determinism() -> tuple[Callable[[], Any], Callable[[Any], None]]:
    import torch

    def write(value: tuple[bool, bool]) -> None:
        torch.use_deterministic_algorithms(value[0], warn_only=value[1])

    return (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        write,
    )


def _flushes_denormals() -> bool:
    import torch

    return not bool((torch.tensor([1e-310], dtype=torch.float64, device="cpu") * 0.5).item())


def _attribute(root: Any, path: str) -> Setting | None:
    *parents, name = path.split(".")
    for parent in parents:
        root = getattr(root, parent, None)
    if not hasattr(type(root), name):
        return None

    def read() -> Any:
        try:
            return getattr(root, name)
        except RuntimeError as error:  # torch refuses to tell one switch once another spelling of it was used
            return str(error).partition("\n")[0]

    return Setting(read, lambda value: setattr(root, name, value))


def _generators() -> Iterator[tuple[str, Setting]]:
    import torch

    yield "the state of torch's random generator", Setting(torch.get_rng_state, torch.set_rng_state, opaque=True)
    yield "the state of Python's random generator", Setting(random.getstate, random.setstate, opaque=True)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state = numpy.random.get_state, numpy.random.set_state
        yield "the state of NumPy's random generator", Setting(*state, opaque=True)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all
        yield "the state of the GPU's random generator", Setting(*cuda, opaque=True)


def _variable(name: str) -> Setting:
    def write(value: str | None) -> None:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

    return Setting(lambda: os.environ.get(name), write)
