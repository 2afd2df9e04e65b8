"""A second look at what `plumb p0` says of SmolLM2: five of its numbers from the reference library.

    build/release/apps/plumb/plumb convert smollm2-135m --dtype f32 --out DIRECTORY
    build/release/apps/plumb/plumb p0 smollm2-135m --out out/p0
    PYTHON tests/acceptance/second_look.py out/p0/p0.json DIRECTORY [--texts data/inputs/texts.txt]

PYTHON has torch and transformers. Nothing of plumb computes here: the model and the tokenizer are
transformers' own, the interventions forward hooks. DIRECTORY is any Hugging Face directory of the
model. The sequences are the texts' first tokens, as many and as long as the document says; the
interventions replace a component's output at position 0 by the sequence's own mean over t > 0, on
the document's `causal_sequences` and `causal_length`.

  1  mean sink of both waves, all texts: attention to position 0 of the queries after it
  2  norm of position 0's state where each wave begins, clean
  3  share of the projection on the sink direction that the leading neuron of each wave writes, and
     that the neuron which takes most of it away removes
  4  the same norm, the first wave's, when a0 is replaced by its mean
  5  loss in nats per token that replacing the second wave's writer by its mean costs

Exits with 1 when one differs by more than its tolerance.
"""

import argparse
import json
import pathlib
import sys

import torch
import transformers

# Two float32 programs that sum in different orders; an intervention amplifies the difference.
SINK = 1e-4  # absolute
NORM = 1e-3  # relative
SHARE = 1e-3  # absolute
LOSS = 2e-3  # nats
BATCH = 8


def hooked(model, hooks, run):
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        return run(model)
    finally:
        for handle in handles:
            handle.remove()


def output_of(value):
    return value[0] if isinstance(value, tuple) else value


def mean_at_zero(_module, _inputs, value):
    """Puts the sequence's mean over t > 0 in place of position 0's output."""
    whole = output_of(value).clone()
    whole[:, 0] = whole[:, 1:].mean(1)
    return (whole, *value[1:]) if isinstance(value, tuple) else whole


def module_of(model, component):
    layer = model.model.layers[int(component[1:])]
    return layer.self_attn if component[0] == "a" else layer.mlp


def state_at(model, ids, layer):
    """Position 0's state entering a block, [sequences, width]."""
    kept = []
    hook = model.model.layers[layer].register_forward_pre_hook(
        lambda _m, inputs, _k: kept.append(inputs[0][:, 0].double()), with_kwargs=True)
    for part in ids.split(BATCH):
        model(part)
    hook.remove()
    return torch.cat(kept)


def norm_at(model, ids, layer):
    return state_at(model, ids, layer).norm(dim=-1).mean().item()


def loss(model, ids):
    each = []
    for part in ids.split(BATCH):
        logits = model(part).logits[:, :-1].log_softmax(-1)
        each.append(-logits.gather(-1, part[:, 1:, None])[..., 0].mean(1))
    return torch.cat(each).mean().item()


def sinks(model, ids):
    """[layers] mean over sequences, heads and queries t > 0 of the attention to position 0."""
    total = 0
    for part in ids.split(BATCH):
        patterns = model(part, output_attentions=True).attentions
        total = total + torch.stack([p[:, :, 1:, 0].mean((1, 2)).sum() for p in patterns])
    return total / len(ids)


def neuron_share(model, ids, wave, name):
    """What a neuron writes along the wave's sink direction, as a share of the projection."""
    layer, neuron = int(name.split(".")[0][1:]), int(name.split("n")[-1])
    state = state_at(model, ids, wave["onset"])
    direction = state.mean(0) / state.mean(0).norm()
    down = model.model.layers[layer].mlp.down_proj
    kept = []
    hook = down.register_forward_pre_hook(
        lambda _m, inputs: kept.append(inputs[0][:, 0, neuron].double()))
    for part in ids.split(BATCH):
        model(part)
    hook.remove()
    written = torch.cat(kept).mean() * (down.weight[:, neuron].double() @ direction)
    return (written / (state @ direction).mean()).item()


def effect(wave, name, kind):
    for effects in (wave["knockouts"], wave["sets"]):
        for each in effects:
            if each["name"] == name and each["kind"] == kind:
                return each
    sys.exit(f"the document has no knock-out of {name} by {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("document")
    parser.add_argument("directory")
    parser.add_argument("--texts", default=pathlib.Path(__file__).resolve().parents[2]
                        / "data" / "inputs" / "texts.txt")
    arguments = parser.parse_args()
    said = json.loads(pathlib.Path(arguments.document).read_text())
    early, late = said["waves"][0], said["waves"][1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.directory, attn_implementation="eager", dtype=torch.float32).eval()
    length = said["inputs"]["length"]
    lines = pathlib.Path(arguments.texts).read_text().splitlines()[: said["inputs"]["sequences"]]
    rows = [tokenizer(line, add_special_tokens=False)["input_ids"][:length] for line in lines]
    ids = torch.tensor(rows)
    causal = ids[: said["options"]["causal_sequences"], : said["options"]["causal_length"]]

    faults = 0

    def compare(what, ours, reference, tolerance, relative=False):
        nonlocal faults
        off = abs(ours - reference) / (abs(reference) if relative else 1)
        faults += off > tolerance
        print(f"{what:<52} plumb {ours:>12.5f}  reference {reference:>12.5f}  "
              f"{'' if off <= tolerance else 'DIFFERS'}")

    with torch.no_grad():
        by_layer = sinks(model, ids)
        for wave in (early, late):
            span = f"layers {wave['onset']}-{wave['last']}"
            compare(f"1 mean sink, {span}", wave["mean"],
                    by_layer[wave["onset"]: wave["last"] + 1].mean().item(), SINK)
        for wave in (early, late):
            compare(f"2 norm entering layer {wave['onset']}", wave["clean"]["norm"]["mean"],
                    norm_at(model, causal, wave["onset"]), NORM, relative=True)
        for wave in (early, late):
            neurons = wave["ledger"]["neurons"]
            for row in (max(neurons, key=lambda n: n["p0"]), min(neurons, key=lambda n: n["p0"])):
                share = neuron_share(model, causal, wave, row["name"])
                compare(f"3 share of wave {wave['onset']}-{wave['last']} that {row['name']} writes",
                        row["p0"] / wave["ledger"]["total"], share, SHARE)
        cut = hooked(model, [(module_of(model, "a0"), mean_at_zero)],
                     lambda m: norm_at(m, causal, early["onset"]))
        compare(f"4 norm entering layer {early['onset']}, a0 by its mean",
                effect(early, "a0", "mean")["norm"]["mean"], cut, NORM, relative=True)
        writer = late["writers"][0]
        cost = hooked(model, [(module_of(model, writer), mean_at_zero)],
                      lambda m: loss(m, causal)) - loss(model, causal)
        compare(f"5 loss that {writer} by its mean costs, nats per token",
                effect(late, writer, "mean")["loss_change"]["mean"], cost, LOSS)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
