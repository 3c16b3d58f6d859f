"""Parameters are what a model stands for: packed layers count as inputs times outputs, however they are named."""

import torch

from pytest_llmopt.engines._transformers.footprint import matrix_of, parameters_of


class Packed(torch.nn.Module):
    def __init__(self, names, *, bias):
        super().__init__()
        for name, size in zip(names, (8, 4), strict=True):
            setattr(self, name, size)
        self.register_buffer("qweight", torch.zeros(1, 4, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(4) if bias else None)


def test_packed_layers_count_as_inputs_times_outputs_with_their_bias():
    model = torch.nn.Sequential(
        Packed(("in_features", "out_features"), bias=True), Packed(("infeatures", "outfeatures"), bias=False)
    )
    assert parameters_of(model) == 4 * 8 + 4 + 4 * 8


def test_plain_layers_count_once_when_tied():
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 3), "head": torch.nn.Linear(3, 5, bias=False)})
    assert parameters_of(model) == 30
    model["head"].weight = model["embed"].weight
    assert parameters_of(model) == 15


def test_a_description_of_a_weight_that_is_gone_is_no_weight():
    module = Packed(("in_features", "out_features"), bias=False)
    module.weight = type("Metadata", (), {"shape": (4, 8)})()
    assert parameters_of(module) == 32


def test_a_wrapper_does_not_count_what_it_wraps_twice():
    wrapper = torch.nn.Module()
    wrapper.in_features, wrapper.out_features = 8, 4
    wrapper.base_layer = Packed(("in_features", "out_features"), bias=False)
    wrapper.lora = torch.nn.Linear(8, 2, bias=False)
    assert parameters_of(wrapper) == 32 + 16
    assert matrix_of(wrapper) == (4, 8)
