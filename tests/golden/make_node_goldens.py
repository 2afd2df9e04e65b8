"""Attribution patching by TransformerLens in float64: tests/golden/nodes.json.

AtP is TransformerLens' own recipe (gradients by hooks, times clean - corrupt activations); the QK fix and
GradDrop are written here from arXiv:2403.00745, equations 7 to 11, without plumb: patterns with the
softmax of every changed query or key, and one backward pass for each block, its writes detached. The two
models' weights are a formula (tests/support/hash_weights.h).

    python tests/golden/make_node_goldens.py tests/golden/nodes.json      # transformer-lens 3.x
"""
import json
import sys

import torch
from make_path_goldens import Gpt2, Llama
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights, convert_llama_weights

torch.set_default_dtype(torch.float64)
LAYERS, HEADS, WIDTH, HEAD = 3, 4, 64, 16


def hooked(kind):
    common = dict(n_layers=LAYERS, d_model=WIDTH, n_ctx=32, d_head=HEAD, n_heads=HEADS, d_vocab=97,
                  eps=1e-5, dtype=torch.float64, init_weights=False, device="cpu")
    if kind == "gpt2":
        net = Gpt2()
        config = HookedTransformerConfig(d_mlp=256, act_fn="gelu_new", normalization_type="LN",
                                         original_architecture="GPT2LMHeadModel", **common)
        state = convert_gpt2_weights(net.model, config)
    else:
        net = Llama()
        config = HookedTransformerConfig(
            d_mlp=128, act_fn="silu", normalization_type="RMS", n_key_value_heads=2,
            positional_embedding_type="rotary", rotary_dim=HEAD, rotary_base=10000,
            rotary_adjacent_pairs=False, gated_mlp=True, final_rms=True,
            original_architecture="LlamaForCausalLM", **common)
        state = convert_llama_weights(net.model, config)
    model = HookedTransformer(config)
    model.load_and_process_state_dict(
        {name: value.detach().clone() for name, value in state.items()}, fold_ln=False,
        center_writing_weights=False, center_unembed=False, fold_value_biases=False,
        refactor_factored_attn_matrices=False)
    for value in model.parameters():
        value.requires_grad_(False)
    if kind == "llama":  # TransformerLens' own tables are not of float64's precision
        turns = torch.arange(32)[:, None] / 10000 ** (torch.arange(0, HEAD, 2) / HEAD)
        for block in model.blocks:
            block.attn.rotary_sin = torch.cat([turns, turns], 1).sin()
            block.attn.rotary_cos = torch.cat([turns, turns], 1).cos()
    return model.eval()


def names(kind, layer):
    turned = "rot_" if kind == "llama" else ""
    block = f"blocks.{layer}."
    return {"resid_pre": block + "hook_resid_pre", "q": f"{block}attn.hook_{turned}q",
            "k": f"{block}attn.hook_{turned}k", "v": block + "attn.hook_v", "z": block + "attn.hook_z",
            "pattern": block + "attn.hook_pattern", "attn_out": block + "hook_attn_out",
            "mlp_post": block + "mlp.hook_post", "mlp_out": block + "hook_mlp_out"}


def run(model, kind, tokens, answers, dropped=None):
    """Activations, and gradients of the logit difference at the last position, summed over pairs."""
    kept = {}
    hooks = []
    for layer in range(LAYERS):
        for part, name in names(kind, layer).items():
            def keep(value, hook, key=(layer, part)):
                if not value.requires_grad:
                    value = value.detach().requires_grad_(True)
                kept[key] = value
                if dropped == key[0] and key[1] in ("attn_out", "mlp_out"):
                    return value.detach()
                return value
            hooks.append((name, keep))
    last = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
    rows = torch.arange(len(answers))
    metric = (last[rows, answers[:, 0]] - last[rows, answers[:, 1]]).sum()
    found = torch.autograd.grad(metric, list(kept.values()), allow_unused=True)
    grads = {key: torch.zeros_like(value) if grad is None else grad
             for (key, value), grad in zip(kept.items(), found)}
    return {key: value.detach() for key, value in kept.items()}, grads


def pattern(q, k):
    k = k.repeat_interleave(q.shape[2] // k.shape[2], 2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / HEAD**0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1)


def by_kv(values, heads):
    """[b, query heads, ...] summed over the heads that share a key head."""
    return values.unflatten(1, (heads, -1)).sum(2)


def estimates(base, other, grads, sign, fixed):
    """Each pair's estimate, by what plumb's sweeps are named: lists over layers of [b, ...]."""
    out = {}
    for layer in range(LAYERS):
        def change(part):
            return (other[layer, part] - base[layer, part]) * sign
        def linear(part, axes):
            return (grads[layer, part] * change(part)).sum(axes)
        found = {"z:layer,head": linear("z", (1, 3)), "v:layer,head": linear("v", (1, 3)),
                 "attn_out:layer,position": linear("attn_out", 2),
                 "mlp_out:layer,position": linear("mlp_out", 2),
                 "resid_pre:layer,position": linear("resid_pre", 2),
                 "mlp_post:layer": linear("mlp_post", (1, 2))}
        if not fixed:
            found["q:layer,head"] = linear("q", (1, 3))
            found["k:layer,head"] = linear("k", (1, 3))
            found["k:layer,position,head"] = linear("k", 3)
        else:
            q, k, kv = base[layer, "q"], base[layer, "k"], base[layer, "k"].shape[2]
            at_pattern = grads[layer, "pattern"]
            plain = pattern(q, k)
            assert (plain - base[layer, "pattern"]).abs().max() < 1e-12
            def moved(changed):
                return (at_pattern * (changed - plain) * sign).sum((2, 3))
            found["q:layer,head"] = moved(pattern(other[layer, "q"], k))
            found["k:layer,head"] = by_kv(moved(pattern(q, other[layer, "k"])), kv)
            each = []
            for t in range(k.shape[1]):
                own = k.clone()
                own[:, t] = other[layer, "k"][:, t]
                each.append(by_kv(moved(pattern(q, own)), kv))
            found["k:layer,position,head"] = torch.stack(each, 1)
        for name, value in found.items():
            out.setdefault(name, []).append(value)
    return {name: torch.stack(values, 1) for name, values in out.items()}


def main(path):
    generator = torch.Generator().manual_seed(7)
    clean = torch.randint(97, (3, 6), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 1] = (corrupt[:, 1] + 11) % 97
    corrupt[1, 3] = (corrupt[1, 3] + 7) % 97
    answers = torch.randint(97, (3, 2), generator=generator)
    result = {"about": "attribution patching with TransformerLens, float64; see make_node_goldens.py",
              "clean": clean.tolist(), "corrupt": corrupt.tolist(), "answers": answers.tolist(),
              "cases": []}
    for kind in ("gpt2", "llama"):
        model = hooked(kind)
        for direction, tokens, others, sign in (("noising", clean, corrupt, -1.0),
                                                ("denoising", corrupt, clean, 1.0)):
            other, _ = run(model, kind, others, answers)
            base, grads = run(model, kind, tokens, answers)

            def put(method, found):
                result["cases"].append({
                    "model": kind, "direction": direction, "method": method,
                    "scores": {name: value.mean(0).tolist() for name, value in found.items()}})
            put("atp", estimates(base, other, grads, sign, False))
            put("atp-qk", estimates(base, other, grads, sign, True))
            total = {}
            for dropped in range(LAYERS):
                own, grads = run(model, kind, tokens, answers, dropped)
                assert all((own[key] - base[key]).abs().max() < 1e-12 for key in base)
                for name, value in estimates(base, other, grads, sign, True).items():
                    # A block's own nodes are 0 without it; the stream goes past it.
                    share = LAYERS if name.startswith("resid_pre") else LAYERS - 1
                    total[name] = total.get(name, 0) + value.abs() / share
            put("atp*", total)
    with open(path, "w") as file:
        json.dump(result, file, indent=0)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
