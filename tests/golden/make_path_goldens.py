"""Path patching by hooks on Hugging Face models in float64: tests/golden/paths.json.

Written from the description of arXiv:2211.00593 and arXiv:2304.05969, without plumb: three runs over
transformers' own modules. The two models' weights are a formula (tests/support/hash_weights.h).

    python tests/golden/make_path_goldens.py tests/golden/paths.json
"""
import json
import sys

import torch
from make_decoder_goldens import Lift
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

torch.set_default_dtype(torch.float64)
LAYERS, HEADS, WIDTH, HEAD = 3, 4, 64, 16
MASK = (1 << 64) - 1


def hashed(name, shape, kind):
    seed = 14695981039346656037
    for byte in name.encode():
        seed = ((seed ^ byte) * 1099511628211) & MASK
    values = []
    count = 1
    for size in shape:
        count *= size
    for i in range(count):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        u = ((z ^ (z >> 31)) >> 44) / 2**20 - 0.5
        values.append(0.5 * u if kind == "matrix" else 0.125 * u if kind == "bias" else 1 + 0.25 * u)
    return torch.tensor(values).view(shape)


def fill(model):
    state = {}
    for name, old in model.state_dict().items():
        if name.endswith((".attn.bias", ".attn.masked_bias", "inv_freq")):
            continue
        norm = any(part in name for part in ("ln_", "layernorm", "model.norm"))
        kind = "bias" if name.endswith(".bias") else "gain" if norm else "matrix"
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        state[name] = hashed(name, list(old.shape), kind)
    model.load_state_dict(state, strict=False)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    return model.eval()


class Gpt2:
    kv_heads = 4

    def __init__(self):
        self.model = fill(GPT2LMHeadModel(GPT2Config(
            vocab_size=97, n_positions=32, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            activation_function="gelu_new", attn_implementation="eager")))
        self.blocks = self.model.transformer.h
        self.embed = self.model.transformer.drop  # token and position embeddings, summed

    def z(self, layer): return self.blocks[layer].attn.c_proj
    def before_mlp(self, layer): return self.blocks[layer].ln_2

    def projection(self, layer, part):
        """Module, and the columns of its output."""
        first = "qkv".index(part) * WIDTH
        return self.blocks[layer].attn.c_attn, slice(first, first + WIDTH)


class Llama:
    kv_heads = 2

    def __init__(self):
        self.model = fill(LlamaForCausalLM(LlamaConfig(
            vocab_size=97, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=32,
            rms_norm_eps=1e-5, tie_word_embeddings=False, attn_implementation="eager")))
        self.blocks = self.model.model.layers
        self.embed = self.model.model.embed_tokens

    def z(self, layer): return self.blocks[layer].self_attn.o_proj
    def before_mlp(self, layer): return self.blocks[layer].post_attention_layernorm

    def projection(self, layer, part):
        attention = self.blocks[layer].self_attn
        return getattr(attention, part + "_proj"), slice(None)


class Run:
    """One forward pass with values kept and values put; both by name."""

    def __init__(self, net, tokens, keep=(), put=()):
        self.kept, handles = {}, []
        # put: list of (name, columns or None, positions or None, value)
        by_name = {}
        for name, columns, positions, value in put:
            by_name.setdefault(name, []).append((columns, positions, value))
        names = set(keep) | set(by_name)

        def change(name, tensor):
            if name in by_name:
                tensor = tensor.clone()
                for columns, positions, value in by_name[name]:
                    columns = slice(None) if columns is None else columns
                    positions = slice(None) if positions is None else positions
                    tensor[:, positions, columns] = value[:, positions, columns]
            if name in keep:
                self.kept[name] = tensor.clone()
            return tensor

        def on_input(module, name):
            return module.register_forward_pre_hook(
                lambda _, inputs: (change(name, inputs[0]),) + inputs[1:])

        def on_output(module, name):
            return module.register_forward_hook(lambda _, inputs, out: change(name, out))

        def on_columns(module, name, columns):
            def hook(_, inputs, out):
                out = out.clone()
                out[..., columns] = change(name, out[..., columns])
                return out
            return module.register_forward_hook(hook)

        for name in names:
            if name == "embed":
                handles.append(on_output(net.embed, name))
                continue
            layer, part = int(name[1]), name[3:]
            if part == "z":
                handles.append(on_input(net.z(layer), name))
            elif part == "mlp_out":
                handles.append(on_output(net.blocks[layer].mlp, name))
            elif part == "mlp_in":
                handles.append(on_input(net.before_mlp(layer), name))
            else:
                module, columns = net.projection(layer, part)
                handles.append(on_columns(module, name, columns))
        with torch.no_grad():
            self.logits = net.model(tokens).logits
        for handle in handles:
            handle.remove()


def columns_of(head): return slice(head * HEAD, (head + 1) * HEAD)


EVERY = ["embed"] + [f"L{l}.{p}" for l in range(LAYERS) for p in ("z", "mlp_out")]


def held(base, senders, recomputed):
    """Everything at its own value but what was sent."""
    put = [(f"L{l}.z", None, None, base[f"L{l}.z"]) for l in range(LAYERS)]
    sent_mlps = {name for name, *_ in senders if name.endswith("mlp_out")}
    for l in range(LAYERS):
        name = f"L{l}.mlp_out"
        if not recomputed or name in sent_mlps:
            put.append((name, None, None, base[name]))
    return put + senders


def path_patch(net, clean, corrupt, answers, sender, via, receivers, recomputed):
    """Denoising: the corrupt run, clean values sent. Mean logit difference at the last position."""
    base = Run(net, corrupt, keep=EVERY).kept
    other = Run(net, clean, keep=EVERY).kept
    name, head, position = sender
    senders = [(name, None if head is None else columns_of(head),
                None if position is None else [position], other[name])]

    def arrive(senders, nodes):
        names = [n for n, _ in nodes]
        kept = Run(net, corrupt, keep=names, put=held(base, senders, recomputed)).kept
        return [(n, None if h is None else columns_of(h), None, kept[n]) for n, h in nodes]

    for hop in via:
        inputs = arrive(senders, hop)
        senders = []
        for (n, h), put in zip(hop, inputs):
            layer, part = n[:2], n[3:]
            if part == "mlp_in":
                out = f"{layer}.mlp_out"
                senders.append((out, None, None, Run(net, corrupt, keep=[out], put=[put]).kept[out]))
                continue
            z = Run(net, corrupt, keep=[f"{layer}.z"], put=[put]).kept[f"{layer}.z"]
            group = 1 if part == "q" else HEADS // net.kv_heads
            for query in range(h * group, (h + 1) * group):
                senders.append((f"{layer}.z", columns_of(query), None, z))
    if receivers == "logits":
        logits = Run(net, corrupt, put=held(base, senders, recomputed)).logits
    else:
        logits = Run(net, corrupt, put=arrive(senders, receivers)).logits
    last = logits[:, -1]
    rows = torch.arange(len(answers))
    return (last[rows, answers[:, 0]] - last[rows, answers[:, 1]]).mean().item()


HEAD_SENDERS = [[(f"L{l}.z", h, None) for h in range(HEADS)] for l in range(LAYERS)]
MLP_SENDERS = [[(f"L{l}.mlp_out", None, p) for p in range(6)] for l in range(LAYERS)]
EMBED_SENDERS = [("embed", None, p) for p in range(6)]

CASES = [
    # senders, receivers, via; each as plumb's command line says it
    ("z:layer,head", "logits", []),
    ("z:layer,head", "L2.q[h=1]", []),
    ("z:layer,head", "L2.k[h=1] L2.v[h=0]", []),
    ("z:layer,head", "L1.mlp_in L2.mlp_in", []),
    ("mlp_out:layer,position", "L2.v[h=1]", []),
    ("EMBED:position", "logits", ["L1.q[h=2]"]),
    ("EMBED:position", "L2.mlp_in", ["L0.v[h=0]", "L1.mlp_in L1.k[h=1]"]),
]


def nodes(text):
    found = []
    for word in text.split():
        name, _, rest = word.partition("[h=")
        found.append((name, int(rest[:-1]) if rest else None))
    return found


def main(path):
    generator = torch.Generator().manual_seed(5)
    clean = torch.randint(97, (3, 6), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 1] = (corrupt[:, 1] + 11) % 97
    corrupt[1, 3] = (corrupt[1, 3] + 7) % 97
    answers = torch.randint(97, (3, 2), generator=generator)
    result = {"about": "path patching by hooks on transformers, float64, denoising; see "
                       "make_path_goldens.py", "clean": clean.tolist(), "corrupt": corrupt.tolist(),
              "answers": answers.tolist(), "cases": []}
    with Lift():  # rotary tables and softmax, which transformers makes in float32
        nets = (("gpt2", Gpt2()), ("llama", Llama()))
        fill_cases(result, nets, clean, corrupt, answers)
    with open(path, "w") as file:
        json.dump(result, file, indent=0)
        file.write("\n")


def fill_cases(result, nets, clean, corrupt, answers):
    for kind, net in nets:
        for senders, receivers, via in CASES:
            # GPT-2's stream starts with token and position embeddings; positions do not differ.
            table = {"z": HEAD_SENDERS, "m": MLP_SENDERS, "E": EMBED_SENDERS}[senders[0]]
            to = receivers if receivers == "logits" else nodes(receivers)
            hops = [nodes(hop) for hop in via]
            for recomputed in (False, True):
                def value(sender):
                    if isinstance(sender, list):
                        return [value(each) for each in sender]
                    return path_patch(net, clean, corrupt, answers, sender, hops, to, recomputed)
                result["cases"].append({
                    "model": kind, "senders": senders.lower(), "receivers": receivers, "via": via,
                    "mlps": "recomputed" if recomputed else "frozen",
                    "values": [value(entry) for entry in table]})


if __name__ == "__main__":
    main(sys.argv[1])
