"""What a weight quantizer claims is judged by the live tensors: also heads that changed, and copies that were kept."""

import numpy as np
import torch

from pytest_llmopt.core.claims import Use
from pytest_llmopt.core.inspection import Inspection, Projection
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.engines._transformers.footprint import tensors_of
from pytest_llmopt.optimizations.quantization._weight_claims import weight_claims

PLAIN = (
    Projection("up", "Linear[Parameter]", 4000, 1000),
    Projection("head", "Linear[Parameter]", 400, 100, is_head=True),
)
PACKED = Projection("up", "Linear4bit[Params4bit]", 550, 1000)


def untrue(*projections):
    inspection, reference = Inspection(projections=projections), Inspection(projections=PLAIN)
    use = Use(inspection, reference, (), 0, 0, np.array([1e-3]), "float32")
    return [claim.name for claim in weight_claims(use, 0.55) if claim.metric.status is not Status.PASS]


def test_packed_weights_and_an_untouched_head_are_as_claimed():
    assert untrue(PACKED, PLAIN[1]) == []


def test_a_head_that_was_quantized_too_is_found():
    assert untrue(PACKED, Projection("head", "Linear4bit[Params4bit]", 55, 100, is_head=True)) == ["changed_heads"]


def test_a_copy_of_the_weights_in_a_plain_attribute_is_counted():
    module = torch.nn.Linear(4, 4, bias=False)
    before = sum(tensor.nbytes for tensor in tensors_of(module))
    module.unpacked = module.weight.detach().clone()
    assert sum(tensor.nbytes for tensor in tensors_of(module)) == 2 * before
