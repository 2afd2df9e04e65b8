"""Cases and independent numpy forward passes of Llama 4, Qwen3-Next with full attention, and Falcon.

make_decoder_goldens.py runs them; see dense_families.py, whose pieces this file uses.
"""

import math

import numpy as np
import torch

from dense_families import (LAYERS, LLAMA_LIKE, VOCAB, Weights, angles, attend, gelu, gelu_tanh, rms,
                            rope, silu, split, turn)

# --- cases -------------------------------------------------------------------------------------

FULL = ["full_attention"] * LAYERS
EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=8, num_experts=5,
               shared_expert_intermediate_size=12, layer_types=FULL)
BASES = {
    "llama4_text": dict(LLAMA_LIKE, rms_norm_eps=1e-5, head_dim=8, intermediate_size=8,
                        intermediate_size_mlp=24),
    "qwen3_next": dict(LLAMA_LIKE, rms_norm_eps=1e-5, head_dim=8),
    "falcon": dict(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=4,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None),
}
CASES = {
    # queries at positions 2, 5 and 8 step up in the layer that does not rotate
    "llama4_chunks": (
        "llama4_text", "f32",
        dict(num_local_experts=4, num_experts_per_tok=1, attention_chunk_size=4,
             no_rope_layers=[1, 0, 1], floor_scale=3, attn_scale=0.5,
             rope_parameters=rope("llama3", theta=100.0, factor=8.0, low_freq_factor=1.0,
                                  high_freq_factor=4.0, original_max_position_embeddings=64)), {}),
    "llama4_mixed": (
        "llama4_text", "bf16",
        dict(num_local_experts=5, num_experts_per_tok=2, interleave_moe_layer_step=2,
             no_rope_layer_interval=3, attention_chunk_size=5, use_qk_norm=False,
             attention_bias=True, attn_temperature_tuning=False, tie_word_embeddings=True,
             rope_parameters=rope(theta=500.0)), {"lengths": [11, 7]}),
    "qwen3_next_half": (
        "qwen3_next", "f32",
        dict(EXPERTS, rope_parameters=rope(theta=500.0, partial_rotary_factor=0.5)), {}),
    "qwen3_next_mixed": (
        "qwen3_next", "bf16",
        dict(EXPERTS, norm_topk_prob=False, mlp_only_layers=[1], num_key_value_heads=1,
             tie_word_embeddings=True,
             rope_parameters=rope(theta=100.0, partial_rotary_factor=0.25)),
        {"lengths": [11, 7]}),
    "falcon_one_key_head": (
        "falcon", "f32", dict(rope_parameters=rope(theta=500.0), ffn_hidden_size=24), {}),
    "falcon_two_norms": (
        "falcon", "bf16",
        dict(new_decoder_architecture=True, num_kv_heads=2, bias=True, tie_word_embeddings=False,
             layer_norm_epsilon=1e-3, rope_parameters=rope(theta=100.0)), {}),
    "falcon_one_norm": (
        "falcon", "f16",
        dict(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1,
             activation="gelu_pytorch_tanh", ffn_hidden_size=24,
             rope_parameters=rope("linear", theta=100.0, factor=2.0)), {}),
    "falcon_alibi": (
        "falcon", "bf16",
        dict(alibi=True, multi_query=False, parallel_attn=False, bias=True),
        {"lengths": [11, 7]}),
}

def add_alibi_once(folder, model, tokens):
    """Falcon's eager attention adds the bias to scores whose mask holds it already. Its usual path,
    SDPA, has the mask alone: so does the model from here on, and both are asked to agree."""
    def without_bias(_, args, kwargs):
        return args, {**kwargs, "alibi": torch.zeros_like(kwargs["alibi"])}

    for block in model.transformer.h:
        block.self_attention.register_forward_pre_hook(without_bias, with_kwargs=True)
    usual = type(model).from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa")
    with torch.no_grad():
        ids = torch.from_numpy(tokens)
        ours, theirs = model(ids).logits, usual.eval()(ids).logits
    assert (ours - theirs).abs().max() < 1e-6 * theirs.abs().max()


# --- families ----------------------------------------------------------------------------------


def softmax(x):
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def gated(w, x):
    return w.affine(silu(w.affine(x, "gate_proj")) * w.affine(x, "up_proj"), "down_proj")


def llama3_divisors(dims, form):
    wavelength = 2 * math.pi * form["rope_theta"] ** (np.arange(0, dims, 2) / dims)
    turns = form["original_max_position_embeddings"] / wavelength
    low, high = form["low_freq_factor"], form["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return 1.0 / (keep + (1.0 - keep) / form["factor"])


def turn_neighbours(x, angle):
    """x [B, T, H, d]: channel 2i turns with channel 2i + 1, as one complex number."""
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[None, :, None]
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


def llama4_forward(config, values, tokens):
    heads, kv_heads, dims = (config[name] for name in (
        "num_attention_heads", "num_key_value_heads", "head_dim"))
    eps, form, length = config["rms_norm_eps"], config["rope_parameters"], tokens.shape[1]
    divisors = llama3_divisors(dims, form) if form["rope_type"] == "llama3" else 1.0
    angle = angles(length, dims, form["rope_theta"], divisors)
    place = np.arange(length)
    chunk = place // config["attention_chunk_size"]
    apart = np.where(chunk[:, None] == chunk[None], 0.0, -np.inf)
    model = Weights(values, "model.")
    out = {}
    x = model["embed_tokens.weight"][tokens]
    for layer in range(LAYERS):
        w = model.at(f"layers.{layer}.")
        out[f"resid_pre.{layer}"] = x
        h = rms(x, w["input_layernorm.weight"], eps)
        q, k, v = (split(w.affine(h, f"self_attn.{part}_proj"), count)
                   for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
        rotates = config["no_rope_layers"][layer]
        if rotates:
            q, k = turn_neighbours(q, angle), turn_neighbours(k, angle)
            if config["use_qk_norm"]:
                q, k = rms(q, 1.0, eps), rms(k, 1.0, eps)
        elif config["attn_temperature_tuning"]:
            steps = np.floor((place + 1.0) / config["floor_scale"])
            q = q * (1.0 + config["attn_scale"] * np.log(1.0 + steps))[None, :, None, None]
        out[f"pattern.{layer}"], z = attend(q, k, v, dims ** -0.5, bias=apart if rotates else 0.0)
        x = x + w.affine(z, "self_attn.o_proj")
        h = rms(x, w["post_attention_layernorm.weight"], eps)
        w = w.at("feed_forward.")
        if layer not in config["moe_layers"]:
            x = x + gated(w, h)
            continue
        router = sigmoid(h @ w["router.weight"].T)
        out[f"router.{layer}"] = router
        write = gated(w.at("shared_expert."), h)
        for at in np.ndindex(*h.shape[:2]):
            for expert in np.argsort(-router[at])[:config["num_experts_per_tok"]]:
                both = (h[at] * router[at][expert]) @ w["experts.gate_up_proj"][expert]
                gate, up = np.split(both, 2)
                write[at] += (silu(gate) * up) @ w["experts.down_proj"][expert]
        x = x + write
    out["resid_final"] = x
    out["logits"] = model.logits(rms(x, model["norm.weight"], eps), "model.embed_tokens.weight")
    return out


def qwen3_next_forward(config, values, tokens):
    heads, kv_heads, dims = (config[name] for name in (
        "num_attention_heads", "num_key_value_heads", "head_dim"))
    eps, form = config["rms_norm_eps"], config["rope_parameters"]
    share = form.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    angle = angles(tokens.shape[1], int(dims * share), form["rope_theta"])
    model = Weights(values, "model.")

    def norm(x, w, name):
        return rms(x, 1.0 + w[name + ".weight"], eps)

    out = {}
    x = model["embed_tokens.weight"][tokens]
    for layer in range(LAYERS):
        w = model.at(f"layers.{layer}.")
        out[f"resid_pre.{layer}"] = x
        h = norm(x, w, "input_layernorm")
        q, gate = np.split(split(w.affine(h, "self_attn.q_proj"), heads), 2, axis=-1)
        k, v = (split(w.affine(h, f"self_attn.{part}_proj"), kv_heads) for part in "kv")
        q = turn(norm(q, w, "self_attn.q_norm"), angle)
        k = turn(norm(k, w, "self_attn.k_norm"), angle)
        out[f"pattern.{layer}"], z = attend(q, k, v, dims ** -0.5)
        x = x + w.affine(z * sigmoid(gate).reshape(z.shape), "self_attn.o_proj")
        h = norm(x, w, "post_attention_layernorm")
        w = w.at("mlp.")
        if layer in config["mlp_only_layers"]:
            x = x + gated(w, h)
            continue
        router = softmax(h @ w["gate.weight"].T)
        out[f"router.{layer}"] = router
        write = sigmoid(h @ w["shared_expert_gate.weight"].T) * gated(w.at("shared_expert."), h)
        for at in np.ndindex(*h.shape[:2]):
            chosen = np.argsort(-router[at])[:config["num_experts_per_tok"]]
            total = router[at][chosen].sum() if config["norm_topk_prob"] else 1.0
            for expert in chosen:
                write[at] += router[at][expert] / total * gated(w.at(f"experts.{expert}."), h[at])
        x = x + write
    out["resid_final"] = x
    out["logits"] = model.logits(norm(x, model, "norm"), "model.embed_tokens.weight")
    return out


def falcon_forward(config, values, tokens):
    heads, eps = config["num_attention_heads"], config["layer_norm_epsilon"]
    fresh, length = config["new_decoder_architecture"], tokens.shape[1]
    dims = config["hidden_size"] // heads
    kv_heads = (config["num_kv_heads"] if fresh else 1 if config["multi_query"] else heads)
    act = {"gelu": gelu, "gelu_pytorch_tanh": gelu_tanh}[config["activation"]]
    bias, angle = 0.0, None
    if config["alibi"]:  # four heads: slopes 1/4, 1/16, ...; divided with the scores by the root
        slopes = 4.0 ** -np.arange(1, heads + 1) / math.sqrt(dims)
        bias = slopes[:, None, None] * np.arange(length)[None, None]
    else:
        form = config["rope_parameters"]
        angle = angles(length, dims, form["rope_theta"], form.get("factor", 1.0))
    model = Weights(values, "transformer.")
    out = {}
    x = model["word_embeddings.weight"][tokens]
    for layer in range(LAYERS):
        w = model.at(f"h.{layer}.")
        out[f"resid_pre.{layer}"] = x
        two = fresh and config.get("num_ln_in_parallel_attn") != 1
        h = w.layer_norm(x, "ln_attn" if two else "input_layernorm", eps)
        # Of each key head: its queries, then its key, then its value.
        each = w.affine(h, "self_attention.query_key_value")
        each = each.reshape(*tokens.shape, kv_heads, heads // kv_heads + 2, dims)
        q = each[..., :-2, :].reshape(*tokens.shape, heads, dims)
        k, v = each[..., -2, :], each[..., -1, :]
        if angle is not None:
            q, k = turn(q, angle), turn(k, angle)
        out[f"pattern.{layer}"], z = attend(q, k, v, dims ** -0.5, bias=bias)
        attention = w.affine(z, "self_attention.dense")
        if two:
            h = w.layer_norm(x, "ln_mlp", eps)
        elif not config["parallel_attn"]:
            h = w.layer_norm(x + attention, "post_attention_layernorm", eps)
        x = x + attention + w.affine(act(w.affine(h, "mlp.dense_h_to_4h")), "mlp.dense_4h_to_h")
    out["resid_final"] = x
    out["logits"] = model.logits(model.layer_norm(x, "ln_f", eps),
                                 "transformer.word_embeddings.weight")
    return out


FORWARDS = {"llama4_text": llama4_forward, "qwen3_next": qwen3_next_forward,
            "falcon": falcon_forward}
