"""Seconds and memory of one long sequence in transformers: fused attention, or attentions returned.

    build/peer/bin/python tests/bench/peer_long_context.py MODEL_DIR LENGTH sdpa|eager [--runs 3]

`sdpa` is one forward pass that returns no attentions; `eager` returns them, and the statistics of every head
are taken of them (outside the time). Entry n of the ids is (7919 n + 13) mod vocabulary. One process for
each measurement, so that its peak memory is its own.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def of_heads(attentions):
    """Means over the queries after position 0, [layer][head]."""
    sink, entropy, at_zero = [], [], []
    for pattern in attentions:
        rows = pattern[0, :, 1:]
        sink.append(rows[:, :, 0].mean(1).tolist())
        entropy.append([-torch.xlogy(head, head).sum(1).mean().item() for head in rows])
        at_zero.append((rows.argmax(2) == 0).float().mean(1).tolist())
    return {"sink": sink, "entropy": entropy, "top_at_zero": at_zero}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("length", type=int)
    parser.add_argument("how", choices=["sdpa", "eager"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, attn_implementation=options.how, dtype=torch.float32).eval()
    vocabulary = model.config.vocab_size
    ids = torch.tensor([[(7919 * n + 13) % vocabulary for n in range(options.length)]])
    with_maps = options.how == "eager"
    model(ids[:, :64])
    base = resident()
    seconds = []
    heads = None
    for _ in range(options.runs):
        start = time.perf_counter()
        result = model(ids, output_attentions=with_maps, use_cache=False)
        seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if with_maps and heads is None:
            heads = of_heads(result.attentions)
        del result
    print(json.dumps({
        "how": options.how, "length": options.length, "seconds": statistics.median(seconds),
        "all_seconds": seconds, "above_model_bytes": peak - base, "heads": heads,
        "torch": torch.__version__, "transformers": transformers.__version__}))


main()
