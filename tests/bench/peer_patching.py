"""Seconds a site of TransformerLens' activation patching, and the values it finds.

    tests/bench/setup_peer.sh build/peer_patching patching
    build/peer_patching/bin/python tests/bench/peer_patching.py MODEL_DIR PAIRS.jsonl > peer.json

MODEL_DIR is a Hugging Face checkpoint, PAIRS a file of pairs given as ids (README.md). One
forward pass for each site, as its own `patching` module makes them, on a seeded sample of the sites
of each sweep: denoising, metric the mean logit difference at the last position.
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

import pandas
import torch
import transformers
from tokenizers import Tokenizer, models
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge

# sweep as plumb names it: (TransformerLens' function, its index columns, which sizes they have)
SWEEPS = {
    "resid_pre:layer,position": (patching.get_act_patch_resid_pre, ["layer", "pos"], "LT"),
    "attn_out:layer,position": (patching.get_act_patch_attn_out, ["layer", "pos"], "LT"),
    "mlp_out:layer,position": (patching.get_act_patch_mlp_out, ["layer", "pos"], "LT"),
    "z:layer,head": (patching.get_act_patch_attn_head_out_all_pos, ["layer", "head_index"], "LH"),
    "z:layer,position,head": (
        patching.get_act_patch_attn_head_out_by_pos, ["layer", "pos", "head"], "LTH"),
}


def any_tokenizer(directory, config):
    """The bridge asks for one that was loaded; ids are given here, so that none is used."""
    vocabulary = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, bos_token="a", eos_token="a", pad_token="a",
        unk_token="b").save_pretrained(directory)
    config.save_pretrained(directory)
    return transformers.AutoTokenizer.from_pretrained(directory)


def matrix_rate(width):
    """FLOP/s of the product that patching consists of: packed rows by an MLP's weight."""
    rows, weight = torch.randn(1024, width), torch.randn(width, 4 * width)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        rows @ weight
        seconds.append(time.perf_counter() - start)
    return 2 * 1024 * width * 4 * width / statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("--name", default="gpt2", help="a model of the same architecture that the "
                        "library knows by name")
    parser.add_argument("--sweeps", nargs="+", default=list(SWEEPS), choices=list(SWEEPS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sites", type=int, default=15, help="sites of a sample")
    parser.add_argument("--samples", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    hf = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, attn_implementation="eager").float().eval()
    with tempfile.TemporaryDirectory() as directory:
        model = TransformerBridge.boot_transformers(
            options.name, hf_model=hf, tokenizer=any_tokenizer(directory, hf.config))
    model.eval()
    with open(options.pairs) as file:
        pairs = [json.loads(line) for line in file]
    clean = torch.tensor([pair["clean"] for pair in pairs])
    corrupt = torch.tensor([pair["corrupt"] for pair in pairs])
    answers = torch.tensor([pair["answers"] for pair in pairs])

    def logit_diff(logits):
        last = logits[:, -1].gather(1, answers)
        return (last[:, 0] - last[:, 1]).mean()

    _, cache = model.run_with_cache(clean)
    sizes = dict(L=hf.config.num_hidden_layers, H=hf.config.num_attention_heads, T=clean.shape[1])
    draw = random.Random(0)
    results = {}
    for name in options.sweeps:
        function, columns, axes = SWEEPS[name]
        shape = [sizes[axis] for axis in axes]
        seconds, values = [], {}
        for _ in range(options.samples):
            sites = sorted({tuple(draw.randrange(size) for size in shape)
                            for _ in range(options.sites)})
            frame = pandas.DataFrame(sites, columns=columns)
            start = time.perf_counter()
            found = function(model, corrupt, cache, logit_diff, index_axis_names=None,
                             index_df=frame)
            seconds.append((time.perf_counter() - start) / len(sites))
            for site, value in zip(sites, found.flatten().tolist()):
                values[",".join(map(str, site))] = value
        total = 1
        for size in shape:
            total *= size
        results[name] = dict(sites=total, median_s=statistics.median(seconds),
                             min_s=min(seconds), max_s=max(seconds), values=values)
        print(f"{name}: {results[name]['median_s']:.3f} s a site", file=sys.stderr)
    print(json.dumps(dict(
        library="TransformerLens", threads=options.threads,
        clean=float(logit_diff(model(clean))), corrupt=float(logit_diff(model(corrupt))),
        matrix_rate=matrix_rate(hf.config.hidden_size),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, sweeps=results)))


if __name__ == "__main__":
    main()
