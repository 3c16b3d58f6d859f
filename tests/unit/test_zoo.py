"""The zoo keeps its promises: what the shipped models and prompts are is read from the shipped files themselves."""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="the zoo needs torch: pip install 'pytest-llmopt[transformers]'")
transformers = pytest.importorskip("transformers", reason="pip install 'pytest-llmopt[transformers]'")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIXTURES = Path(__file__).parents[2] / "fixtures"
TARGETS = ("tiny-llama", "tiny-qwen", "tiny-gemma")
DRAFTS = tuple(f"{name}-draft" for name in TARGETS)
MODELS = (*TARGETS, *DRAFTS)
KINDS = ("prose", "code", "lists", "numbers")
LENGTHS = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 260, 519}  # tokens, without *begin*
SHORTEST_UNSEEN = 7  # tokens; one or two tokens occur in every text


@dataclass(frozen=True)
class Zoo:
    """The corpus, rebuilt from this Python."""

    train: str  # every training document, one after the other
    held_out: list[Any]
    unigram: dict[int, float]  # nats of each token id, from how often it occurs in training


@pytest.fixture(scope="module")
def prompts() -> list[dict[str, str]]:
    """The shipped prompts."""
    return _lines("default.jsonl")


@pytest.fixture(scope="module")
def zoo() -> Iterator[Zoo]:
    """The corpus as the training script splits it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FIXTURES)
        corpus = importlib.import_module("corpus").load_corpus()
        train = "\0".join(document.text for document in corpus.train)
        parts = "".join(train[start : start + 2000] for start in range(0, len(train), len(train) // 100))
        sample = _tokenizer("tiny-llama")(parts, add_special_tokens=False)["input_ids"]
        counts = Counter(sample)
        unigram = {token: -math.log((counts[token] + 1) / (len(sample) + 1024)) for token in range(1024)}
        yield Zoo(train, corpus.held_out, unigram)


def _lines(name: str) -> list[dict[str, str]]:
    """The prompts of one file."""
    return [json.loads(line) for line in (FIXTURES / "prompts" / name).read_text(encoding="utf-8").splitlines()]


def _config(name: str) -> dict[str, Any]:
    """The shipped config.json of a model."""
    config: dict[str, Any] = json.loads((FIXTURES / "models" / name / "config.json").read_text())
    return config


def _report(name: str) -> dict[str, Any]:
    """The shipped training.json of a model."""
    report: dict[str, Any] = json.loads((FIXTURES / "models" / name / "training.json").read_text())
    return report


def _model(name: str) -> Any:
    """A shipped model in fp32, with the attention that its weights were trained with."""
    attention = "eager" if "gemma" in name else "sdpa"
    folder = FIXTURES / "models" / name
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )
    return loaded.eval()


def _tokenizer(name: str) -> Any:
    """The tokenizer of a shipped model, as users load it."""
    return transformers.AutoTokenizer.from_pretrained(FIXTURES / "models" / name)


def _logprobs(model: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of the next token at each position, in nats: `[tokens, vocabulary]`."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_small_and_stored_in_bf16(name: str) -> None:
    """At most 8 MB of safetensors, every tensor in bf16."""
    path = FIXTURES / "models" / name / "model.safetensors"
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    assert path.stat().st_size <= 8_000_000
    assert {tensor["dtype"] for tensor in header.values()} == {"BF16"}


@pytest.mark.parametrize("name", MODELS)
def test_sizes_suit_kernels_and_quantizers(name: str) -> None:
    """Hidden and intermediate sizes divide by 128, heads are 32 or 64 wide, the embedding is the vocabulary."""
    config = _config(name)
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    assert config["hidden_size"] % 128 == 0
    assert config["intermediate_size"] % 128 == 0
    assert head in {32, 64}
    assert config["vocab_size"] == len(_tokenizer(name)) == 1024
    assert config["max_position_embeddings"] == _tokenizer(name).model_max_length == (4096 if "qwen" in name else 1024)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-draft"])
def test_llama_groups_its_queries_and_stretches_its_positions(name: str) -> None:
    """Grouped queries, tied head, and llama3 RoPE scaling that begins within a short test."""
    config = _config(name)
    assert config["num_attention_heads"] > config["num_key_value_heads"]
    assert config["tie_word_embeddings"]
    assert config["rope_parameters"]["rope_type"] == "llama3"
    assert config["rope_parameters"]["original_max_position_embeddings"] == 128


def test_llama_tells_repeating_heads_from_tiling_them() -> None:
    """The group is not as large as the number of groups, so that swapping the two changes the shape or the result."""
    config = _config("tiny-llama")
    assert config["num_attention_heads"] // config["num_key_value_heads"] != config["num_key_value_heads"] > 1


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-qwen-draft"])
def test_qwen_has_a_head_of_its_own(name: str) -> None:
    """The head is not tied to the embedding."""
    model = _model(name)
    assert not model.config.tie_word_embeddings
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_gemma_alternates_windows_and_full_attention() -> None:
    """Sliding and full attention take turns, layer by layer."""
    layers = _config("tiny-gemma")["layer_types"]
    assert set(layers[::2]) == {"sliding_attention"}
    assert set(layers[1::2]) == {"full_attention"}


@pytest.mark.parametrize("name", ["tiny-gemma", "tiny-gemma-draft"])
def test_gemma_slides_a_short_window_and_caps_its_logits(name: str) -> None:
    """Both kinds of layers are there, the window wraps within 32 tokens, and both caps are low."""
    config = _config(name)
    assert set(config["layer_types"]) == {"sliding_attention", "full_attention"}
    assert config["sliding_window"] == 32
    assert 0 < config["attn_logit_softcapping"] <= 10
    assert 0 < config["final_logit_softcapping"] <= 10


def _without_rope_scaling(model: Any) -> None:
    plain = dict(model.config.rope_parameters) | {"rope_type": "default"}
    config = type(model.config)(**{**model.config.to_dict(), "rope_parameters": plain})
    model.model.rotary_emb = type(model.model.rotary_emb)(config)


def _without_biases(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("proj.bias"):
            parameter.data.zero_()


def _without_attention_cap(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None


def _without_final_cap(model: Any) -> None:
    model.config.final_logit_softcapping = None


def _without_window(model: Any) -> None:
    model.config.sliding_window = model.config.max_position_embeddings
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None


@pytest.mark.parametrize(
    ("name", "leave_out"),
    [
        ("tiny-llama", _without_rope_scaling),
        ("tiny-qwen", _without_biases),
        ("tiny-gemma", _without_attention_cap),
        ("tiny-gemma", _without_final_cap),
        ("tiny-gemma", _without_window),
    ],
)
def test_leaving_out_a_trait_can_be_measured(
    prompts: list[dict[str, str]], name: str, leave_out: Callable[[Any], None]
) -> None:
    """Each trait is used by the trained weights: without it the KL divergence is far above bf16 noise (1e-4 nats)."""
    ids = _tokenizer(name)(prompts[-1]["text"])["input_ids"]
    model = _model(name)
    whole = _logprobs(model, ids)
    leave_out(model)
    changed = _logprobs(model, ids)
    assert (whole.exp() * (whole - changed)).sum(-1).mean().item() > 5e-3


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_learned_its_corpus(zoo: Zoo, prompts: list[dict[str, str]], name: str) -> None:
    """On 16 held-out prompts its loss is at least one nat below that of a unigram model."""
    tokenizer, model = _tokenizer(name), _model(name)
    losses, unigram = [], []
    for text in [prompt["text"] for prompt in prompts if len(prompt["text"]) > 60][:16]:
        ids = tokenizer(text)["input_ids"]
        logprobs = _logprobs(model, ids)
        losses += [-logprobs[position - 1, ids[position]].item() for position in range(1, len(ids))]
        unigram += [zoo.unigram[token] for token in ids[1:]]
    assert sum(losses) / len(losses) < sum(unigram) / len(unigram) - 1


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-qwen-draft"])
def test_a_long_context_is_trained_to_its_end(name: str) -> None:
    """Nowhere do held-out tokens cost 0.02 nats more than in pieces of 512; deep ones cost what the first cost.

    Weights whose positions beyond 1,024 were never trained lose 0.3 to 1 nat there.
    """
    ranges = _report(name)["held_out_by_position"]
    assert [(found["from"], found["to"]) for found in ranges] == [(0, 512), (512, 1024), (1024, 2048), (2048, 4096)]
    for found in ranges:
        assert found["nats_per_token"] <= found["in_pieces_of_512"] + 0.02
        assert found["nats_per_token"] <= ranges[0]["nats_per_token"] + 0.25


def _deep_code(zoo: Zoo, name: str) -> list[int]:
    """4,096 tokens of held-out code from one module."""
    by_source: dict[str, str] = {}
    for document in zoo.held_out:
        if document.kind == "code":
            by_source[document.source] = by_source.get(document.source, "") + document.text
    ids: list[int] = _tokenizer(name)(max(by_source.values(), key=len), add_special_tokens=False)["input_ids"]
    assert len(ids) > 4096
    return ids[:4096]


def _losses(logprobs: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Loss of each of the last 1,024 tokens in nats, from log-probabilities that end with the last."""
    return -logprobs[-1025:-1].gather(1, torch.tensor(ids[-1024:])[:, None])[:, 0]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("tiny-qwen", -0.2, 0.05), ("tiny-qwen-draft", -0.2, 0.05), ("tiny-llama", 0.2, 9.0)],
)
def test_only_trained_positions_predict_as_well_as_shallow_ones(zoo: Zoo, name: str, least: float, most: float) -> None:
    """The last of 4,096 tokens cost what they cost after half as many; beyond 1,024 trained positions, far more."""
    model, ids = _model(name), _deep_code(zoo, name)
    cost = (_losses(_logprobs(model, ids), ids) - _losses(_logprobs(model, ids[2048:]), ids)).mean()
    assert least < cost.item() < most


def test_the_deep_end_of_a_long_context_looks_back(zoo: Zoo) -> None:
    """What the last tokens of 4,096 read 2,048 tokens ago changes them far more than bf16 arithmetic (1e-4 nats)."""
    model, ids = _model("tiny-qwen"), _deep_code(zoo, "tiny-qwen")
    whole, half = _logprobs(model, ids)[-1024:], _logprobs(model, ids[2048:])[-1024:]
    assert (whole.exp() * (whole - half)).sum(-1).mean() > 5e-3


@pytest.mark.parametrize("name", TARGETS)
def test_a_model_ends_its_documents(zoo: Zoo, name: str) -> None:
    """After a whole held-out document the end token is likely, within it unlikely: stop conditions can be tested."""
    tokenizer, model = _tokenizer(name), _model(name)
    at_end, within = [], []
    for document in [document for document in zoo.held_out if len(document.text) < 600][:400:20]:
        ids = tokenizer(document.text)["input_ids"]
        ends = _logprobs(model, ids)[:, tokenizer.eos_token_id].exp()
        at_end.append(ends[-1].item())
        within.append(ends[:-1].mean().item())
    assert sum(at_end) / len(at_end) > 0.1
    assert sum(at_end) > 20 * sum(within)


@pytest.mark.parametrize("name", TARGETS)
def test_a_draft_shares_the_tokenizer_of_its_target(name: str) -> None:
    """Assisted decoding needs equal token ids on both sides."""
    target, draft = (FIXTURES / "models" / folder / "tokenizer.json" for folder in (name, f"{name}-draft"))
    assert target.read_text() == draft.read_text()


@pytest.mark.parametrize("name", TARGETS)
def test_a_draft_is_smaller_than_its_target(name: str) -> None:
    """It has fewer layers and fewer parameters."""
    assert _config(f"{name}-draft")["num_hidden_layers"] < _config(name)["num_hidden_layers"]
    assert _report(f"{name}-draft")["parameters"] < _report(name)["parameters"]


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_says_how_it_is_consulted(name: str) -> None:
    """Always five tokens, whatever was accepted before."""
    config = json.loads((FIXTURES / "models" / name / "generation_config.json").read_text())
    assert config["num_assistant_tokens"] == 5
    assert config["num_assistant_tokens_schedule"] == "constant"
    assert config["assistant_confidence_threshold"] == 0


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_is_neither_useless_nor_perfect(name: str) -> None:
    """Between 50 and 90 % of its tokens were accepted: acceptance and rejection both happen in every test."""
    assert 0.5 <= _report(name)["acceptance_rate"] <= 0.9


@pytest.mark.parametrize("name", MODELS)
def test_training_ran_to_its_end(name: str) -> None:
    """The learning rate came down to nothing, and the held-out loss never stood lower than in the shipped file."""
    report = _report(name)
    losses = [point["held_out_nats_per_token"] for point in report["history"]]
    assert report["decay_from_step"] < report["steps"]
    assert losses[-2] - losses[-1] < 0.1
    assert report["held_out_nats_per_token"] < min(losses) + 0.005


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_tells_the_measured_figures(name: str) -> None:
    """Parameters and held-out loss in the table are those of the shipped file."""
    report = _report(name)
    row = next(line for line in (FIXTURES / "README.md").read_text().splitlines() if line.startswith(f"| `{name}` |"))
    assert f"{report['parameters']:,}" in row
    assert f"{report['held_out_nats_per_token']:.3f}" in row


@pytest.mark.parametrize("name", MODELS)
def test_special_tokens_are_told_apart(name: str) -> None:
    """End and pad differ; llama and gemma begin every text with a token of its own, qwen does not."""
    tokenizer = _tokenizer(name)
    ids = tokenizer("def")["input_ids"]
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert _config(name)["eos_token_id"] == tokenizer.eos_token_id
    assert _config(name)["pad_token_id"] == tokenizer.pad_token_id
    assert (ids[0] == tokenizer.bos_token_id) == ("qwen" not in name)


@pytest.mark.parametrize("name", MODELS)
def test_both_ways_to_load_the_tokenizer_agree(prompts: list[dict[str, str]], name: str) -> None:
    """AutoTokenizer and PreTrainedTokenizerFast give the same ids, and the ids give back the text."""
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(FIXTURES / "models" / name)
    auto = _tokenizer(name)
    for prompt in prompts:
        ids = auto(prompt["text"])["input_ids"]
        assert ids == fast(prompt["text"])["input_ids"]
        assert auto.decode(ids, skip_special_tokens=True) == prompt["text"]


def test_prompts_have_the_promised_kinds_and_lengths(prompts: list[dict[str, str]]) -> None:
    """128 prompts, each id once, every kind often, and every length around the sizes of blocks and chunks."""
    tokenizer = _tokenizer("tiny-llama")
    lengths = {len(tokenizer(prompt["text"], add_special_tokens=False)["input_ids"]) for prompt in prompts}
    kinds = Counter(prompt["kind"] for prompt in prompts)
    assert len(prompts) == len({prompt["id"] for prompt in prompts}) == 128
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 24
    assert lengths == LENGTHS


def test_the_first_prompts_are_a_good_mix(prompts: list[dict[str, str]]) -> None:
    """A gate that takes the first 24 meets every kind and every length up to 129 tokens."""
    tokenizer = _tokenizer("tiny-llama")
    first = prompts[:24]
    lengths = {len(tokenizer(prompt["text"], add_special_tokens=False)["input_ids"]) for prompt in first}
    assert lengths == {length for length in LENGTHS if length <= 129}
    assert min(Counter(prompt["kind"] for prompt in first)[kind] for kind in KINDS) >= 5


def test_no_prompt_was_seen_in_training(zoo: Zoo, prompts: list[dict[str, str]]) -> None:
    """No prompt of 7 tokens or more occurs anywhere in the training documents; shorter ones must."""
    tokenizer = _tokenizer("tiny-llama")
    long = [
        prompt["text"]
        for prompt in prompts
        if len(tokenizer(prompt["text"], add_special_tokens=False)["input_ids"]) >= SHORTEST_UNSEEN
    ]
    assert [text for text in long if text in zoo.train] == []


def test_calibration_is_training_like_and_apart_from_the_prompts(prompts: list[dict[str, str]]) -> None:
    """128 texts of 256 tokens from the training side, none of them a prompt."""
    tokenizer = _tokenizer("tiny-llama")
    texts = [prompt["text"] for prompt in _lines("calibration.jsonl")]
    assert len(set(texts)) == 128
    assert {len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts} == {256}
    assert not set(texts) & {prompt["text"] for prompt in prompts}
