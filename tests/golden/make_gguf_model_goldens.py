"""Makes tests/golden/gguf/models: the checkpoints of make_decoder_goldens.py as GGUF files.

Needs PyPI's gguf 0.19.0, and torch, transformers and safetensors as make_decoder_goldens.py does:
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


# --- keys ----------------------------------------------------------------------------------------

def rope_of(config):
    rope = dict(getattr(config, "rope_parameters", None) or {})
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


def gpt2(w, config, arch):
    w.add_context_length(config.n_positions)
    w.add_embedding_length(config.n_embd)
    w.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    w.add_head_count(config.n_head)
    w.add_layer_norm_eps(config.layer_norm_epsilon)


# model_type: (architecture, keys, tensors)
FAMILIES = {
    "gpt2": ("gpt2", gpt2, as_gpt2),
    "llama": ("llama", llama, as_llama),
    "mistral": ("llama", mistral, as_llama),
    "qwen2": ("qwen2", rotary, as_is),
    "qwen3": ("qwen3", rotary, as_is),
}

# What GGUF cannot say is left out: windows of qwen2, dynamic scaling, other activations.
CASES = [
    "gpt2_gelu_new", "llama_bias_untied", "llama_gqa_tied", "llama_padded",
    "llama_rope_linear", "llama_rope_yarn", "mistral_full", "mistral_window",
    "qwen2_tied", "qwen3_tied", "qwen3_untied",
]

# Cases that transformers does not load from GGUF as they are: of GPT-2's files it takes the size of
# the vocabulary from a tokenizer, and it knows neither biases of Llama, scaled rotation, windows of
# Mistral, nor (in qwen3) a head width that is not d_model / heads.
NOT_LOADED = {"gpt2_gelu_new", "llama_bias_untied", "llama_rope_linear",
              "llama_rope_llama3", "llama_rope_yarn", "mistral_window", "qwen3_tied",
              "qwen3_untied"}


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
    for name, tensor in state_dict(directory).items():
        placed = place(name, tensor, config)
        if placed is None or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        name, tensor = placed
        # The converter keeps vectors in float32.
        if tensor.dim() == 1:
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
    if case in NOT_LOADED:
        return print(f"{case}: written")
    tokens = torch.arange(11).unsqueeze(0) % 61
    options = dict(dtype=torch.float32, attn_implementation="eager")
    auto = transformers.AutoModelForCausalLM
    with torch.no_grad():
        ours = auto.from_pretrained(HERE / case, **options).eval()(tokens).logits
        theirs = auto.from_pretrained(OUT, gguf_file=path.name, **options).eval()(tokens).logits
    apart = ((ours - theirs).abs().max() / ours.abs().max()).item()
    print(f"{case}: written; transformers reads the same to {apart:.1e}")
    if not apart < 1e-5:
        raise SystemExit(f"{case}: transformers reads other weights")


OUT.mkdir(parents=True, exist_ok=True)
for chosen in sys.argv[1:] or CASES:
    check(chosen, write(chosen))
