"""Optimizations for tests: each breaks one metamorphic relation, or claims what it does not do."""

import copy
import itertools
from dataclasses import dataclass

from planted import OtherOrder, Planted

from pytest_llmopt.core.applying import apply_inherited
from pytest_llmopt.optimizations.decoding.assisted import Assisted
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache
from pytest_llmopt.optimizations.kernels.attention import Attention
from pytest_llmopt.optimizations.quantization.torchao import TorchAo


def scale_attention(model, factor):
    for layer in model.model.layers:
        layer.self_attn.scaling *= factor


@dataclass(frozen=True)
class LeftOver(Planted):
    """Every call leaves something behind that the next one sees (KV03)."""

    def change(self, model):
        generate = model.generate

        def leaving(*args, **kwargs):
            output = generate(*args, **kwargs)
            scale_attention(model, 1.2)
            return output

        model.generate = leaving


@dataclass(frozen=True)
class LongestSeen(Planted):
    """The longest request so far decides about all later ones."""

    length: int = 64

    def change(self, model):
        seen = []

        def look(_model, args, kwargs):
            input_ids = kwargs.get("input_ids", args[0] if args else None)
            if input_ids is not None and input_ids.shape[1] > self.length and not seen:
                seen.append(True)
                scale_attention(model, 1.2)

        model.register_forward_pre_hook(look, with_kwargs=True)


@dataclass(frozen=True)
class MixedRows(Planted):
    """In a batch of more than `batch` rows, one row takes from another."""

    batch: int = 3

    def change(self, model):
        def mix(_module, _args, output):
            if len(output) > self.batch:
                output = output.clone()
                output[-1] = output[0]
            return output

        model.model.layers[1].mlp.register_forward_hook(mix)


@dataclass(frozen=True)
class PositionFromCache(Planted):
    """Prefill takes positions from the mask, decode from the cache index (BP01)."""

    def change(self, model):
        def look(_model, args, kwargs):
            embedded, cache = kwargs.get("input_ids"), kwargs.get("past_key_values")
            if embedded is not None and embedded.shape[1] == 1 and cache is not None:
                kwargs["position_ids"] = embedded.new_full(embedded.shape, int(cache.get_seq_length()))
            return args, kwargs

        model.model.register_forward_pre_hook(look, with_kwargs=True)


@dataclass(frozen=True)
class OtherKernelAt(Planted):
    """Another, wrong kernel for prompts of one length beyond a multiple of 32 (AT03, AT18)."""

    def change(self, model):
        def wrong(_module, _args, output):
            return output * 1.05 if output.shape[1] > 32 and output.shape[1] % 32 == 1 else output

        model.model.layers[0].mlp.register_forward_hook(wrong)


@dataclass(frozen=True)
class WrongMask(Planted):
    """An attention kernel with a mask of its own.

    `none` attends to everything in prefill (AT01), `unused` to empty places of the cache in decode steps (KV01), and
    `top_left` aligns a continued prefill at the wrong corner (AT05), and `unguarded` leaves rows of it without any key
    (AT04).
    """

    kind: str = "none"

    def for_transformers(self, plan):
        import torch
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
        from transformers.masking_utils import eager_mask

        def attend(module, query, key, value, attention_mask, **options):
            length, width = query.shape[2], key.shape[2]
            if (self.kind == "none" and length > 1) or (self.kind == "unused" and length == 1):
                attention_mask = torch.zeros(1, 1, length, width)
            if self.kind == "top_left" and 1 < length < width:
                attention_mask = torch.ones(length, width).tril()[None, None].log()
            if self.kind == "unguarded" and 1 < length < width:
                attention_mask = attention_mask.masked_fill(attention_mask < 0, -float("inf"))
                scores = query @ key.repeat_interleave(module.num_key_value_groups, 1).mT * module.scaling
                weights = (scores + attention_mask).softmax(-1)
                mixed = weights @ value.repeat_interleave(module.num_key_value_groups, 1)
                return mixed.transpose(1, 2).contiguous(), None
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

        name = f"planted_{self.kind}"
        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, eager_mask)
        plan.set("load", "attn_implementation", name, by="wrong_mask")


@dataclass(frozen=True)
class StalePrefix(Planted):
    """A cached prefix of 32 or 64 tokens is known by its length and the tokens before its last eight (SV02)."""

    def for_transformers(self, plan):
        plan.max_batch = 1
        super().for_transformers(plan)

    def change(self, model):
        from transformers import DynamicCache

        generate, held = model.generate, {}

        def serving(input_ids, **kwargs):
            tokens, cache = input_ids[0].tolist(), DynamicCache(config=model.config)
            ends = [end for end in (64, 32) if end < len(tokens)]
            known = next((found for end in ends if (found := held.get((end, *tokens[: end - 8])))), ())
            for place, (keys, values) in enumerate(known):
                cache.update(keys.clone(), values.clone(), place)
            output = generate(input_ids, past_key_values=cache, **kwargs)
            for end in ends:
                states = [(layer.keys[:, :, :end].clone(), layer.values[:, :, :end].clone()) for layer in cache.layers]
                held.setdefault((end, *tokens[: end - 8]), states)
            return output

        model.generate = serving


@dataclass(frozen=True)
class LostLate(Planted):
    """Something is lost in every decode step beyond the 256th."""

    after: int = 256

    def change(self, model):
        steps = [0]

        def look(_module, _args, output):
            steps[0] = steps[0] + 1 if output.shape[1] == 1 else 0
            return output * 1.2 if steps[0] > self.after else output

        model.model.layers[0].mlp.register_forward_hook(look)


@dataclass(frozen=True)
class EndsAtOnce(Planted):
    """Emits the end of the sequence first, whatever it is asked, unless tokens are forced."""

    def change(self, model):
        generate = model.generate

        def ending(*args, logits_processor=None, **kwargs):
            def end(_input_ids, scores):
                scores = scores.new_full(scores.shape, -float("inf"))
                scores[:, model.generation_config.eos_token_id] = 0.0
                return scores

            return generate(*args, logits_processor=logits_processor or [end], **kwargs)

        model.generate = ending


LOADS = itertools.count()


@dataclass(frozen=True)
class RandomBias(Planted):
    """What is missing in the checkpoint is initialized at random (WQ13)."""

    def change(self, model):
        import torch

        generator = torch.Generator().manual_seed(next(LOADS))
        weight = model.model.norm.weight.data
        weight += 0.05 * torch.randn(weight.shape, generator=generator)


@dataclass(frozen=True)
class SavedWrong(Planted):
    """What is saved is not what runs."""

    def change(self, model):
        def spoil(_module, state, prefix, _metadata):
            name = f"{prefix}model.norm.weight"
            state[name] = state[name] * 1.1

        if "llmopt-" not in model.config._name_or_path:
            model.register_state_dict_post_hook(spoil)


@dataclass(frozen=True)
class FirstLogits(Planted):
    """Asked for the logits of the last few tokens, the head gives those of the first few."""

    def change(self, model):
        own = model.forward

        def forward(*args, logits_to_keep=0, **kwargs):
            if not isinstance(logits_to_keep, int) or logits_to_keep < 2:
                return own(*args, logits_to_keep=logits_to_keep, **kwargs)
            output = own(*args, **kwargs)
            output.logits = output.logits[:, :logits_to_keep]
            return output

        model.forward = forward


@dataclass(frozen=True)
class NanCache(Planted):
    """Unused places of a static cache hold what was in memory: here NaN; zero times NaN is NaN (KV10)."""

    def for_transformers(self, plan):
        def make(model, _batch):
            from transformers import StaticCache as Cache

            cache = Cache(config=model.config, max_cache_len=256)
            for layer in cache.layers:
                layer.lazy_initialization = self.allocating(layer, layer.lazy_initialization)
            return {"past_key_values": cache}

        plan.max_length = 256
        plan.per_call.append(make)

    def allocating(self, layer, allocate):
        def filled(*args):
            allocate(*args)
            layer.values.fill_(float("nan"))

        return filled


@dataclass(frozen=True)
class SilentlyUnquantized(TorchAo):
    """Loads the model as it is."""

    def for_transformers(self, plan):
        pass


@dataclass(frozen=True)
class SilentlyDynamic(StaticCache):
    """Asks for no static cache, compiles nothing."""

    def for_transformers(self, plan):
        pass


@dataclass(frozen=True)
class NeverConsulted(Assisted):
    """Has a draft and does not hand it over."""

    def for_transformers(self, plan):
        plan.max_batch = 1
        plan.speculative = True


@dataclass(frozen=True)
class CautiousDraft(Assisted):
    """Proposes next to nothing, whatever its settings say."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(lambda _: self.make_cautious(plan.generate["assistant_model"]))

    def make_cautious(self, draft):
        draft.generation_config.assistant_confidence_threshold = 0.99


@dataclass(frozen=True)
class PromptTwice(Attention):
    """Processes the prompt, drops what came of it, and processes it again (PF06)."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.double)

    def double(self, model):
        generate = model.generate

        def twice(input_ids, attention_mask=None, **kwargs):
            model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=1)
            return generate(input_ids, attention_mask=attention_mask, **kwargs)

        model.generate = twice


@dataclass(frozen=True)
class WithoutCache(Attention):
    """Processes the whole text in every step."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.set("generate", "use_cache", value=False, by="without_cache")


@dataclass(frozen=True)
class EveryLogit(Attention):
    """Computes logits for the whole prompt."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.keep)

    def keep(self, model):
        model.register_forward_pre_hook(
            lambda _, args, kwargs: (args, kwargs | {"logits_to_keep": 0}), with_kwargs=True
        )


@dataclass(frozen=True)
class EveryCache(Attention):
    """Keeps the cache of each call (PF02)."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.keep)

    def keep(self, model):
        generate, model.kept = model.generate, []

        def keeping(*args, **kwargs):
            output = generate(*args, **kwargs)
            model.kept.append(output.past_key_values)
            return output

        model.generate = keeping


@dataclass(frozen=True)
class LastCache(Attention):
    """Keeps the cache of the last call only: no growth, and no bug."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.keep)

    def keep(self, model):
        generate = model.generate

        def keeping(*args, **kwargs):
            output = generate(*args, **kwargs)
            model.last = output.past_key_values
            return output

        model.generate = keeping


@dataclass(frozen=True)
class UnpackedFirst(TorchAo):
    """Unpacks every weight in front of its product (PF04)."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.unpack)

    def unpack(self, model):
        import torch

        for module in model.modules():
            if type(getattr(module, "weight", None)).__name__ == "Int8Tensor":
                module.forward = lambda x, module=module: torch.nn.functional.linear(
                    x, module.weight.dequantize(), module.bias
                )


@dataclass(frozen=True)
class TwiceTheRoom(StaticCache):
    """Allocates twice what a request needs."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.enlarge)

    def enlarge(self, model):
        prepare = model._prepare_static_cache
        model._prepare_static_cache = lambda *args, max_cache_len, **kwargs: prepare(
            *args, max_cache_len=2 * max_cache_len, **kwargs
        )


@dataclass(frozen=True)
class OtherAttention(Attention):
    """Every layer runs another kernel than the model's configuration names."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.after_load.append(self.swap)

    def swap(self, model):
        for layer in model.model.layers:
            layer.self_attn.config = copy.deepcopy(model.config)
            layer.self_attn.config._attn_implementation = "eager"


def pytest_llmopt_optimizations(config):
    return {
        "planted.left_over": LeftOver,
        "planted.longest_seen": LongestSeen,
        "planted.mixed_rows": MixedRows,
        "planted.position_from_cache": PositionFromCache,
        "planted.other_kernel_at": OtherKernelAt,
        "planted.wrong_mask": WrongMask,
        "planted.random_bias": RandomBias,
        "planted.stale_prefix": StalePrefix,
        "planted.lost_late": LostLate,
        "planted.ends_at_once": EndsAtOnce,
        "planted.saved_wrong": SavedWrong,
        "planted.first_logits": FirstLogits,
        "planted.nan_cache": NanCache,
        "planted.other_order": OtherOrder,
        "quantization.silently_unquantized": SilentlyUnquantized,
        "planted.silently_dynamic": SilentlyDynamic,
        "planted.never_consulted": NeverConsulted,
        "planted.cautious_draft": CautiousDraft,
        "planted.other_attention": OtherAttention,
        "planted.prompt_twice": PromptTwice,
        "planted.without_cache": WithoutCache,
        "planted.every_logit": EveryLogit,
        "planted.every_cache": EveryCache,
        "planted.last_cache": LastCache,
        "quantization.unpacked_first": UnpackedFirst,
        "planted.twice_the_room": TwiceTheRoom,
    }
