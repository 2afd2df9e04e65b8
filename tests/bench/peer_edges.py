"""Seconds, memory and scores of EAP-IG's own package on a checkpoint and pairs.

    tests/bench/setup_peer.sh build/peer_edges edges
    build/peer_edges/bin/python tests/bench/peer_edges.py MODEL_DIR PAIRS.jsonl > peer.json

MODEL_DIR is a Hugging Face checkpoint of GPT-2 or of a Llama without particulars, PAIRS a file of
pairs of one length, given as ids; they make one batch. The package is used as it is, but for two
things outside it: it asks for the device "cuda" by name, and takes texts where ids are given here.
Its scores carry one over the batch; what is printed is multiplied by the batch.
"""

import argparse
import functools
import gc
import json
import os
import resource
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

import torch
import transformers
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import (
    convert_gpt2_weights, convert_llama_weights)


def on_cpu(function):
    @functools.wraps(function)
    def made(*args, **kwargs):
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)
    return made


torch.zeros = on_cpu(torch.zeros)

import eap.attribute
import eap.evaluate
from eap.graph import Graph


def tokens_of(_, rows, max_length=None):
    ids = torch.tensor(rows)
    mask = torch.ones_like(ids)
    return ids, mask, mask.sum(1), ids.shape[1]


eap.attribute.tokenize_plus = eap.evaluate.tokenize_plus = tokens_of


def hooked(hf):
    config = hf.config
    common = dict(init_weights=False, device="cpu", dtype=torch.float32, use_attn_result=True,
                  use_split_qkv_input=True, use_hook_mlp_in=True, d_vocab=config.vocab_size)
    if config.model_type == "gpt2":
        shape = HookedTransformerConfig(
            n_layers=config.n_layer, n_heads=config.n_head, d_model=config.n_embd,
            d_head=config.n_embd // config.n_head, d_mlp=config.n_inner or 4 * config.n_embd,
            n_ctx=config.n_positions, act_fn="gelu_new", normalization_type="LN",
            eps=config.layer_norm_epsilon, **common)
        weights = convert_gpt2_weights(hf, shape)
    else:
        width = config.hidden_size // config.num_attention_heads
        grouped = config.num_key_value_heads != config.num_attention_heads
        shape = HookedTransformerConfig(
            n_layers=config.num_hidden_layers, n_heads=config.num_attention_heads,
            n_key_value_heads=config.num_key_value_heads if grouped else None,
            ungroup_grouped_query_attention=grouped, d_model=config.hidden_size, d_head=width,
            d_mlp=config.intermediate_size, n_ctx=512, act_fn="silu", gated_mlp=True,
            normalization_type="RMS", final_rms=True, eps=config.rms_norm_eps,
            positional_embedding_type="rotary", rotary_dim=width, rotary_adjacent_pairs=False,
            rotary_base=int(config.rope_parameters["rope_theta"]), **common)
        weights = convert_llama_weights(hf, shape)
    model = HookedTransformer(shape)
    model.load_and_process_state_dict(
        {name: value.clone() for name, value in weights.items()}, fold_ln=False,
        center_writing_weights=False, center_unembed=False, fold_value_biases=False,
        refactor_factored_attn_matrices=False)
    return model.eval()


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def timed(function, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()

    with open(options.pairs) as file:
        pairs = [json.loads(line) for line in file]
    answers = torch.tensor([pair["answers"] for pair in pairs])
    batch = ([pair["clean"] for pair in pairs], [pair["corrupt"] for pair in pairs], answers)

    def loss(logits, _, lengths, labels):
        last = logits[torch.arange(len(lengths)), lengths - 1].gather(1, labels)
        return -(last[:, 0] - last[:, 1]).mean()

    hf = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, attn_implementation="eager").float().eval()
    clean = torch.tensor(batch[0])
    with torch.no_grad():
        hf(clean)
        _, forward = timed(lambda: hf(clean), 5)  # bare: the package's own model is slower
    model = hooked(hf)
    del hf
    gc.collect()
    graph = Graph.from_model(model)
    loaded = memory("VmRSS")
    methods = {"eap": lambda: eap.attribute.get_scores_eap(model, graph, [batch], loss, quiet=True),
               "eap-ig": lambda: eap.attribute.get_scores_eap_ig(
                   model, graph, [batch], loss, steps=options.steps, quiet=True)}
    results = {}
    for name, scores in methods.items():
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")  # the high-water mark starts anew
        matrix, seconds = timed(scores, options.repeats if name == "eap" else 1)
        graph.scores[:] = matrix
        results[name] = dict(
            seconds=seconds, above_model_bytes=memory("VmHWM") - loaded,
            edges={edge: value.score.item() * len(pairs) for edge, value in graph.edges.items()})
        print(f"{name}: {min(seconds):.1f} s", file=sys.stderr)
    print(json.dumps(dict(
        library="EAP-IG", threads=options.threads, steps=options.steps,
        forward_s=statistics.median(forward), loaded_bytes=loaded,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, methods=results)))


if __name__ == "__main__":
    main()
