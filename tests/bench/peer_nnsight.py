"""Seconds a site of patching z by layer and head with nnsight, and the values it finds.

    tests/bench/setup_peer.sh build/peer_patching patching
    build/peer_patching/bin/python tests/bench/peer_nnsight.py MODEL_DIR PAIRS.jsonl > nnsight.json

MODEL_DIR is a Hugging Face GPT-2 checkpoint. Four sites share a trace, each in an invoke of its own: the
fastest of the ways tried. The output has the form of peer_patching.py's.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import nnsight
import torch
import transformers
from nnsight import TransformersModel

from peer_patching import any_tokenizer, matrix_rate

SITES_PER_TRACE = 4
SWEEP = "z:layer,head"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--traces", type=int, default=5, help="traces of a sample")
    parser.add_argument("--samples", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    hf = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, attn_implementation="eager").float().eval()
    with tempfile.TemporaryDirectory() as directory:
        model = TransformersModel(hf, tokenizer=any_tokenizer(directory, hf.config),
                                  task="text-generation")
    with open(options.pairs) as file:
        pairs = [json.loads(line) for line in file]
    clean = torch.tensor([pair["clean"] for pair in pairs])
    corrupt = torch.tensor([pair["corrupt"] for pair in pairs])
    answers = torch.tensor([pair["answers"] for pair in pairs])
    layers, heads = hf.config.num_hidden_layers, hf.config.num_attention_heads
    width = hf.config.hidden_size // heads

    def logit_diff(logits):
        last = logits[:, -1].gather(1, answers)
        return (last[:, 0] - last[:, 1]).mean()

    def plain(tokens):
        with model.trace(tokens):
            value = logit_diff(model.lm_head.output).save()
        return float(value)

    with model.trace(clean):
        cache = nnsight.save([])
        for layer in range(layers):
            cache.append(model.transformer.h[layer].attn.c_proj.input.clone())
    cache = list(cache)

    def patched(sites):
        with model.trace() as tracer:
            values = nnsight.save([])
            for layer, head in sites:
                with tracer.invoke(corrupt):
                    own = slice(head * width, (head + 1) * width)
                    model.transformer.h[layer].attn.c_proj.input[:, :, own] = cache[layer][:, :, own]
                    values.append(logit_diff(model.lm_head.output))
        return [float(value) for value in values]

    draw = random.Random(0)
    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    patched(every[:SITES_PER_TRACE])
    seconds, values = [], {}
    for _ in range(options.samples):
        sites = sorted(draw.sample(every, options.traces * SITES_PER_TRACE))
        start = time.perf_counter()
        found = []
        for first in range(0, len(sites), SITES_PER_TRACE):
            found += patched(sites[first:first + SITES_PER_TRACE])
        seconds.append((time.perf_counter() - start) / len(sites))
        values.update({f"{layer},{head}": value for (layer, head), value in zip(sites, found)})
    print(f"{SWEEP}: {statistics.median(seconds):.3f} s a site", file=sys.stderr)
    print(json.dumps(dict(
        library="nnsight", threads=options.threads, clean=plain(clean), corrupt=plain(corrupt),
        matrix_rate=matrix_rate(hf.config.hidden_size),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        sweeps={SWEEP: dict(sites=len(every), median_s=statistics.median(seconds),
                            min_s=min(seconds), max_s=max(seconds), values=values)})))


if __name__ == "__main__":
    main()
