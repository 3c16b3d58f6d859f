"""Whatever a whole process computes by is seen when it changes, named, and put back."""

import gc
import os
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pytest_llmopt.engines._transformers.process_state import ProcessState  # noqa: E402 - needs torch

ON, OFF = True, False


def autocast():
    torch.set_autocast_enabled("cpu", ON)


def environment():
    os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "BF16"


SETTINGS = {
    "torch's default dtype is now torch.float64, was torch.float32": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device is now meta, was None": lambda: torch.set_default_device("meta"),
    "torch's number of threads is now 3": lambda: torch.set_num_threads(3),
    "torch's grad mode is now False, was True": lambda: torch._C._set_grad_enabled(OFF),
    "autocast on cpu is now (True, torch.bfloat16)": autocast,
    "the math kernel of scaled_dot_product_attention is now False": lambda: torch.backends.cuda.enable_math_sdp(OFF),
    "torch's float32 matmul precision is now medium": lambda: torch.set_float32_matmul_precision("medium"),
    "torch.backends.mkldnn.enabled is now False, was True": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "torch.backends.cudnn.benchmark is now True": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch's deterministic algorithms is now (True, False)": lambda: torch.use_deterministic_algorithms(ON),
    "the flushing of denormal numbers is now True": lambda: torch.set_flush_denormal(ON),
    "the state of torch's random generator is another one": lambda: torch.rand(1),
    "the state of Python's random generator is another one": random.random,
    "the state of NumPy's random generator is another one": np.random.random,
    "the environment variable ONEDNN_DEFAULT_FPMATH_MODE is now BF16, was None": environment,
}


@pytest.mark.parametrize("words", SETTINGS)
def test_a_setting_that_changes_is_named_and_put_back(words):
    state = ProcessState.now()
    assert state.changes() == []
    SETTINGS[words]()
    changes = state.changes()
    for change in changes:
        if change.undo is not None:
            change.undo()
    assert any(words in change.what for change in changes)
    assert state.changes() == []


def test_inference_mode_that_is_left_on_is_named_and_switched_off_even_where_its_holder_goes():
    state = ProcessState.now()
    mode = torch.inference_mode()
    mode.__enter__()
    (change,) = [change for change in state.changes() if "inference mode is now True" in change.what]
    change.undo()
    assert not any("inference mode" in change.what for change in state.changes())
    gc.collect()
    assert not any("inference mode" in change.what for change in state.changes())
    mode.__exit__(None, None, None)
    assert state.changes() == []


def test_what_is_set_and_set_back_is_no_change():
    state = ProcessState.now()
    with torch.no_grad(), torch.random.fork_rng(), torch.autocast("cpu"), torch.device("meta"):
        torch.rand(1)
    assert state.changes() == []
