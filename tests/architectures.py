"""Tiny random models, one of each kind of decoder, built from their configurations."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.loading import fixtures_folder

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
VOCABULARY = {"vocab_size": 1024, "bos_token_id": 2, "eos_token_id": 0, "pad_token_id": 1}
"""Of the zoo, whose tokenizer goes into each folder."""
LLAMA_LIKE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
}
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
}
OPT_LIKE = {
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "word_embed_proj_dim": 64,
    "init_std": 0.1,
}
BART_LIKE = {
    "d_model": 64,
    "decoder_layers": 2,
    "encoder_layers": 2,
    "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "max_position_embeddings": 1024,
    "init_std": 0.1,
    "is_decoder": True,
    "is_encoder_decoder": False,
}
GPT_LIKE = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024, "initializer_range": 0.1}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "untied head": ("llama", LLAMA_LIKE | {"tie_word_embeddings": False}),
    "tied head": ("llama", LLAMA_LIKE | {"tie_word_embeddings": True}),
    "fused QKV": (
        "gpt_neox",
        {name: value for name, value in LLAMA_LIKE.items() if name != "num_key_value_heads"},
    ),
    "fused gate": ("phi3", LLAMA_LIKE),
    "multi-query": ("gpt_bigcode", GPT_LIKE | {"multi_query": True}),
    "ALiBi": ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.1}),
    "learned positions": ("gpt2", GPT_LIKE),
    "offset positions": ("opt", OPT_LIKE),
    "decoder of an encoder-decoder": ("bart", BART_LIKE),
    "mixture of experts": ("mixtral", LLAMA_LIKE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "latent attention": ("deepseek_v3", LLAMA_LIKE | LATENT | {"num_key_value_heads": 4}),
    "chunked attention": (
        "llama4_text",
        LLAMA_LIKE | {"head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 96, "attention_chunk_size": 64},
    ),
    "state space": (
        "mamba",
        {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.1, "time_step_rank": 8},
    ),
    "hybrid": (
        "jamba",
        LLAMA_LIKE
        | {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
        },
    ),
    "convolutions": (
        "lfm2",
        LLAMA_LIKE | {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    ),
    "unweighted norms": ("olmo", LLAMA_LIKE),
}
"""By what is peculiar: the model type, and its sizes."""


def build(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a random model of a kind with the zoo's tokenizer; gives the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, sizes = KINDS[kind]
    config = AutoConfig.for_model(model_type, **{**VOCABULARY, **sizes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
    # Random logits are nearly flat, and nothing that goes wrong would show in them.
    model.get_output_embeddings().weight.data *= 4
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 0, 1
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(fixtures_folder() / "models" / "tiny-llama" / name, folder / name)
    return folder
