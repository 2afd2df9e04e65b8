"""Cases and independent numpy forward passes of the dense families beyond Llama's and GPT-2.

make_decoder_goldens.py runs them. `CASES` is in its form; a forward pass takes config.json, the
weights by name and tokens [B, T], and is written from the papers' and the reference's definitions.
"""

import json
import math

import numpy as np
from safetensors.torch import load_file, save_file

LAYERS = 3
VOCAB = 61
TYPES = ["sliding_attention", "sliding_attention", "full_attention"]

# --- cases -------------------------------------------------------------------------------------

LLAMA_LIKE = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    bos_token_id=1, eos_token_id=2, pad_token_id=None)
BASES = {
    **{kind: dict(LLAMA_LIKE, rms_norm_eps=1e-5, head_dim=8)
       for kind in ("gemma", "gemma2", "gemma3_text")},
    **{kind: dict(LLAMA_LIKE, rms_norm_eps=1e-5) for kind in ("phi3", "olmo2", "olmo3")},
    "olmo": LLAMA_LIKE,
    "gpt_neox": dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2),
    "gpt_neo": dict(
        vocab_size=VOCAB, hidden_size=16, num_layers=LAYERS, num_heads=4,
        max_position_embeddings=16, attention_types=[[["global", "local"], 1], [["global"], 1]],
        window_size=4, resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
        bos_token_id=1, eos_token_id=2),
    "opt": dict(
        vocab_size=VOCAB, hidden_size=16, ffn_dim=24, num_hidden_layers=LAYERS,
        num_attention_heads=4, max_position_embeddings=16, dropout=0.0, attention_dropout=0.0,
        word_embed_proj_dim=16, bos_token_id=1, eos_token_id=2, pad_token_id=1),
    "mpt": dict(vocab_size=VOCAB, d_model=16, n_layers=LAYERS, n_heads=4, max_seq_len=64),
}


def rope(kind="default", theta=10000.0, **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


CASES = {
    "gemma_mqa": ("gemma", "f32", dict(num_key_value_heads=1, rope_parameters=rope(theta=500.0)),
                  {}),
    "gemma_gelu_untied": (
        "gemma", "f16",
        dict(tie_word_embeddings=False, attention_bias=True, rms_norm_eps=1e-3), {"old": True}),
    "gemma2_caps": (
        "gemma2", "bf16",
        dict(sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
             query_pre_attn_scalar=5), {}),
    "gemma2_scores_capped": (
        "gemma2", "f32",
        dict(sliding_window=4, attn_logit_softcapping=1.5, final_logit_softcapping=None,
             query_pre_attn_scalar=8, layer_types=TYPES[::-1]), {}),
    "gemma3_two_ropes": (
        "gemma3_text", "bf16",
        dict(sliding_window=4, query_pre_attn_scalar=6, layer_types=TYPES,
             rope_parameters={"full_attention": rope("linear", theta=1000.0, factor=8.0),
                              "sliding_attention": rope(theta=50.0)}), {}),
    "gemma3_old_form": (
        "gemma3_text", "f32",
        dict(sliding_window=5, query_pre_attn_scalar=8, final_logit_softcapping=4.0,
             layer_types=["sliding_attention", "full_attention", "sliding_attention"],
             rope_parameters={"full_attention": rope("linear", theta=2000.0, factor=2.0),
                              "sliding_attention": rope(theta=100.0)}),
        {"old": True, "lengths": [11, 7]}),
    "gpt_neox_parallel": (
        "gpt_neox", "f16",
        dict(rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)), {"old": True}),
    "gpt_neox_sequential": (
        "gpt_neox", "f32",
        dict(use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
             rope_parameters=rope("linear", theta=100.0, factor=2.0, partial_rotary_factor=0.25),
             hidden_act="gelu_new", layer_norm_eps=1e-3), {}),
    "gpt_neo_local": ("gpt_neo", "f32", {}, {}),
    "gpt_neo_padded": (
        "gpt_neo", "bf16",
        dict(attention_types=[[["local"], 2], [["global"], 1]], window_size=3,
             intermediate_size=24, tie_word_embeddings=False), {"lengths": [11, 7]}),
    "opt_relu": ("opt", "f16", {}, {}),
    "opt_plain_norms": (
        "opt", "f32",
        dict(enable_bias=False, layer_norm_elementwise_affine=False, activation_function="gelu",
             tie_word_embeddings=False), {"lengths": [11, 7]}),
    "phi3_partial": (
        "phi3", "bf16",
        dict(sliding_window=4, num_attention_heads=2, num_key_value_heads=1,
             rope_parameters=rope(theta=100.0, partial_rotary_factor=0.5)), {}),
    "phi3_longrope_long": (
        "phi3", "f32",
        dict(original_max_position_embeddings=8, tie_word_embeddings=True,
             rope_parameters=rope("longrope", theta=100.0, short_factor=[1.0, 1.5],
                                  long_factor=[2.0, 5.0])), {"old": True}),
    "phi3_longrope_short": (
        "phi3", "f32",
        dict(original_max_position_embeddings=32,
             rope_parameters=rope("longrope", theta=100.0, short_factor=[1.0, 1.5],
                                  long_factor=[2.0, 5.0])), {}),
    "olmo_clipped": (
        "olmo", "bf16", dict(clip_qkv=0.8, rope_parameters=rope(theta=100.0)), {}),
    "olmo_tied": (
        "olmo", "f32", dict(num_key_value_heads=4, tie_word_embeddings=True, attention_bias=True),
        {}),
    "olmo2_gqa": ("olmo2", "bf16", dict(rope_parameters=rope(theta=500.0)), {}),
    "olmo2_tied": (
        "olmo2", "f32",
        dict(tie_word_embeddings=True, attention_bias=True, rms_norm_eps=1e-3,
             num_key_value_heads=4), {}),
    "olmo3_yarn": (
        "olmo3", "bf16",
        dict(sliding_window=4, layer_types=TYPES, max_position_embeddings=256,
             rope_parameters={
                 "full_attention": rope("yarn", theta=100.0, factor=4.0, beta_fast=4.0,
                                        beta_slow=1.0, original_max_position_embeddings=64),
                 "sliding_attention": rope(theta=100.0)}), {}),
    "mpt_alibi": ("mpt", "f32", {}, {"lengths": [11, 7]}),
    "mpt_six_heads": (
        "mpt", "bf16",
        dict(d_model=24, n_heads=6, attn_config=dict(alibi_bias_max=4, clip_qkv=1.0,
                                                      softmax_scale=0.4)), {}),
}


def make_old(folder):
    """config.json in the form of the family's first releases, where that differs."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kind = config["model_type"]
    ropes = config.pop("rope_parameters")
    config.pop("layer_types", None)
    if kind == "gemma":
        config["hidden_act"] = "gelu"  # and means the form with tanh
        config["rope_theta"] = ropes["rope_theta"]
    elif kind == "gemma3_text":
        config["rope_local_base_freq"] = ropes["sliding_attention"]["rope_theta"]
        config["rope_theta"] = ropes["full_attention"].pop("rope_theta")
        config["rope_scaling"] = ropes["full_attention"]
        config["sliding_window_pattern"] = 2
    elif kind == "gpt_neox":
        config["rotary_emb_base"] = ropes["rope_theta"]
        config["rotary_pct"] = ropes["partial_rotary_factor"]
        weights = folder / "model.safetensors"
        state = load_file(weights)
        if "lm_head.weight" in state:
            state["embed_out.weight"] = state.pop("lm_head.weight")
        save_file(state, weights, metadata={"format": "pt"})
    elif kind == "phi3":
        config["rope_theta"] = ropes.pop("rope_theta")
        ropes["type"] = ropes.pop("rope_type")
        ropes.pop("original_max_position_embeddings", None)
        ropes.pop("partial_rotary_factor", None)
        config["rope_scaling"] = ropes
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def heed_alibi_bias_max(decoder):
    """The reference reads attn_config.alibi_bias_max and then always uses 8, unlike the code that
    these models were trained with: lends it the value of the config."""
    build = decoder.build_mpt_alibi_tensor
    value = decoder.config.attn_config.alibi_bias_max

    def with_value(heads, length, alibi_bias_max=None, device=None):
        return build(heads, length, value, device)

    decoder.build_mpt_alibi_tensor = with_value


# --- pieces ------------------------------------------------------------------------------------

def rms(x, gain, eps):
    return gain * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def layer_norm(x, eps, gain=1.0, bias=0.0):
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps) + bias


def gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1.0 + np.exp(-x))


def capped(x, cap):
    return x if cap is None else cap * np.tanh(x / cap)


def turn(x, angle, magnitude=1.0):
    """x [B, T, H, d]: channel i turns with channel i + n by angle [T, n]; the rest stays."""
    n = angle.shape[1]
    cos, sin = (magnitude * part(angle)[None, :, None] for part in (np.cos, np.sin))
    a, b, rest = x[..., :n], x[..., n:2 * n], x[..., 2 * n:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


def angles(length, dims, theta, divisors=1.0):
    rate = 1.0 / theta ** (np.arange(0, dims, 2) / dims) / divisors
    return np.arange(length)[:, None] * rate


def yarn_divisors(dims, form):
    """Slow pairs turn `factor` times slower, fast ones not at all, those between in part."""
    def pair(turns):
        return (dims * math.log(form["original_max_position_embeddings"] / (turns * 2 * math.pi))
                / (2 * math.log(form["rope_theta"])))

    low = max(math.floor(pair(form["beta_fast"])), 0)
    high = min(math.ceil(pair(form["beta_slow"])), dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    return 1.0 / (1.0 - ramp + ramp / form["factor"])


def attend(q, k, v, scale, window=None, cap=None, bias=0.0):
    """q [B, T, H, d], k and v [B, T, G, d] -> pattern [B, H, T, T], joined heads [B, T, H d]."""
    batch, length, heads, _ = q.shape
    k, v = (np.repeat(part, heads // part.shape[2], axis=2) for part in (k, v))
    scores = capped(scale * np.einsum("bqhd,bkhd->bhqk", q, k), cap) + bias
    back = np.arange(length)[:, None] - np.arange(length)[None]
    seen = (back >= 0) & (back < (window or length))
    weights = np.where(seen, np.exp(scores - np.where(seen, scores, -np.inf).max(-1, keepdims=True)),
                       0.0)
    pattern = weights / weights.sum(-1, keepdims=True)
    return pattern, np.einsum("bhqk,bkhd->bqhd", pattern, v).reshape(batch, length, -1)


class Weights:
    def __init__(self, values, prefix=""):
        self.values, self.prefix = values, prefix

    def __getitem__(self, name):
        return self.values[self.prefix + name]

    def at(self, prefix):
        return Weights(self.values, self.prefix + prefix)

    def affine(self, x, name):
        return x @ self[name + ".weight"].T + self.values.get(self.prefix + name + ".bias", 0.0)

    def layer_norm(self, x, name, eps):
        return layer_norm(x, eps, self.values.get(f"{self.prefix}{name}.weight", 1.0),
                          self.values.get(f"{self.prefix}{name}.bias", 0.0))

    def logits(self, x, embedding):
        for name in ("lm_head.weight", "embed_out.weight", embedding):
            if name in self.values:
                return x @ self.values[name].T


def split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1)


# --- families ----------------------------------------------------------------------------------

def rotation_of(config, sliding, head_dim, length):
    """angle [T, n] and magnitude of a layer with, or without, a window."""
    forms = config.get("rope_parameters") or {}
    if "full_attention" in forms:
        form = forms["sliding_attention" if sliding else "full_attention"]
    elif sliding and "rope_local_base_freq" in config:
        form = {"rope_theta": config["rope_local_base_freq"]}
    else:
        form = {"rope_theta": config.get("rope_theta"), **forms,
                **(config.get("rope_scaling") or {})}
    theta = form["rope_theta"]
    dims = int(head_dim * form.get("partial_rotary_factor", 1.0))
    kind = form.get("rope_type", form.get("type", "default"))
    if kind == "linear":
        return angles(length, dims, theta, form["factor"]), 1.0
    if kind == "yarn":
        return (angles(length, dims, theta, yarn_divisors(dims, form)),
                0.1 * math.log(form["factor"]) + 1.0)
    if kind == "longrope":
        original = config["original_max_position_embeddings"]
        grown = config["max_position_embeddings"] / original
        factors = form["long_factor" if length > original else "short_factor"]
        return (angles(length, dims, theta, np.array(factors)),
                math.sqrt(1 + math.log(grown) / math.log(original)))
    return angles(length, dims, theta), 1.0


def llama_like_forward(config, values, tokens):
    """Gemma, Phi-3 and OLMo: what they share, and where each differs."""
    kind, eps = config["model_type"], config.get("rms_norm_eps", 1e-5)
    gemma, later_gemma = kind.startswith("gemma"), kind in ("gemma2", "gemma3_text")
    later_olmo = kind in ("olmo2", "olmo3")
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    queries, keys = heads * head_dim, kv_heads * head_dim
    scale = config.get("query_pre_attn_scalar", head_dim) ** -0.5
    act = gelu_tanh if gemma else silu
    length = tokens.shape[1]
    model = Weights(values, "model.")

    def norm(x, w, name):
        if kind == "olmo":
            return layer_norm(x, 1e-5)
        return rms(x, w[name + ".weight"] + (1.0 if gemma else 0.0), eps)

    def slides(layer):
        if "layer_types" in config:
            return config["layer_types"][layer] == "sliding_attention"
        if "sliding_window_pattern" in config:
            return (layer + 1) % config["sliding_window_pattern"] != 0
        return kind == "phi3"

    def clip(x):
        limit = config.get("clip_qkv")
        return x if limit is None else np.clip(x, -limit, limit)

    out = {}
    x = model["embed_tokens.weight"][tokens]
    if gemma:
        x = x * math.sqrt(config["hidden_size"])
    for layer in range(config["num_hidden_layers"]):
        w = model.at(f"layers.{layer}.")
        out[f"resid_pre.{layer}"] = x
        h = x if later_olmo else norm(x, w, "input_layernorm")
        if kind == "phi3":
            fused = w.affine(h, "self_attn.qkv_proj")
            q, k, v = np.split(fused, [queries, queries + keys], axis=-1)
        else:
            q, k, v = (w.affine(h, f"self_attn.{part}_proj") for part in "qkv")
        if later_olmo:
            q, k = norm(q, w, "self_attn.q_norm"), norm(k, w, "self_attn.k_norm")
        q, k, v = split(clip(q), heads), split(clip(k), kv_heads), split(clip(v), kv_heads)
        if kind == "gemma3_text":
            q, k = norm(q, w, "self_attn.q_norm"), norm(k, w, "self_attn.k_norm")
        angle, magnitude = rotation_of(config, slides(layer), head_dim, length)
        q, k = turn(q, angle, magnitude), turn(k, angle, magnitude)
        out[f"pattern.{layer}"], z = attend(
            q, k, v, scale, config.get("sliding_window") if slides(layer) else None,
            config.get("attn_logit_softcapping"))
        written = w.affine(z, "self_attn.o_proj")
        if later_gemma or later_olmo:
            written = norm(written, w, "post_attention_layernorm")
        x = x + written
        if later_olmo:
            h = x
        else:
            h = norm(x, w, "pre_feedforward_layernorm" if later_gemma
                     else "post_attention_layernorm")
        if kind == "phi3":
            gate, up = np.split(w.affine(h, "mlp.gate_up_proj"), 2, axis=-1)
        else:
            gate, up = w.affine(h, "mlp.gate_proj"), w.affine(h, "mlp.up_proj")
        written = w.affine(act(gate) * up, "mlp.down_proj")
        if later_gemma or later_olmo:
            written = norm(written, w, "post_feedforward_layernorm")
        x = x + written
    out["resid_final"] = x
    logits = model.logits(norm(x, model, "norm"), "model.embed_tokens.weight")
    out["logits"] = capped(logits, config.get("final_logit_softcapping"))
    return out


def gpt_neox_forward(config, values, tokens):
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
    head_dim = config["hidden_size"] // heads
    form = config.get("rope_parameters") or {"rope_theta": config["rotary_emb_base"],
                                             "partial_rotary_factor": config["rotary_pct"]}
    dims = int(head_dim * form["partial_rotary_factor"])
    angle = angles(tokens.shape[1], dims, form["rope_theta"], form.get("factor", 1.0))
    act = {"gelu": gelu, "gelu_new": gelu_tanh}[config["hidden_act"]]
    model = Weights(values, "gpt_neox.")
    out = {}
    x = model["embed_in.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        w = model.at(f"layers.{layer}.")
        out[f"resid_pre.{layer}"] = x
        h = w.layer_norm(x, "input_layernorm", eps)
        each = split(w.affine(h, "attention.query_key_value"), heads)  # a head's q, k, v in a row
        q, k, v = np.split(each, 3, axis=-1)
        q, k = turn(q, angle), turn(k, angle)
        out[f"pattern.{layer}"], z = attend(q, k, v, head_dim ** -0.5)
        attention = w.affine(z, "attention.dense")
        read = x if config["use_parallel_residual"] else x + attention
        h = w.layer_norm(read, "post_attention_layernorm", eps)
        h = act(w.affine(h, "mlp.dense_h_to_4h"))
        x = x + attention + w.affine(h, "mlp.dense_4h_to_h")
    out["resid_final"] = x
    out["logits"] = model.logits(model.layer_norm(x, "final_layer_norm", eps),
                                 "gpt_neox.embed_in.weight")
    return out


def gpt_neo_forward(config, values, tokens):
    heads, eps = config["num_heads"], config["layer_norm_epsilon"]
    kinds = [kind for run, times in config["attention_types"] for _ in range(times) for kind in run]
    model = Weights(values, "transformer.")
    out = {}
    x = model["wte.weight"][tokens] + model["wpe.weight"][:tokens.shape[1]]
    for layer in range(config["num_layers"]):
        w = model.at(f"h.{layer}.")
        out[f"resid_pre.{layer}"] = x
        h = w.layer_norm(x, "ln_1", eps)
        q, k, v = (split(w.affine(h, f"attn.attention.{part}_proj"), heads) for part in "qkv")
        window = config["window_size"] if kinds[layer] == "local" else None
        out[f"pattern.{layer}"], z = attend(q, k, v, 1.0, window)
        x = x + w.affine(z, "attn.attention.out_proj")
        h = gelu_tanh(w.affine(w.layer_norm(x, "ln_2", eps), "mlp.c_fc"))
        x = x + w.affine(h, "mlp.c_proj")
    out["resid_final"] = x
    out["logits"] = model.logits(model.layer_norm(x, "ln_f", eps), "transformer.wte.weight")
    return out


def opt_forward(config, values, tokens):
    heads, eps = config["num_attention_heads"], 1e-5
    act = {"relu": lambda x: np.maximum(x, 0.0), "gelu": gelu}[config["activation_function"]]
    model = Weights(values, "model.decoder.")
    out = {}
    x = model["embed_tokens.weight"][tokens]
    x = x + model["embed_positions.weight"][2:2 + tokens.shape[1]]
    for layer in range(config["num_hidden_layers"]):
        w = model.at(f"layers.{layer}.")
        out[f"resid_pre.{layer}"] = x
        h = w.layer_norm(x, "self_attn_layer_norm", eps)
        q, k, v = (split(w.affine(h, f"self_attn.{part}_proj"), heads) for part in "qkv")
        out[f"pattern.{layer}"], z = attend(q, k, v, q.shape[-1] ** -0.5)
        x = x + w.affine(z, "self_attn.out_proj")
        x = x + w.affine(act(w.affine(w.layer_norm(x, "final_layer_norm", eps), "fc1")), "fc2")
    out["resid_final"] = x
    out["logits"] = model.logits(model.layer_norm(x, "final_layer_norm", eps),
                                 "model.decoder.embed_tokens.weight")
    return out


def mpt_forward(config, values, tokens):
    heads, eps, attention = config["n_heads"], config["layer_norm_epsilon"], config["attn_config"]
    # Slopes of the next power of two of heads, the even ones first where there are too many.
    power = 2 ** math.ceil(math.log2(heads))
    slopes = 2.0 ** (-np.arange(1, power + 1) * attention["alibi_bias_max"] / power)
    if power != heads:
        slopes = np.concatenate([slopes[1::2], slopes[::2]])[:heads]
    place = np.arange(tokens.shape[1])
    bias = slopes[:, None, None] * (place[None] - place[:, None])
    limit = attention["clip_qkv"]
    model = Weights(values, "transformer.")
    out = {}
    x = model["wte.weight"][tokens]
    for layer in range(config["n_layers"]):
        w = model.at(f"blocks.{layer}.")
        out[f"resid_pre.{layer}"] = x
        fused = w.affine(w.layer_norm(x, "norm_1", eps), "attn.Wqkv")
        fused = fused if limit is None else np.clip(fused, -limit, limit)
        q, k, v = (split(part, heads) for part in np.split(fused, 3, axis=-1))
        scale = attention["softmax_scale"] or q.shape[-1] ** -0.5
        out[f"pattern.{layer}"], z = attend(q, k, v, scale, bias=bias)
        x = x + w.affine(z, "attn.out_proj")
        x = x + w.affine(gelu(w.affine(w.layer_norm(x, "norm_2", eps), "ffn.up_proj")),
                         "ffn.down_proj")
    out["resid_final"] = x
    out["logits"] = model.logits(model.layer_norm(x, "norm_f", eps), "transformer.wte.weight")
    return out


FORWARDS = {"gpt_neox": gpt_neox_forward, "gpt_neo": gpt_neo_forward, "opt": opt_forward,
            "mpt": mpt_forward,
            **{kind: llama_like_forward
               for kind in ("gemma", "gemma2", "gemma3_text", "phi3", "olmo", "olmo2", "olmo3")}}
