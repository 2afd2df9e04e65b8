"""Seconds of a plain forward pass in transformers: eager attention, float32, no gradients.

    tests/bench/setup_peer.sh build/peer
    build/peer/bin/python tests/bench/peer_forward.py --save build/peer_models > peer.json

Prints one JSON object (see README.md). With --save the very models that are timed are written as
Hugging Face checkpoints, so that another program can run the same weights on the same ids.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

SEED = 20240229

# Published shapes; weights are random, which changes no operation count.
MODELS = {
    "gpt2-small": (
        "gpt2", dict(vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12),
        [(8, 15), (1, 1024)]),
    "smollm2-135m": (
        "llama",
        dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
             num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
             rms_norm_eps=1e-5, tie_word_embeddings=True,
             rope_parameters=dict(rope_type="default", rope_theta=100000.0)),
        [(4, 16), (8, 128)]),
}


def make_model(name, attention):
    kind, fields, _ = MODELS[name]
    torch.manual_seed(SEED)
    config = transformers.AutoConfig.for_model(kind, **fields)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.float().eval()


def make_ids(vocab, batch, length):
    """Ids that any language can make again: entry n, row by row, is (7919 n + 13) mod vocab."""
    return ((torch.arange(batch * length) * 7919 + 13) % vocab).reshape(batch, length)


def measure(model, ids, repeats, seconds):
    def once():
        start = time.perf_counter()
        logits = model(ids, use_cache=False).logits
        return time.perf_counter() - start, logits

    with torch.no_grad():
        once()
        _, logits = once()
        times = []
        began = time.perf_counter()
        while len(times) < 3 or (len(times) < repeats and time.perf_counter() - began < seconds):
            times.append(once()[0])
    last = logits[0, -1]
    return dict(median_s=statistics.median(times), min_s=min(times), max_s=max(times),
                runs=len(times),
                check=dict(argmax=int(last.argmax()), logits=[float(x) for x in last[:4]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", type=pathlib.Path, metavar="DIR",
                        help="write the models as DIR/<name>/ (0.5 GB each); kept if there")
    parser.add_argument("--save-only", action="store_true", help="with --save: measure nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    parser.add_argument("--repeats", type=int, default=15, help="timed passes of a shape, at most")
    parser.add_argument("--seconds", type=float, default=30.0, help="time for a shape, roughly")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this; repeatable")
    options = parser.parse_args()
    if options.save_only and not options.save:
        parser.error("--save-only needs --save DIR")

    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results = []
    for name in options.model or MODELS:
        model = make_model(name, options.attention)
        if options.save and not (options.save / name / "model.safetensors").exists():
            model.save_pretrained(options.save / name, max_shard_size="10GB")
        for batch, length in [] if options.save_only else MODELS[name][2]:
            ids = make_ids(model.config.vocab_size, batch, length)
            results.append(dict(model=name, batch=batch, length=length,
                                **measure(model, ids, options.repeats, options.seconds)))
            print(f"{name} {batch}x{length}: {results[-1]['median_s']:.3f} s", file=sys.stderr)
    print(json.dumps(dict(library="transformers", transformers=transformers.__version__,
                          torch=torch.__version__, threads=options.threads, dtype="float32",
                          attention=options.attention, results=results), indent=2))


if __name__ == "__main__":
    main()
