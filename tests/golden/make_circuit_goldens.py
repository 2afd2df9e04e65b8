"""Circuits that EAP-IG selects and evaluates on two tiny models: tests/golden/circuits.json.

Runs the unmodified package of hannamw/EAP-IG 795f560 on transformer-lens 3.9.0 in float64. Adapted
from outside: its device="cuda" is made the CPU, its tokenizer takes lists of ids, and rotary tables,
which transformer-lens rounds to float32, are exact. The models' weights are a formula
(tests/support/hash_weights.h).

    python tests/golden/make_circuit_goldens.py tests/golden/circuits.json
"""
import json
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import (convert_gpt2_weights,
                                                            convert_llama_weights)

torch.set_default_dtype(torch.float64)
zeros = torch.zeros
torch.zeros = lambda *a, **k: zeros(*a, **{**k, **({"device": "cpu"} if "device" in k else {})})

import eap.attribute
import eap.evaluate
import eap.utils
from eap.graph import Graph

LAYERS, HEADS, WIDTH, VOCAB = 3, 4, 64, 97
MASK = (1 << 64) - 1


def take_ids(model, inputs, max_length=None):
    tokens = torch.tensor([list(ids) for ids in inputs])
    mask = torch.ones_like(tokens)
    return tokens, mask, mask.sum(1), tokens.shape[1]


for module in (eap.attribute, eap.evaluate, eap.utils):
    module.tokenize_plus = take_ids


def hashed(name, shape):
    norm = any(part in name for part in ("ln_", "layernorm", "model.norm"))
    bias = name.endswith(".bias")
    seed = 14695981039346656037
    for byte in name.encode():
        seed = ((seed ^ byte) * 1099511628211) & MASK
    values, count = [], 1
    for size in shape:
        count *= size
    for i in range(count):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        u = ((z ^ (z >> 31)) >> 44) / 2**20 - 0.5
        values.append(0.125 * u if bias else 1 + 0.25 * u if norm else 0.5 * u)
    return torch.tensor(values).view(shape)


def build(kind):
    common = dict(n_layers=LAYERS, d_model=WIDTH, n_ctx=32, d_head=16, n_heads=HEADS, d_vocab=VOCAB,
                  eps=1e-5, dtype=torch.float64, init_weights=False, device="cpu")
    if kind == "gpt2":
        hf = GPT2LMHeadModel(GPT2Config(
            vocab_size=VOCAB, n_positions=32, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            activation_function="gelu_new"))
        cfg = HookedTransformerConfig(d_mlp=4 * WIDTH, act_fn="gelu_new", normalization_type="LN",
                                      original_architecture="GPT2LMHeadModel", **common)
        convert = convert_gpt2_weights
    else:
        hf = LlamaForCausalLM(LlamaConfig(
            vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=32,
            rms_norm_eps=1e-5, tie_word_embeddings=False))
        cfg = HookedTransformerConfig(
            d_mlp=128, act_fn="silu", normalization_type="RMS", n_key_value_heads=2,
            positional_embedding_type="rotary", rotary_dim=16, rotary_base=10000, gated_mlp=True,
            final_rms=True, original_architecture="LlamaForCausalLM", **common)
        convert = convert_llama_weights
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            parameter.copy_(hashed(name, list(parameter.shape)))
    model = HookedTransformer(cfg)
    model.load_and_process_state_dict(
        {k: v.clone().double() for k, v in convert(hf, cfg).items()}, fold_ln=False,
        center_writing_weights=False, center_unembed=False, fold_value_biases=False,
        refactor_factored_attn_matrices=False)
    if kind == "llama":
        angle = torch.arange(32.0)[:, None] * 10000.0 ** (-torch.arange(0, 16, 2.0) / 16)
        angle = torch.cat([angle, angle], -1)
        for block in model.blocks:
            with torch.no_grad():
                block.attn.rotary_sin.copy_(angle.sin())
                block.attn.rotary_cos.copy_(angle.cos())
        model.cfg.ungroup_grouped_query_attention = True
    model.cfg.use_attn_result = model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    return model.eval()


def difference(logits, clean_logits, lengths, answers):
    rows = torch.arange(len(answers))
    last = logits[rows, lengths - 1]
    return last[rows, answers[:, 0]] - last[rows, answers[:, 1]]


def prompts():
    generator = torch.Generator().manual_seed(9)
    clean = torch.randint(VOCAB, (3, 6), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 1] = (corrupt[:, 1] + 11) % VOCAB
    corrupt[1, 3] = (corrupt[1, 3] + 7) % VOCAB
    return clean, corrupt, torch.randint(VOCAB, (3, 2), generator=generator)


def main(path):
    clean, corrupt, answers = prompts()
    data = [(clean.tolist(), corrupt.tolist(), answers)]
    result = {"about": "EAP-IG 795f560 on tiny models, float64; see make_circuit_goldens.py",
              "clean": clean.tolist(), "corrupt": corrupt.tolist(), "answers": answers.tolist(),
              "models": {}}
    for kind in ("gpt2", "llama"):
        model = build(kind)
        graph = Graph.from_model(model)
        eap.attribute.attribute(model, graph, data,
                                lambda *a: -difference(*a).mean(), method="EAP", quiet=True)
        graph.scores = graph.scores.double()
        asked = [("top", True, 10), ("top", True, 30), ("top", False, 60), ("top", True, 120),
                 ("greedy", True, 20), ("greedy", False, 40), ("threshold", True, 0.01),
                 ("top", True, 0), ("top", True, 262)]
        circuits = []
        for how, absolute, number in asked:
            if how == "top":
                graph.apply_topn(number, absolute)
            elif how == "greedy":
                graph.apply_greedy(number, absolute)
            else:
                graph.apply_threshold(number, absolute)
            entry = {"how": how, "absolute": absolute, "number": number,
                     "nodes": graph.count_included_nodes(),
                     "edges": sorted(name for name, edge in graph.edges.items()
                                     if bool(edge.in_graph))}
            for intervention in ("patching", "zero", "mean-positional"):
                entry[intervention] = eap.evaluate.evaluate_graph(
                    model, graph, data, difference, quiet=True, intervention=intervention,
                    intervention_dataloader=data).tolist()
            circuits.append(entry)
        result["models"][kind] = {
            "scores": {name: float(edge.score) for name, edge in graph.edges.items()},
            "circuits": circuits}
    with open(path, "w") as file:
        json.dump(result, file, indent=0)


if __name__ == "__main__":
    main(sys.argv[1])
