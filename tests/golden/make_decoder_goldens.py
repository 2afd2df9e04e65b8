"""Writes the golden decoder cases: tiny random checkpoints and the reference's values for them.

    python3 -m venv golden_env
    golden_env/bin/pip install torch==2.15.0 transformers==5.23.0 numpy==2.4.6 safetensors==0.8.0
    golden_env/bin/python tests/golden/make_decoder_goldens.py

Every case becomes a Hugging Face checkpoint tests/golden/<case>/ (config.json and safetensors) and
a file tests/golden/expected/<case>.safetensors, all float64:

    tokens [B, T], lengths [B]       ids, and how many leading positions of a row are valid
    logits [B, T, vocab]
    pattern.<layer> [B, heads, T, T] attention after the softmax
    resid_pre.<layer> [B, T, d]      residual stream entering the block
    router.<layer> [B, T, experts]   probabilities of the experts, where the block has some
    resid_final [B, T, d]            stream leaving the last block, before the final norm

Rows of padded positions are zero. The reference is transformers' eager attention in float64. Even
then its rotary tables, softmax and RMSNorm pass through float32; `Lift` widens those, and each
case must agree to 1e-12 with the numpy forward below, written from the definitions and sharing no
code with the reference. Weights and tokens are the same on every run; expected values may differ
in the last bits on another processor.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import tempfile
import zlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

import dense_families
import late_families
import mxfp4_files

LAYERS = 3
VOCAB = 61
LENGTH = 11
AGREEMENT = 1e-12
MARGIN = 2e-4  # float32 moves the router probabilities of these models by 1e-5 at most

# --- cases -------------------------------------------------------------------------------------

ROTARY = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=1e-5,
    tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=None)
GPT2 = dict(
    vocab_size=VOCAB, n_embd=16, n_layer=LAYERS, n_head=4, n_positions=16,
    layer_norm_epsilon=1e-5, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    bos_token_id=1, eos_token_id=2)


def rope(kind="default", theta=10000.0, **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


# name: (model type, storage, changes to the family's base, options). Options: `lengths` of the two
# rows; `legacy` writes config.json as published before rope_parameters came, without the fields
# that then followed from others; `type_key` also calls rope_scaling's kind "type"; `bare` drops
# GPT-2's "transformer." and adds its causal buffers, as the first published files; `shard` splits
# the weights into several files with an index.
CASES = {
    "llama_gqa_tied": ("llama", "f32", {}, {"legacy": True}),
    "llama_bias_untied": (
        "llama", "bf16",
        dict(num_key_value_heads=1, head_dim=8, attention_bias=True, mlp_bias=True,
             tie_word_embeddings=False, rms_norm_eps=1e-3, rope_parameters=rope(theta=500.0)), {}),
    "llama_padded": ("llama", "f16", dict(num_key_value_heads=4),
                     {"lengths": [11, 7], "legacy": True}),
    "llama_rope_linear": (
        "llama", "bf16", dict(rope_parameters=rope("linear", factor=4.0)),
        {"legacy": True, "type_key": True}),
    "llama_rope_dynamic": (
        "llama", "bf16",
        dict(max_position_embeddings=8, head_dim=8,
             rope_parameters=rope("dynamic", theta=100.0, factor=2.0)), {}),
    # wavelengths 6, 20, 63, 199 against bounds 16 and 64: kept, two blended, divided
    "llama_rope_llama3": (
        "llama", "bf16",
        dict(max_position_embeddings=512, head_dim=8,
             rope_parameters=rope("llama3", theta=100.0, factor=8.0, low_freq_factor=1.0,
                                  high_freq_factor=4.0, original_max_position_embeddings=64)),
        {"legacy": True}),
    "llama_rope_yarn": (
        "llama", "bf16",
        dict(max_position_embeddings=256, head_dim=8,
             rope_parameters=rope("yarn", theta=100.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                  original_max_position_embeddings=64)), {}),
    "llama_rope_yarn_exact": (
        "llama", "bf16",
        dict(max_position_embeddings=256, head_dim=8,
             rope_parameters=rope("yarn", theta=100.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                  attention_factor=1.25, truncate=False,
                                  original_max_position_embeddings=64)), {"legacy": True}),
    "smollm3_nope": ("smollm3", "bf16", dict(no_rope_layers=[1, 0, 1]), {}),
    "qwen2_tied": ("qwen2", "f32", {}, {"shard": True}),
    "qwen2_window": (
        "qwen2", "bf16",
        dict(use_sliding_window=True, sliding_window=4, max_window_layers=1,
             tie_word_embeddings=False), {"legacy": True}),
    "qwen3_tied": ("qwen3", "f32", dict(head_dim=8, num_key_value_heads=1), {}),
    "qwen3_untied": (
        "qwen3", "f16",
        dict(head_dim=8, tie_word_embeddings=False, attention_bias=True, rms_norm_eps=1e-3),
        {"legacy": True}),
    "mistral_window": (
        "mistral", "bf16", dict(sliding_window=4, tie_word_embeddings=False), {"legacy": True}),
    "mistral_full": ("mistral", "f16", dict(sliding_window=None, head_dim=8), {}),
    "gpt2_gelu_new": ("gpt2", "f32", dict(activation_function="gelu_new", n_inner=24), {}),
    "gpt2_gelu_bare": (
        "gpt2", "f16", dict(activation_function="gelu", layer_norm_epsilon=1e-3), {"bare": True}),
    "gpt2_relu_padded": (
        "gpt2", "bf16",
        dict(activation_function="relu", n_inner=24, tie_word_embeddings=False),
        {"lengths": [11, 7]}),
}
CASES |= late_families.CASES
CASES |= dense_families.CASES  # option `old`: dense_families.make_old
# Mixtures of experts. `salt` changes weights and tokens: chosen so that no token's choice of experts
# is a near tie.
MIXTURE = dict(num_experts_per_tok=2, moe_intermediate_size=8, num_experts=5)
CASES |= {
    "qwen3_moe_normalised": (
        "qwen3_moe", "f32", dict(MIXTURE, norm_topk_prob=True, head_dim=8),
        {"salt": "a"}),
    "qwen3_moe_mixed": (
        "qwen3_moe", "bf16",
        dict(MIXTURE, num_experts=7, num_experts_per_tok=3, decoder_sparse_step=2,
             attention_bias=True, tie_word_embeddings=False), {"legacy": True}),
    "qwen3_moe_window": (
        "qwen3_moe", "f16",
        dict(MIXTURE, mlp_only_layers=[1], use_sliding_window=True, sliding_window=4),
        {"lengths": [11, 7]}),
    "qwen2_moe_shared": (
        "qwen2_moe", "f32",
        dict(MIXTURE, shared_expert_intermediate_size=12, norm_topk_prob=False), {}),
    "qwen2_moe_mixed": (
        "qwen2_moe", "bf16",
        dict(MIXTURE, shared_expert_intermediate_size=12, norm_topk_prob=True, qkv_bias=False,
             mlp_only_layers=[0], use_sliding_window=True, sliding_window=4,
             tie_word_embeddings=False), {}),
    "olmoe_plain": (
        "olmoe", "f32",
        dict(num_experts=5, num_experts_per_tok=2, intermediate_size=8, num_key_value_heads=4), {}),
    "olmoe_clipped": (
        "olmoe", "bf16",
        dict(num_experts=6, num_experts_per_tok=3, intermediate_size=8, norm_topk_prob=True,
             clip_qkv=1.5, attention_bias=True, tie_word_embeddings=False), {}),
    "gpt_oss_yarn": (
        "gpt_oss", "f32",
        dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=8, head_dim=8,
             sliding_window=4, max_position_embeddings=256,
             rope_parameters=rope("yarn", theta=100.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                  truncate=False, original_max_position_embeddings=64)),
        {"legacy": True}),
    "gpt_oss_clamped": (
        "gpt_oss", "bf16",
        dict(num_local_experts=5, num_experts_per_tok=3, intermediate_size=8, head_dim=4,
             swiglu_limit=1.25, swiglu_alpha=1.3, tie_word_embeddings=False, sliding_window=5,
             rope_parameters=rope(theta=500.0),
             layer_types=["full_attention", "sliding_attention", "full_attention"]),
        {"lengths": [11, 7]}),
    "gpt_oss_mxfp4": (
        "gpt_oss", "f32",
        dict(num_local_experts=4, num_experts_per_tok=2, hidden_size=32, intermediate_size=32,
             head_dim=8, rope_parameters=rope(theta=150000.0), sliding_window=4),
        {"mxfp4": True, "salt": "a"}),
    "mixtral_full": (
        "mixtral", "f32", dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=8),
        {"shard": True}),
    "mixtral_window": (
        "mixtral", "bf16",
        dict(num_local_experts=6, num_experts_per_tok=3, intermediate_size=8, sliding_window=4,
             tie_word_embeddings=False), {"legacy": True}),
}
STORAGE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


# --- checkpoint --------------------------------------------------------------------------------

def random_weights(case, model, storage):
    """Weights large enough that attention is far from uniform, exact in the storage dtype."""
    state = {}
    for name, old in model.state_dict().items():
        salt = CASES[case][3].get("salt", "")
        noise = np.random.RandomState(zlib.crc32(f"{case}{salt}/{name}".encode()) % 2**31)
        values = torch.from_numpy(noise.standard_normal(tuple(old.shape)))
        is_norm = "norm" in name or ".ln_" in name
        if is_norm and name.endswith("weight"):
            stored_less_one = model.config.model_type.startswith(("gemma", "qwen3_next"))
            values = 0.25 * values + (0.0 if stored_less_one else 1.0)
        elif name.endswith("bias"):
            values = 0.5 * values
        elif "embed" in name or ".wte" in name or ".wpe" in name:
            values = values if "wpe" not in name else 0.5 * values
        else:
            values = 0.4 * values
        state[name] = values.to(storage)
    if model.config.tie_word_embeddings:
        embedding = model.get_input_embeddings().weight
        state["lm_head.weight"] = state[
            next(name for name, value in model.named_parameters() if value is embedding)]
    return state


def make_legacy(path, type_key):
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    if config["model_type"] == "qwen3_moe" and "num_local_experts" in config:
        config["num_experts"] = config.pop("num_local_experts")
    heads = config["num_attention_heads"]
    if config["num_key_value_heads"] == heads:
        del config["num_key_value_heads"]
    if config.get("head_dim") == config["hidden_size"] // heads:
        del config["head_dim"]
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    if scaling["rope_type"] == "default":
        config["rope_scaling"] = None
    else:
        if type_key:
            scaling["type"] = scaling.pop("rope_type")
        config["rope_scaling"] = scaling
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_bare(path, context):
    state = {name.removeprefix("transformer."): value for name, value in load_file(path).items()}
    for layer in range(LAYERS):
        state[f"h.{layer}.attn.bias"] = torch.ones(context, context).tril()[None, None].float()
    save_file(state, path, metadata={"format": "pt"})


def write_checkpoint(case, folder):
    kind, storage, changes, options = CASES[case]
    bases = {"gpt2": GPT2, **dense_families.BASES, **late_families.BASES}
    base = bases.get(kind, ROTARY)
    config = transformers.AutoConfig.for_model(kind, **{**base, **changes})
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).to(STORAGE[storage])
    model.load_state_dict(random_weights(case, model, STORAGE[storage]))
    config.dtype = STORAGE[storage]
    model.config.dtype = STORAGE[storage]
    model.save_pretrained(folder, max_shard_size="20KB" if options.get("shard") else "1GB")
    if options.get("legacy"):
        make_legacy(folder / "config.json", options.get("type_key", False))
    if options.get("old"):
        dense_families.make_old(folder)
    if options.get("bare"):
        make_bare(folder / "model.safetensors", config.n_positions)
    if options.get("mxfp4"):
        mxfp4_files.pack(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


# --- the reference, wholly in float64 ----------------------------------------------------------

class Lift(TorchFunctionMode):
    """While active, whatever asks for float32 gets float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def widen(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        kwargs = {key: widen(value) for key, value in (kwargs or {}).items()}
        return function(*[widen(value) for value in args], **kwargs)


def reference(folder, tokens, lengths):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager",
        experts_implementation="eager").eval()
    decoder = model.base_model.decoder if model.config.model_type == "opt" else model.base_model
    decoder = getattr(decoder, "model", decoder)  # Llama 4's base is itself
    blocks = next(getattr(decoder, name) for name in ("layers", "h", "blocks")
                  if hasattr(decoder, name))
    out = {}

    def entering(layer):
        def hook(_, args, kwargs):
            out[f"resid_pre.{layer}"] = args[0] if args else kwargs["hidden_states"]
        return hook

    def leaving(_, __, result):
        out["resid_final"] = result[0] if isinstance(result, tuple) else result

    def routing(layer):
        def hook(router, __, result):
            llama4 = type(router).__name__ == "Llama4Router"
            probabilities = torch.sigmoid(result[1]) if llama4 else torch.softmax(result[0], -1)
            out[f"router.{layer}"] = probabilities.view(*tokens.shape, -1)
        return hook

    for layer, block in enumerate(blocks):
        block.register_forward_pre_hook(entering(layer), with_kwargs=True)
        for module in block.modules():
            if type(module).__name__.endswith(("TopKRouter", "Llama4Router")):
                module.register_forward_hook(routing(layer))
    blocks[-1].register_forward_hook(leaving)
    if model.config.model_type == "mpt":
        dense_families.heed_alibi_bias_max(decoder)
    if getattr(model.config, "alibi", False):
        late_families.add_alibi_once(folder, model, tokens)
    mask = (torch.arange(tokens.shape[1])[None] < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad(), Lift():
        if hasattr(decoder, "rotary_emb"):
            decoder.rotary_emb = type(decoder.rotary_emb)(model.config)
        result = model(torch.from_numpy(tokens), attention_mask=mask, output_attentions=True,
                       use_cache=False)
    out["logits"] = result.logits
    for layer, pattern in enumerate(result.attentions):
        out[f"pattern.{layer}"] = pattern
    for name, value in out.items():
        assert value.dtype == torch.float64, (name, value.dtype)
    return {name: value.numpy() for name, value in out.items()}


# --- the same from the definitions -------------------------------------------------------------

def rotary_table(config, head_dim, length):
    """cos and sin [T, head_dim / 2]."""
    form = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = form.get("rope_theta", config.get("rope_theta"))
    kind = form.get("rope_type", form.get("type", "default"))
    factor, magnitude = form.get("factor", 1.0), 1.0
    half = head_dim // 2
    if kind == "dynamic":
        context = config["max_position_embeddings"]
        grown = factor * max(length, context) / context - (factor - 1.0)
        theta *= grown ** (head_dim / (head_dim - 2.0))
    frequency = np.array([theta ** (-2.0 * i / head_dim) for i in range(half)])
    if kind == "linear":
        frequency = frequency / factor
    elif kind == "llama3":
        turns = form["original_max_position_embeddings"] * frequency / (2.0 * np.pi)
        low, high = form["low_freq_factor"], form["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        frequency = frequency * (keep + (1.0 - keep) / factor)
    elif kind == "yarn":
        context = form["original_max_position_embeddings"]

        def channel(turns):
            return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = channel(form.get("beta_fast", 32.0)), channel(form.get("beta_slow", 1.0))
        if form.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        high += 0.001 if high == low else 0.0
        stretched = np.clip((np.arange(half) - low) / (high - low), 0.0, 1.0)
        frequency = frequency * (1.0 - stretched) + frequency / factor * stretched
        magnitude = form.get("attention_factor") or 0.1 * math.log(factor) + 1.0
    angle = np.arange(length)[:, None] * frequency[None]
    return magnitude * np.cos(angle), magnitude * np.sin(angle)


def rotate(x, table):
    """x [B, T, H, d]: channel i turns with channel i + d / 2."""
    cos, sin = (part[None, :, None, :] for part in table)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rms(x, gain, eps):
    return gain * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def layer_norm(x, gain, bias, eps):
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps) + bias


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attend(q, k, v, window, sinks=None):
    """q [B, T, H, d], k and v [B, T, G, d] -> pattern [B, H, T, T], z [B, T, H, d].
    sinks [H]: a score in each row that belongs to no key.

    Padding is on the right, so a valid query never sees it through the causal mask."""
    groups = q.shape[2] // k.shape[2]
    k, v = (np.repeat(part, groups, axis=2) for part in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    distance = np.arange(q.shape[1])[:, None] - np.arange(q.shape[1])[None, :]
    seen = (distance >= 0) & (distance < (window or distance.size))
    scores = np.where(seen, scores, -np.inf)
    if sinks is not None:
        rest = np.broadcast_to(sinks[None, :, None, None], (*scores.shape[:3], 1))
        scores = np.concatenate([scores, rest], axis=-1)
    pattern = softmax(scores)[..., :q.shape[1]]
    return pattern, np.einsum("bhqk,bkhd->bqhd", pattern, v)


def silu(x):
    return x / (1.0 + np.exp(-x))


def sparse_layers(config):
    if "decoder_sparse_step" not in config:
        return range(config["num_hidden_layers"] if "num_experts_per_tok" in config else 0)
    return [layer for layer in range(config["num_hidden_layers"])
            if layer not in (config.get("mlp_only_layers") or [])
            and (layer + 1) % config["decoder_sparse_step"] == 0]


def mixture(config, w, at, h):
    """Token by token. Returns the probabilities of the experts [B, T, E] and the write [B, T, d]."""
    if config["model_type"] == "gpt_oss":
        return gpt_oss_mixture(config, w, at + "mlp.", h)
    mixtral = config["model_type"] == "mixtral"
    at += "block_sparse_moe." if mixtral else "mlp."
    names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    probabilities = softmax(h @ w[at + "gate.weight"].T)
    write = np.zeros_like(h)
    for place in np.ndindex(*h.shape[:2]):
        x, p = h[place], probabilities[place]
        chosen = np.argsort(-p)[:config["num_experts_per_tok"]]
        total = p[chosen].sum() if mixtral or config.get("norm_topk_prob") else 1.0
        for expert in chosen:
            gate, up, down = (w[f"{at}experts.{expert}.{name}.weight"] for name in names)
            write[place] += p[expert] / total * (down @ (silu(gate @ x) * (up @ x)))
    if config.get("shared_expert_intermediate_size"):
        gate, up, down = (w[f"{at}shared_expert.{name}.weight"] for name in names)
        opened = 1.0 / (1.0 + np.exp(-h @ w[at + "shared_expert_gate.weight"].T))
        write += opened * ((silu(h @ gate.T) * (h @ up.T)) @ down.T)
    return probabilities, write


def gpt_oss_mixture(config, w, at, h):
    probabilities = softmax(h @ w[at + "router.weight"].T + w[at + "router.bias"])
    limit, alpha = config["swiglu_limit"], config["swiglu_alpha"]
    write = np.zeros_like(h)
    for place in np.ndindex(*h.shape[:2]):
        x, p = h[place], probabilities[place]
        chosen = np.argsort(-p)[:config["num_experts_per_tok"]]
        for expert in chosen:
            both, both_bias, down, down_bias = (
                w[f"{at}experts.{name}"][expert]
                for name in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"))
            both = x @ both + both_bias
            gate = np.minimum(both[0::2], limit)
            up = np.clip(both[1::2], -limit, limit)
            neurons = (up + 1.0) * gate / (1.0 + np.exp(-alpha * gate))
            write[place] += p[expert] / p[chosen].sum() * (neurons @ down + down_bias)
    return probabilities, write


def gpt2_forward(config, w, tokens):
    heads, eps = config["n_head"], config["layer_norm_epsilon"]
    erf = np.vectorize(math.erf)
    act = {
        "gelu_new": lambda x: 0.5 * x * (
            1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
        "relu": lambda x: np.maximum(x, 0.0),
    }[config["activation_function"]]
    w = {name.removeprefix("transformer."): value for name, value in w.items()}

    def affine(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    batch, length = tokens.shape
    out = {}
    x = w["wte.weight"][tokens] + w["wpe.weight"][:length][None]
    for layer in range(config["n_layer"]):
        at = f"h.{layer}."
        out[f"resid_pre.{layer}"] = x
        h = layer_norm(x, w[at + "ln_1.weight"], w[at + "ln_1.bias"], eps)
        joint = affine(h, at + "attn.c_attn")
        q, k, v = (part.reshape(batch, length, heads, -1) for part in np.split(joint, 3, axis=-1))
        out[f"pattern.{layer}"], z = attend(q, k, v, None)
        x = x + affine(z.reshape(batch, length, -1), at + "attn.c_proj")
        h = layer_norm(x, w[at + "ln_2.weight"], w[at + "ln_2.bias"], eps)
        x = x + affine(act(affine(h, at + "mlp.c_fc")), at + "mlp.c_proj")
    out["resid_final"] = x
    x = layer_norm(x, w["ln_f.weight"], w["ln_f.bias"], eps)
    out["logits"] = x @ w.get("lm_head.weight", w["wte.weight"]).T
    return out


def rotary_forward(config, w, tokens):
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    eps, kind = config["rms_norm_eps"], config["model_type"]
    batch, length = tokens.shape
    table = rotary_table(config, head_dim, length)

    def linear(x, name):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)

    def window(layer):
        if kind in ("mistral", "mixtral"):
            return config["sliding_window"]
        if kind == "gpt_oss":
            types = config.get("layer_types", ["sliding_attention", "full_attention"] * LAYERS)
            return config["sliding_window"] if types[layer] == "sliding_attention" else None
        if kind == "qwen2_moe" and config["use_sliding_window"]:
            return config["sliding_window"] if layer % 2 == 0 else None
        if kind == "qwen3_moe":
            return config["sliding_window"] if config["use_sliding_window"] else None
        if kind == "qwen2" and config["use_sliding_window"]:
            return config["sliding_window"] if layer >= config["max_window_layers"] else None
        return None

    out = {}
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        out[f"resid_pre.{layer}"] = x
        h = rms(x, w[at + "input_layernorm.weight"], eps)
        q, k, v = (linear(h, f"{at}self_attn.{name}_proj") for name in "qkv")
        if kind == "olmoe":
            q = rms(q, w[at + "self_attn.q_norm.weight"], eps)
            k = rms(k, w[at + "self_attn.k_norm.weight"], eps)
            clip = config["clip_qkv"] or np.inf
            q, k, v = (np.clip(part, -clip, clip) for part in (q, k, v))
        q = q.reshape(batch, length, heads, head_dim)
        k = k.reshape(batch, length, kv_heads, head_dim)
        v = v.reshape(batch, length, kv_heads, head_dim)
        if kind in ("qwen3", "qwen3_moe"):
            q = rms(q, w[at + "self_attn.q_norm.weight"], eps)
            k = rms(k, w[at + "self_attn.k_norm.weight"], eps)
        if config.get("no_rope_layers", [1] * LAYERS)[layer]:
            q, k = rotate(q, table), rotate(k, table)
        out[f"pattern.{layer}"], z = attend(q, k, v, window(layer),
                                            w.get(at + "self_attn.sinks"))
        x = x + linear(z.reshape(batch, length, -1), at + "self_attn.o_proj")
        h = rms(x, w[at + "post_attention_layernorm.weight"], eps)
        if layer in sparse_layers(config):
            out[f"router.{layer}"], write = mixture(config, w, at, h)
            x = x + write
            continue
        gate = silu(linear(h, at + "mlp.gate_proj"))
        x = x + linear(gate * linear(h, at + "mlp.up_proj"), at + "mlp.down_proj")
    out["resid_final"] = x
    x = rms(x, w["model.norm.weight"], eps)
    out["logits"] = x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
    return out


def independent(folder, tokens):
    config = json.loads((folder / "config.json").read_text())
    weights = {}
    for path in folder.glob("model*.safetensors"):
        weights.update({k: v.double().numpy() for k, v in load_file(path).items()})
    weights = mxfp4_files.expand(weights)
    kind = config["model_type"]
    usual = gpt2_forward if kind == "gpt2" else rotary_forward
    forward = {**dense_families.FORWARDS, **late_families.FORWARDS}.get(kind, usual)
    return forward(config, weights, tokens)


# --- driver ------------------------------------------------------------------------------------

def clear_padding(values, lengths):
    for name, value in values.items():
        for row, length in enumerate(lengths):
            if name.startswith("pattern"):
                value[row, :, length:] = 0.0
            else:
                value[row, length:] = 0.0


def routing_margin(folder, probabilities, lengths):
    """Smallest step between the last chosen expert's probability and the first left out."""
    chosen = json.loads((folder / "config.json").read_text())["num_experts_per_tok"]
    falling = -np.sort(-probabilities, axis=-1)
    steps = falling[..., chosen - 1] - falling[..., chosen]
    return min(steps[row, :length].min() for row, length in enumerate(lengths))


def make(case, root):
    folder = root / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_checkpoint(case, folder)
    lengths = CASES[case][3].get("lengths", [LENGTH, LENGTH])
    salt = CASES[case][3].get("salt", "")
    noise = np.random.RandomState(zlib.crc32((case + salt).encode()) % 2**31)
    tokens = noise.randint(0, VOCAB, size=(2, LENGTH)).astype(np.int64)
    with tempfile.TemporaryDirectory() as scratch:
        plain = folder
        if CASES[case][3].get("mxfp4"):
            plain = pathlib.Path(scratch) / case
            mxfp4_files.unpack(folder, plain)
        expected = {name: value.copy() for name, value in reference(plain, tokens, lengths).items()}
    check = independent(folder, tokens)
    assert expected.keys() == check.keys()
    clear_padding(expected, lengths)
    clear_padding(check, lengths)
    worst = 0.0
    for name, value in expected.items():
        assert value.shape == check[name].shape and np.isfinite(value).all(), name
        worst = max(worst, np.abs(value - check[name]).max() / np.abs(value).max())
    assert worst < AGREEMENT, (case, worst)
    for name, value in expected.items():
        if name.startswith("router"):
            margin = routing_margin(folder, value, lengths)
            assert margin > MARGIN, (case, name, margin)
    peak = np.mean([value.max(-1)[:, :, LENGTH // 2:7].mean() for name, value in expected.items()
                    if name.startswith("pattern")])
    expected["tokens"] = tokens.astype(np.float64)
    expected["lengths"] = np.array(lengths, np.float64)
    target = root / "expected" / f"{case}.safetensors"
    target.parent.mkdir(exist_ok=True)
    save_file({name: torch.from_numpy(value) for name, value in expected.items()}, target)
    files = [*folder.iterdir(), target]
    for path in files:
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in files)
    print(f"{case:24s} agreement {worst:.1e}  mean largest attention {peak:.2f}  "
          f"largest logit {np.abs(expected['logits']).max():5.1f}  {size / 1024:.0f} KiB")
    return size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; repeatable")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    total = sum(make(case, options.out) for case in options.case or CASES)
    print(f"total {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
