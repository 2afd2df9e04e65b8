"""Makes tests/golden/gguf/models: the checkpoints of make_decoder_goldens.py as GGUF files.

Needs PyPI's gguf 0.19.0 and accelerate, and torch, transformers and safetensors as
make_decoder_goldens.py does:
    python tests/golden/make_gguf_model_goldens.py [CASE...]

Every file holds the very weights of tests/golden/<case>, in the same types, under the names that
gguf's tensor map gives them; permutations, offsets and keys follow the converter that defines the
format. The tests ask that both read the same weights and give the same logits, and other tests
hold the checkpoint to its reference values. Where transformers can load the GGUF file itself, this
script asks that it, too, computes the checkpoint's logits.
"""

import json
import math
import os
import pathlib
import re
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
OUT = HERE / "gguf" / "models"
TYPES = {torch.float32: gguf.GGMLQuantizationType.F32, torch.float16: gguf.GGMLQuantizationType.F16,
         torch.bfloat16: gguf.GGMLQuantizationType.BF16}


def interleave(weight, heads):
    """Rows of each head from half-split order to pairs (2i, 2i + 1)."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


# --- tensors: each takes (name below the layer, tensor, config) and gives (name, tensor) or None --

def as_llama(name, tensor, config):
    if ".q_proj." in name:
        tensor = interleave(tensor, config.num_attention_heads)
    if ".k_proj." in name:
        tensor = interleave(tensor, config.num_key_value_heads)
    return name, tensor


def as_is(name, tensor, config):
    return name, tensor


def as_gpt2(name, tensor, config):
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    if re.search(r"(c_attn|c_proj|c_fc)\.weight$", name):
        tensor = tensor.T.contiguous()
    return name, tensor


def as_gemma(name, tensor, config):
    return name, tensor.float() + 1 if name.endswith("norm.weight") else tensor


def as_gptneox(name, tensor, config):
    if ".query_key_value." in name:  # q, k and v of each head side by side
        heads = tensor.reshape(config.num_attention_heads, 3, -1, *tensor.shape[1:])
        tensor = torch.cat([heads[:, part].reshape(-1, *tensor.shape[1:]) for part in range(3)])
    return name, tensor


def as_mixtral(name, tensor, config):
    name = name.replace(".block_sparse_moe.experts", ".mlp.experts")
    for theirs, ours in ((".w1.", ".gate_proj."), (".w2.", ".down_proj."), (".w3.", ".up_proj.")):
        name = name.replace(theirs, ours)
    return as_llama(name, tensor, config)


def merge_experts(state):
    """One tensor for all experts in place of one for each."""
    merged, parts = {}, {}
    for name, tensor in state.items():
        found = re.fullmatch(r"(.*\.experts)\.(\d+)\.(.*)", name)
        if found:
            parts.setdefault(f"{found[1]}.{found[3]}", {})[int(found[2])] = tensor
        else:
            merged[name] = tensor
    for name, experts in parts.items():
        merged[name] = torch.stack([experts[i] for i in range(len(experts))])
    return merged


def split_gpt_oss(state):
    """Gate and up of gpt-oss take turns; its matrices are stored as inputs by outputs."""
    out = {}
    for name, tensor in state.items():
        name, _, bias = name.partition("_bias")
        kind = "bias" if bias or name.endswith(".bias") else "weight"
        if ".experts." in name:
            kind = "bias" if tensor.dim() == 2 else "weight"
            if kind == "weight":
                tensor = tensor.transpose(1, 2)
        if name.endswith(".gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            out[f"{stem}gate_proj.{kind}"] = tensor[:, 0::2]
            out[f"{stem}up_proj.{kind}"] = tensor[:, 1::2]
        elif name.endswith((".down_proj", ".sinks")):
            out[f"{name}.{kind}"] = tensor
        else:
            out[name] = tensor
    return out


# --- keys ----------------------------------------------------------------------------------------

def rope_of(config):
    rope = dict(getattr(config, "rope_parameters", None) or {})
    rope = dict(rope.get("full_attention", rope))
    rope.setdefault("rope_type", "default")
    return rope


def add_rotation(w, config, arch, d_head):
    rope = rope_of(config)
    w.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast", 32.0))
        w.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow", 1.0))
    elif kind == "llama3":
        pairs = np.arange(0, d_head, 2) / d_head
        wavelength = 2 * math.pi * rope["rope_theta"] ** pairs
        original = rope["original_max_position_embeddings"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
        table = 1 / ((1 - smooth) / rope["factor"] + smooth)
        w.add_tensor("rope_freqs.weight", table.astype(np.float32))
    elif kind == "longrope":
        original = (rope.get("original_max_position_embeddings")
                    or config.original_max_position_embeddings)
        factor = config.max_position_embeddings / original
        w.add_rope_scaling_orig_ctx_len(original)
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(factor) / math.log(original)))
        for which in ("short", "long"):
            w.add_tensor(f"rope_factors_{which}.weight",
                         np.array(rope[f"{which}_factor"], np.float32))
    elif kind != "default":
        raise SystemExit(f"no rotation {kind} in {arch}")


def rotary(w, config, arch):
    """Sizes of a decoder with rotation."""
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_vocab_size(config.vocab_size)  # else transformers looks for a tokenizer
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if d_head != config.hidden_size // config.num_attention_heads or arch.startswith("gemma"):
        w.add_key_length(d_head)
        w.add_value_length(d_head)
    add_rotation(w, config, arch, d_head)
    return d_head


def llama(w, config, arch):
    d_head = rotary(w, config, arch)
    w.add_rope_dimension_count(d_head)


def mistral(w, config, arch):
    llama(w, config, arch)
    if config.sliding_window:
        w.add_sliding_window(config.sliding_window)


def gemma(w, config, arch):
    rotary(w, config, arch)
    scalar = getattr(config, "query_pre_attn_scalar", config.head_dim)
    if scalar != config.head_dim:  # the converter leaves this out
        w.add_attention_scale(scalar ** -0.5)
    if config.model_type == "gemma":
        return
    add_windows(w, config)
    if config.attn_logit_softcapping:
        w.add_attn_logit_softcapping(config.attn_logit_softcapping)
    w.add_final_logit_softcapping(config.final_logit_softcapping or 0.0)
    if config.model_type == "gemma3_text":
        w.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])


def add_windows(w, config):
    w.add_sliding_window(config.sliding_window)
    w.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])


def phi3(w, config, arch):
    d_head = rotary(w, config, arch)
    w.add_rope_dimension_count(int(d_head * rope_of(config).get("partial_rotary_factor", 1.0)))
    w.add_sliding_window(config.sliding_window or 0)


def gptneox(w, config, arch):
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    d_head = config.hidden_size // config.num_attention_heads
    w.add_rope_dimension_count(int(d_head * rope_of(config)["partial_rotary_factor"]))
    w.add_head_count(config.num_attention_heads)
    w.add_parallel_residual(config.use_parallel_residual)
    w.add_layer_norm_eps(config.layer_norm_eps)
    add_rotation(w, config, arch, d_head)


def mpt(w, config, arch):
    w.add_context_length(config.max_seq_len)
    w.add_embedding_length(config.d_model)
    w.add_feed_forward_length(4 * config.d_model)
    w.add_head_count(config.n_heads)
    w.add_layer_norm_eps(1e-5)
    attention = config.attn_config
    if attention.clip_qkv is not None:
        w.add_clamp_kqv(attention.clip_qkv)
    if attention.softmax_scale is not None:  # the converter leaves this out
        w.add_attention_scale(attention.softmax_scale)
    w.add_max_alibi_bias(attention.alibi_bias_max)


def olmo(w, config, arch):
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_eps(1e-5)
    if config.clip_qkv is not None:
        w.add_clamp_kqv(config.clip_qkv)
    add_rotation(w, config, arch, config.hidden_size // config.num_attention_heads)


def olmo2(w, config, arch):
    rotary(w, config, arch)
    if config.model_type == "olmo3":
        add_windows(w, config)


def experts(w, config, arch, width=None):
    w.add_expert_count(getattr(config, "num_local_experts", None) or config.num_experts)
    w.add_expert_used_count(config.num_experts_per_tok)
    if width is not None:
        w.add_expert_feed_forward_length(width)
    normalised = getattr(config, "norm_topk_prob", None)
    if normalised is not None and normalised != (arch == "qwen3moe"):  # the converter leaves this out
        w.add_expert_weights_norm(normalised)


def mixtral(w, config, arch):
    mistral(w, config, arch)
    experts(w, config, arch)


def qwen_moe(w, config, arch):
    rotary(w, config, arch)
    experts(w, config, arch, config.moe_intermediate_size)
    if arch == "qwen2moe":
        w.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def olmoe(w, config, arch):
    rotary(w, config, arch)
    experts(w, config, arch)
    if config.clip_qkv is not None:  # the converter leaves this out
        w.add_clamp_kqv(config.clip_qkv)


def gpt_oss(w, config, arch):
    rotary(w, config, arch)
    experts(w, config, arch, config.intermediate_size)
    w.add_sliding_window(config.sliding_window)


def gpt2(w, config, arch):
    w.add_context_length(config.n_positions)
    w.add_embedding_length(config.n_embd)
    w.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    w.add_head_count(config.n_head)
    w.add_layer_norm_eps(config.layer_norm_epsilon)


# model_type: (architecture, keys, tensors)
FAMILIES = {
    "gemma": ("gemma", gemma, as_gemma),
    "gemma2": ("gemma2", gemma, as_gemma),
    "gemma3_text": ("gemma3", gemma, as_gemma),
    "gpt2": ("gpt2", gpt2, as_gpt2),
    "gpt_oss": ("gpt-oss", gpt_oss, as_is),
    "gpt_neox": ("gptneox", gptneox, as_gptneox),
    "llama": ("llama", llama, as_llama),
    "mistral": ("llama", mistral, as_llama),
    "mixtral": ("llama", mixtral, as_mixtral),
    "mpt": ("mpt", mpt, as_is),
    "olmo": ("olmo", olmo, as_llama),
    "olmo2": ("olmo2", olmo2, as_is),
    "olmo3": ("olmo2", olmo2, as_is),
    "olmoe": ("olmoe", olmoe, as_is),
    "phi3": ("phi3", phi3, as_is),
    "qwen2": ("qwen2", rotary, as_is),
    "qwen2_moe": ("qwen2moe", qwen_moe, as_is),
    "qwen3": ("qwen3", rotary, as_is),
    "qwen3_moe": ("qwen3moe", qwen_moe, as_is),
}

# What GGUF cannot say is left out: windows of qwen2 and qwen3moe, dynamic scaling, other
# activations, other constants of gpt-oss's experts.
CASES = [
    "gemma_gelu_untied", "gemma_mqa", "gemma2_caps", "gemma2_scores_capped", "gemma3_old_form",
    "gemma3_two_ropes", "gpt2_gelu_new", "gpt_neox_parallel", "gpt_oss_yarn", "llama_bias_untied",
    "llama_gqa_tied", "llama_padded", "llama_rope_linear", "llama_rope_llama3", "llama_rope_yarn",
    "mistral_full", "mistral_window", "mixtral_full", "mixtral_window", "mpt_alibi", "mpt_six_heads", "olmo_clipped", "olmo_tied",
    "olmo2_gqa", "olmo2_tied", "olmo3_yarn", "olmoe_clipped", "olmoe_plain", "phi3_longrope_long", "phi3_longrope_short",
    "phi3_partial", "qwen2_moe_shared", "qwen2_tied", "qwen3_moe_normalised",
    "qwen3_tied", "qwen3_untied",
]

# Cases that transformers loads from GGUF as they are. Of the others it does not know the
# architecture or a key (biases, scaled rotation, caps, windows of Mistral, a head width that is not
# d_model / heads), or takes the size of the vocabulary from a tokenizer.
LOADED = {"llama_gqa_tied", "llama_padded", "mistral_full", "qwen2_tied"}
# Cases whose tensors it reads, but not the width of their experts: it gets the checkpoint's config.
LOADED_WITH_CONFIG = {"qwen2_moe_shared", "qwen3_moe_normalised"}


def state_dict(directory):
    state = {}
    for path in sorted(directory.glob("*.safetensors")):
        state |= load_file(path)
    return state


def mapped(name_map, name):
    stem, _, suffix = name.rpartition(".")
    for prefix in ("", "transformer.", "model."):
        found = name_map.get_name(prefix + stem)
        if found is not None:
            return f"{found}.{suffix}"
    if name == "lm_head.weight":  # of an architecture whose models are always tied
        return "output.weight"
    raise SystemExit(f"no GGUF name for {name}")


def write(case):
    directory = HERE / case
    config = transformers.AutoConfig.from_pretrained(directory)
    arch, keys, place = FAMILIES[config.model_type]
    layers = config.num_hidden_layers
    enum = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[arch]
    name_map = gguf.get_tensor_name_map(enum, layers)
    path = OUT / f"{case}.gguf"
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(layers)
    keys(w, config, arch)
    state = state_dict(directory)
    if arch == "gpt-oss":
        state = split_gpt_oss(state)
    placed = {}
    for name, tensor in state.items():
        both = place(name, tensor, config)
        if both is not None and not (name == "lm_head.weight" and config.tie_word_embeddings):
            placed[both[0]] = both[1]
    for name, tensor in merge_experts(placed).items():
        # The converter keeps vectors and routers in float32; a matrix of one row becomes a vector.
        tensor = tensor.squeeze()
        if tensor.dim() == 1 or name.endswith((".gate.weight", ".router.weight")):
            tensor = tensor.float()
        kind = TYPES[tensor.dtype]
        data = tensor.contiguous()
        data = data.view(torch.uint8) if tensor.dtype == torch.bfloat16 else data
        w.add_tensor(mapped(name_map, name), data.numpy(), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def check(case, path):
    """transformers' logits of the GGUF file against those of the checkpoint."""
    if case not in LOADED | LOADED_WITH_CONFIG:
        return print(f"{case}: written")
    tokens = torch.arange(11).unsqueeze(0) % 61
    options = dict(dtype=torch.float32, attn_implementation="eager")
    auto = transformers.AutoModelForCausalLM
    with torch.no_grad():
        ours = auto.from_pretrained(HERE / case, **options).eval()(tokens).logits
        if case in LOADED_WITH_CONFIG:
            options["config"] = transformers.AutoConfig.from_pretrained(HERE / case)
        theirs = auto.from_pretrained(OUT, gguf_file=path.name, **options).eval()(tokens).logits
    apart = ((ours - theirs).abs().max() / ours.abs().max()).item()
    print(f"{case}: written; transformers reads the same to {apart:.1e}")
    if not apart < 1e-5:
        raise SystemExit(f"{case}: transformers reads other weights")


OUT.mkdir(parents=True, exist_ok=True)
for chosen in sys.argv[1:] or CASES:
    check(chosen, write(chosen))
