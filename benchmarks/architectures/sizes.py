"""Sizes of a tiny model: by the name that an attribute has in a config, and the exceptions of single model types."""

from __future__ import annotations

from typing import Any

VOCABULARY = 1024  # of the zoo's tokenizer, which every copy gets
END, PAD, BEGIN = 0, 1, 2
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, LAYERS, POSITIONS = 64, 128, 4, 2, 16, 2, 512
PATTERN_LAYERS = 4
"""Of models whose layers differ in kind: each kind at least once."""
WINDOW = 24  # tokens, so that short prompts already leave it


def _named(value: int, names: str) -> dict[str, int]:
    return dict.fromkeys(names.split(), value)


SIZES: dict[str, Any] = (
    _named(VOCABULARY, "vocab_size vocab_size_per_layer_input unpadded_vocab_size decoder_vocab_size")
    | _named(HIDDEN, "hidden_size d_model n_embd emb_dim embedding_size embedding_dim input_embedding_size lru_width")
    | _named(HIDDEN, "word_embed_proj_dim output_embedding_size hidden_size_global hidden_size_per_layer_input")
    | _named(INTERMEDIATE, "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim dff dim_ff d_inner")
    | _named(INTERMEDIATE, "ffn_hidden_size intermediate_size_mlp dense_intermediate_size feed_forward_size n_inner")
    | _named(HIDDEN, "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size")
    | _named(HIDDEN, "expert_ffn_hidden_size shared_intermediate_size moe_shared_expert_intermediate_size")
    | _named(LAYERS, "num_hidden_layers n_layer n_layers num_layers num_blocks decoder_layers encoder_layers")
    | _named(LAYERS, "num_layers_per_stack num_decoder_layers num_encoder_layers")
    | _named(HEADS, "num_attention_heads n_head n_heads attention_heads decoder_attention_heads num_heads")
    | _named(HEADS, "encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads")
    | _named(HEADS, "swa_num_attention_heads num_query_groups")
    | _named(KV_HEADS, "num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads num_global_key_value_heads")
    | _named(HEAD_DIM, "head_dim swa_head_dim dim_head d_head kv_channels attention_head_dim attention_head_size")
    | _named(HEAD_DIM, "global_head_dim")
    | _named(POSITIONS, "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length")
    | _named(POSITIONS, "max_target_positions max_source_positions")
    | _named(WINDOW, "sliding_window sliding_window_size attention_window_size window_size local_attention")
    | _named(WINDOW, "attention_chunk_size keep_window_size rel_extent")
    # Mixture of experts
    | _named(4, "num_experts n_routed_experts num_local_experts moe_num_experts")
    | _named(2, "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts")
    | _named(1, "n_group topk_group num_expert_group n_shared_experts num_shared_experts moe_num_shared_experts")
    | _named(1, "first_k_dense_replace num_dense_layers zero_expert_num")
    # Latent and indexed attention
    | _named(32, "kv_lora_rank q_lora_rank o_lora_rank")
    | _named(8, "qk_rope_head_dim")
    | _named(HEAD_DIM, "qk_nope_head_dim v_head_dim index_head_dim")
    | _named(24, "qk_head_dim")
    | _named(HEADS, "index_n_heads")
    | _named(32, "index_topk")
    # State space and linear attention
    | _named(8, "state_size mamba_d_state ssm_state_size time_step_rank mamba_dt_rank")
    | _named(8, "mamba_n_heads mamba_num_heads n_mamba_heads linear_num_value_heads")
    | _named(HEADS, "linear_num_heads linear_num_key_heads")
    | _named(HEAD_DIM, "mamba_d_head mamba_head_dim mamba_headdim linear_head_dim linear_key_head_dim")
    | _named(HEAD_DIM, "linear_value_head_dim")
    | _named(1, "mamba_n_groups mamba_ngroups n_groups")
    | _named(16, "chunk_size mamba_chunk_size block_size")
    | _named(INTERMEDIATE, "mamba_d_ssm")
    | _named(HIDDEN, "attention_hidden_size router_hidden_size")
    # Token ids
    | _named(END, "eos_token_id eod_token_id forced_eos_token_id")
    | _named(PAD, "pad_token_id pad_index")
    | _named(BEGIN, "bos_token_id")
    | _named(BEGIN, "decoder_start_token_id sep_token_id cls_token_id mask_token_id")
    | _named(1, "num_nextn_predict_layers num_logits_to_keep pretraining_tp")
    | _named(8, "rotary_dim")
)
"""What an attribute of this name becomes, in the config and in the configs that it holds."""

DEFAULT = object()
"""In an exception: leave what the config says by itself."""

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_ALTERNATING = ["linear_attention", "full_attention"] * 2

EXCEPTIONS: dict[str, dict[str, Any]] = {
    "bamba": {"num_hidden_layers": PATTERN_LAYERS, "attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 500},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE | {"mrope_section": [2, 3, 3]}}},
    "dbrx": {"attn_config": {"kv_n_heads": KV_HEADS, "clip_qkv": 8.0, "rope_theta": 10000.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots3_note_text": {"swa_num_attention_heads": HEADS, "swa_num_key_value_heads": HEADS, "swa_head_dim": 24}
    | {"swa_qk_nope_head_dim": HEAD_DIM, "swa_v_head_dim": HEAD_DIM, "swa_q_lora_rank": 32, "swa_kv_lora_rank": 32}
    | {"num_key_value_heads": HEADS},
    "gemma3n_text": {"num_kv_shared_layers": 2, "intermediate_size": INTERMEDIATE},
    "gemma4_text": {"num_kv_shared_layers": 2},
    "granitemoehybrid": {"num_hidden_layers": PATTERN_LAYERS, "layer_types": _ALTERNATING},
    "hrm_text": {"num_layers_per_stack": DEFAULT},
    "hunyuan_v1_dense": {"head_dim": HEAD_DIM},
    "hunyuan_v1_moe": {"head_dim": HEAD_DIM},
    "jamba": {"num_hidden_layers": PATTERN_LAYERS, "attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"num_hidden_layers": PATTERN_LAYERS, "layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": HEAD_DIM},
    "nemotron": {"num_key_value_heads": KV_HEADS},
    "qwen4_exp_text": {
        "indexer_n_heads": HEADS,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": 32,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 16,
    },
    "recurrent_gemma": {"num_hidden_layers": PATTERN_LAYERS, "block_types": ["recurrent", "attention"]},
    "reformer": {"axial_pos_shape": [16, 32], "axial_pos_embds_dim": [16, 48], "num_buckets": 8},
    "roc_bert": {"shape_vocab_size": 256, "pronunciation_vocab_size": 256, "shape_embed_dim": HIDDEN}
    | {"pronunciation_embed_dim": HIDDEN},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": DEFAULT, "attention_head_dim": 2 * HEAD_DIM, "n_mamba_heads": 2},
    "zamba2": {"attention_hidden_size": DEFAULT, "attention_head_dim": DEFAULT, "mamba_headdim": DEFAULT},
    "zaya": {"num_experts_per_tok": 1},
}
"""What single model types need besides, or instead."""

_MULTIMODAL = "several kinds of input, and no text model of its own kind that AutoModelForCausalLM builds"
LEFT_OUT: dict[str, str] = {
    "emu3": _MULTIMODAL,
    "mllama": _MULTIMODAL,
    "musicgen": "text to sound: the config of its decoder has another type",
    "musicgen_melody": "text to sound: the config of its decoder has another type",
    "gemma3n": "several kinds of input, and needs timm; its text model is gemma3n_text",
    "dots3_note": "several kinds of input; its text model is dots3_note_text",
    "qwen4_exp": "several kinds of input; its text model is qwen4_exp_text",
    "gemma4_assistant": "a draft of Gemma 4: needs the states of its target in every forward pass",
    "gemma4_unified_assistant": "a draft of Gemma 4: needs the states of its target in every forward pass",
}
"""Model types that no copy can be made of, and why."""
