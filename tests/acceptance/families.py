"""Holds the built program to the reference implementation, family by family.

    golden_env/bin/python tests/acceptance/families.py build/release/apps/plumb/plumb [CASE...]

`golden_env` is that of tests/golden/make_decoder_goldens.py. For every case there, this script has
the reference library make and save a tiny checkpoint with fresh random weights, and then runs

    plumb inspect CHECKPOINT --json
    plumb sink CHECKPOINT --tokens IDS --dtype f64 --json

on it. The number of parameters, the loss, and the attention that every head of every layer pays to
position 0 have to be the reference's, both computed in float64 throughout; the same in float32 and
bfloat16 is measured and printed. Exits with 1 when a case disagrees.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
import make_decoder_goldens as goldens  # noqa: E402

LOSS = 1e-10  # relative: two float64 passes that sum in different orders, printed in full
SINK = 1e-7  # absolute: the program keeps attention to position 0 in float32
ROWS = 4


def fresh(case):
    """The case with other weights and rows of full length."""
    kind, storage, changes, options = goldens.CASES[case]
    options = {key: value for key, value in options.items() if key != "lengths"}
    goldens.CASES[case] = (kind, storage, changes, {**options, "salt": "acceptance"})
    return kind


def reference_numbers(folder, tokens):
    """Loss [nats per predicted token] and attention to position 0 [layers, heads], the mean over the
    queries behind it."""
    values = goldens.reference(folder, tokens, [tokens.shape[1]] * len(tokens))
    logits = values["logits"][:, :-1]
    top = logits.max(-1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    loss = (total - np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]).mean()
    patterns = [values[f"pattern.{layer}"] for layer in range(goldens.LAYERS)]
    return loss, np.stack([pattern[:, :, 1:, 0].mean((0, 2)) for pattern in patterns])


def parameters(folder):
    """Elements of the saved weights, without buffers and rows of position tables that are padding."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config)
    count = sum(value.numel() for value in model.parameters())
    if config.model_type == "opt":
        count -= 2 * config.hidden_size
    return count


def plumb(program, *arguments):
    done = subprocess.run([program, *arguments, "--quiet", "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"plumb {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def check(program, case, scratch):
    kind = fresh(case)
    folder = scratch / case
    folder.mkdir()
    goldens.write_checkpoint(case, folder)
    noise = np.random.RandomState(len(case))
    tokens = noise.randint(0, goldens.VOCAB, (ROWS, goldens.LENGTH)).astype(np.int64)
    ids = scratch / "ids.json"
    ids.write_text(json.dumps(tokens.tolist()))
    loss, sink = reference_numbers(folder, tokens)

    seen = plumb(program, "inspect", str(folder))
    same_size = seen["parameters"] == parameters(folder)
    apart = {}
    for dtype in ("f64", "f32", "bf16"):
        found = plumb(program, "sink", str(folder), "--tokens", str(ids), "--dtype", dtype)
        apart[dtype] = (abs(found["loss"] - loss) / loss,
                        np.abs(np.array(found["sink"]["mean"]) - sink).max())
    good = same_size and apart["f64"][0] < LOSS and apart["f64"][1] < SINK
    print(f"{kind:12s} {case:24s} {'yes' if same_size else 'NO':4s}"
          + "".join(f" {loss_apart:8.1e} {sink_apart:8.1e}" for loss_apart, sink_apart in apart.values())
          + ("" if good else "   DISAGREES"), flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"{'family':12s} {'case':24s} size" + "".join(
        f" {dtype + ' loss':>8s} {'sink':>8s}" for dtype in ("f64", "f32", "bf16")))
    with tempfile.TemporaryDirectory() as scratch:
        results = [check(options.program, case, pathlib.Path(scratch))
                   for case in options.cases or goldens.CASES]
    print(f"{sum(results)} of {len(results)} cases agree")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
