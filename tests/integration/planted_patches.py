"""Optimizations for tests: each changes more than the candidate, or looks as if it did. Registered by the hook."""

import functools
from dataclasses import dataclass

from planted import OtherOrder, Planted

LONG = 40
"""Tokens beyond which `class_forward_long` differs: more than the guard asks about."""


def slightly_other(function, *, beyond=0):
    def fast_version(*args, **kwargs):
        output = function(*args, **kwargs)
        length = next(item.shape[-2] for item in args if getattr(item, "ndim", 0) > 1)
        return output * 1.001 if length > beyond else output

    return fast_version


def class_forward(model):
    kind = type(model.model.layers[0].mlp)
    kind.forward = slightly_other(kind.forward)


def class_forward_long(model):
    kind = type(model.model.layers[0].mlp)
    kind.forward = slightly_other(kind.forward, beyond=LONG)


def inherited_forward(model):
    """A name that the class had from its base so far."""
    kind = type(model.model.layers[0].mlp)
    kind.__call__ = functools.partialmethod(kind.__call__)


def class_property(model):
    kind = type(model.model.layers[0].self_attn)
    kind.scaling = property(lambda _self: 0.2, lambda _self, _value: None)


def module_function(_model):
    from transformers.models.llama import modeling_llama

    given = modeling_llama.apply_rotary_pos_emb

    def fused_rope(q, k, *args, **kwargs):
        return given(q * 1.01, k, *args, **kwargs)

    modeling_llama.apply_rotary_pos_emb = fused_rope


def module_class(model):
    """As kernel libraries do: only models that are loaded later would be others."""
    from transformers.models.llama import modeling_llama

    class FastMlp(modeling_llama.LlamaMLP):
        pass

    modeling_llama.LlamaMLP = FastMlp


def functional_attention(_model):
    import torch.nn.functional

    given = torch.nn.functional.scaled_dot_product_attention

    def fast_attention(*args, **kwargs):
        return given(*args, **kwargs) * 1.001

    torch.nn.functional.scaled_dot_product_attention = fast_attention


def functional_softmax(_model):
    """Runs in eager attention only, which the noise floor asks for."""
    import torch.nn.functional

    torch.nn.functional.softmax = slightly_other(torch.nn.functional.softmax)


def registered_attention(_model):
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def own_sdpa(*args, **kwargs):
        return sdpa_attention_forward(*args, **kwargs)

    AttentionInterface.register("sdpa", own_sdpa)


def registered_mask(_model):
    from transformers import AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def own_mask(*args, **kwargs):
        return sdpa_mask(*args, **kwargs)

    AttentionMaskInterface.register("sdpa", own_mask)


def cache_update(_model):
    from transformers.cache_utils import DynamicLayer

    update = DynamicLayer.update

    def packed_update(self, keys, values, *args, **kwargs):
        return update(self, keys, values.bfloat16().to(values.dtype), *args, **kwargs)

    DynamicLayer.update = packed_update


def generation_step(model):
    """Not where numbers are made, and hands on to what was there; but what it hands on is another."""
    from transformers.generation.utils import GenerationMixin

    given = GenerationMixin.prepare_inputs_for_generation

    def prepare_inputs_for_generation(self, *args, **kwargs):
        inputs = given(self, *args, **kwargs)
        if inputs.get("position_ids") is not None:
            inputs["position_ids"] = inputs["position_ids"] + 3 * (inputs["position_ids"] % 2)
        return inputs

    GenerationMixin.prepare_inputs_for_generation = prepare_inputs_for_generation


def linear_forward(_model):
    import torch

    torch.nn.Linear.forward = slightly_other(torch.nn.Linear.forward)


def tensor_method(_model):
    import torch

    matmul = torch.Tensor.__matmul__

    def fast_matmul(self, other):
        return matmul(self, other)

    torch.Tensor.__matmul__ = fast_matmul


def global_hook(_model):
    import torch

    def look(_module, _args, output):
        return output * 1.0001 if isinstance(output, torch.Tensor) else None

    torch.nn.modules.module.register_module_forward_hook(look)


def default_dtype(_model):
    import torch

    torch.set_default_dtype(torch.bfloat16)


def threads(_model):
    import torch

    torch.set_num_threads(3)


def grad_mode(_model):
    import torch

    torch.set_grad_enabled(False)


def inference_mode(model):
    import torch

    model.mode = torch.inference_mode()
    model.mode.__enter__()


def backend(_model):
    import torch

    torch.backends.mkldnn.enabled = False


def precision(_model):
    import torch

    torch.set_float32_matmul_precision("medium")


def python_random(_model):
    import random

    random.seed(7)


def shared_weights(model):
    """Another model's tensors, found as a pool of shared weights would; a row that no request is likely to reach."""
    for other in others(model):
        other.model.embed_tokens.weight.data[-1] *= 1.5


def hook_on_another(model):
    for other in others(model):
        other.model.layers[0].mlp.register_forward_hook(lambda _module, _args, output: output * 1.0)


def method_of_another(model):
    for other in others(model):
        given = other.model.layers[0].mlp.forward
        other.model.layers[0].mlp.forward = functools.partial(given)


def others(model):
    import gc

    found = [item for item in gc.get_objects() if type(item) is type(model) and item is not model]
    return [item for item in found if not hasattr(item, "spared")]


CHANGES = {
    "class_forward": (class_forward, "LlamaMLP.forward is now fast_version"),
    "class_forward_long": (class_forward_long, "LlamaMLP.forward is now fast_version"),
    "inherited_forward": (inherited_forward, "LlamaMLP.__call__ is now "),
    "class_property": (class_property, "LlamaAttention.scaling is now <lambda>"),
    "module_function": (module_function, "modeling_llama.apply_rotary_pos_emb is now fused_rope"),
    "module_class": (module_class, "modeling_llama.LlamaMLP is now "),
    "functional_attention": (functional_attention, "scaled_dot_product_attention is now fast_attention"),
    "functional_softmax": (functional_softmax, "torch.nn.functional.softmax is now fast_version"),
    "registered_attention": (registered_attention, "ALL_ATTENTION_FUNCTIONS['sdpa'] is now own_sdpa"),
    "registered_mask": (registered_mask, "ALL_MASK_ATTENTION_FUNCTIONS['sdpa'] is now own_mask"),
    "cache_update": (cache_update, "DynamicLayer.update is now packed_update"),
    "generation_step": (generation_step, "prepare_inputs_for_generation is now prepare_inputs_for_generation"),
    "linear_forward": (linear_forward, "Linear.forward is now fast_version"),
    "tensor_method": (tensor_method, "Tensor.__matmul__ is now fast_matmul"),
    "global_hook": (global_hook, "every module runs a hook, look"),
    "default_dtype": (default_dtype, "torch's default dtype is now torch.bfloat16, was torch.float32"),
    "threads": (threads, "torch's number of threads is now 3, was "),
    "grad_mode": (grad_mode, "torch's grad mode is now False, was True"),
    "inference_mode": (inference_mode, "torch's inference mode is now True, was False"),
    "backend": (backend, "torch.backends.mkldnn.enabled is now False, was True"),
    "precision": (precision, "torch's float32 matmul precision is now medium, was highest"),
    "python_random": (python_random, "the state of Python's random generator is another one"),
    "shared_weights": (shared_weights, "the reference's own weights model.embed_tokens.weight"),
    "hook_on_another": (hook_on_another, "the reference's own model.layers.0.mlp has another set of forward hooks"),
    "method_of_another": (method_of_another, "the reference's own model.layers.0.mlp has a new forward"),
}
"""What each changes, and the words that name it."""


@dataclass(frozen=True)
class ChangesMore(Planted):
    """Changes what the reference runs, holds or computes by, while it is loaded."""

    what: str = ""

    def change(self, model):
        CHANGES[self.what][0](model)


@dataclass(frozen=True)
class ChangesLate(Planted):
    """The same, at the first request."""

    what: str = ""

    def change(self, model):
        generate = model.generate

        def patching(*args, **kwargs):
            model.generate = generate
            CHANGES[self.what][0](model)
            return generate(*args, **kwargs)

        model.generate = patching


@dataclass(frozen=True)
class CrashesLate(ChangesLate):
    """The same, and then ends in an error."""

    def change(self, model):
        def patching(*_args, **_kwargs):
            CHANGES[self.what][0](model)
            msg = "out of shared memory"
            raise RuntimeError(msg)

        model.generate = patching


@dataclass(frozen=True)
class ChangesItself(OtherOrder):
    """The benign twin: the candidate's own modules only, and additions that no reference looks at."""

    def change(self, model):
        from transformers import AttentionInterface, PreTrainedModel
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
        from transformers.models.llama import modeling_llama

        super().change(model)
        for layer in model.model.layers:
            layer.mlp.forward = functools.partial(layer.mlp.forward)
            layer.self_attn.register_forward_hook(lambda _module, _args, output: output)
        AttentionInterface.register("planted_attention", sdpa_attention_forward)
        PreTrainedModel.planted_addition = lambda self: self
        modeling_llama.planted_addition = PreTrainedModel.planted_addition
        modeling_llama.LlamaMLP.planted_addition = 3


def pytest_llmopt_optimizations(config):
    return {
        "planted.changes_more": ChangesMore,
        "planted.changes_late": ChangesLate,
        "planted.crashes_late": CrashesLate,
        "planted.changes_itself": ChangesItself,
    }
