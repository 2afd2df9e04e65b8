#!/usr/bin/env python3
"""Writes the seeds under tests/fuzz/corpus: the smallest files of each format that are read whole.

What the fuzzers found lies beside them and is not made here. Needs nothing but Python.
"""

import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def put(target, name, content):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content if isinstance(content, bytes) else json.dumps(content).encode())


# The model of tiny_model.cpp.
SHAPES = {
    "model.embed_tokens.weight": [4, 4],
    "model.norm.weight": [4],
    "model.layers.0.input_layernorm.weight": [4],
    "model.layers.0.post_attention_layernorm.weight": [4],
} | {
    f"model.layers.0.{part}.weight": [4, 4]
    for part in [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    ]
}


def safetensors(dtypes, prefix=""):
    """`dtypes` go round."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    pack = {"F64": "<d", "F32": "<f", "F16": "<e", "BF16": None}
    for i, (name, shape) in enumerate(SHAPES.items()):
        dtype = dtypes[i % len(dtypes)]
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        begin = len(data)
        for k in range(count):
            value = 0.125 * (k % 7 - 3)
            data += struct.pack("<f", value)[2:] if dtype == "BF16" else struct.pack(pack[dtype], value)
        header[name.removeprefix(prefix)] = {
            "dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
SCALAR = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}


def gguf(metadata, tensors):
    """`metadata`: key, type, value, or element type and list. `tensors`: name, dims, type, data."""
    body = b""
    for key, kind, *value in metadata:
        body += text(key) + struct.pack("<I", kind)
        if kind == STRING:
            body += text(value[0])
        elif kind == ARRAY:
            element, items = value
            body += struct.pack("<IQ", element, len(items))
            for item in items:
                body += text(item) if element == STRING else struct.pack(SCALAR[element], item)
        else:
            body += struct.pack(SCALAR[kind], value[0])
    data = b""
    for name, dims, kind, content in tensors:
        data += b"\0" * (-len(data) % 32)
        body += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        body += struct.pack("<IQ", kind, len(data))
        data += content
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + body
    return head + b"\0" * (-len(head) % 32) + data


def llama(width, mlp, kinds, extra):
    """One block, one head; matrices of the GGML types `kinds` in turn."""
    block = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2)}
    tensors = []

    def matrix(name, inputs, outputs):
        kind = kinds[len(tensors) % len(kinds)]
        elements, size = block[kind]
        content = b"\x15\x2c" * (inputs * outputs // elements * size // 2)
        tensors.append((name, [inputs, outputs], kind, content))

    def vector(name):
        tensors.append((name, [width], 0, struct.pack("<f", 0.5) * width))

    vector("output_norm.weight")
    vector("blk.0.attn_norm.weight")
    vector("blk.0.ffn_norm.weight")
    matrix("token_embd.weight", width, 4)
    for name in ["q", "k", "v", "output"]:
        matrix(f"blk.0.attn_{name}.weight", width, width)
    matrix("blk.0.ffn_gate.weight", width, mlp)
    matrix("blk.0.ffn_up.weight", width, mlp)
    matrix("blk.0.ffn_down.weight", mlp, width)
    return gguf([
        ("general.architecture", STRING, "llama"),
        ("llama.block_count", U32, 1),
        ("llama.embedding_length", U32, width),
        ("llama.feed_forward_length", U32, mlp),
        ("llama.attention.head_count", U32, 1),
        ("llama.context_length", U32, 8),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
    ] + extra, tensors)


def byte_alphabet():
    """GPT-2's letters for the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, fresh = {}, 0
    for byte in range(256):
        if byte in kept:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + fresh)
            fresh += 1
    return letters


def tokenizers():
    letters = byte_alphabet()
    few = [letters[b] for b in b"abcdeHlo W1'\xc3\xa9"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(few + ["ab", "abc", "\u0120W", "ll"]))}
    added = [{"id": 40, "content": "<s>", "special": True, "normalized": False, "lstrip": True},
             {"id": 41, "content": "zz", "special": False, "normalized": True, "single_word": True}]
    merges = ["a b", "ab c", "\u0120 W", ["l", "l"]]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    put("tokenizer_json", "byte_bpe", {
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": "a",
                  "fuse_unk": True, "ignore_merges": True},
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|'(?i:[sdmt])|\s+(?!\S)|\s+"},
             "behavior": "Isolated", "invert": False},
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "decoder": {"type": "ByteLevel"}, "added_tokens": added,
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                           "special_tokens": {"<s>": {"ids": [40]}}}})
    mark = "\u2581"
    words = ["<unk>", "<s>", "</s>", mark, "a", "b", "ab", mark + "a", mark + "ab", "H", "e", "l"]
    put("tokenizer_json", "character_bpe", {
        "model": {"type": "BPE", "vocab": {w: i for i, w in enumerate(words)},
                  "merges": ["a b", f"{mark} a", f"{mark}a b"], "unk_token": "<unk>"},
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": mark},
            {"type": "Replace", "pattern": {"String": " "}, "content": mark}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": mark}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "added_tokens": [{"id": 1, "content": "<s>", "special": True}]})
    put("tokenizer_json", "unigram", json.dumps({
        "model": {"type": "Unigram", "unk_id": 0,
                  "vocab": [[w, -float(i)] for i, w in enumerate(words)]},
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKD"}, {"type": "StripAccents"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": mark, "prepend_scheme": "first"},
        "decoder": {"type": "Metaspace", "replacement": mark}}).encode() + b"\0" + json.dumps({
            "bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": True,
            "added_tokens_decoder": {"30": {"content": "<pad>", "special": True}}}).encode())
    put("tokenizer_json", "splits", {
        "model": {"vocab": {w: i for i, w in enumerate(words)}, "merges": [], "unk_token": "<unk>"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Whitespace"},
            {"type": "Punctuation", "behavior": "Contiguous"},
            {"type": "CharDelimiterSplit", "delimiter": "b"},
            {"type": "Split", "pattern": {"String": "l"}, "behavior": "MergedWithNext"}]},
        "post_processor": {"type": "BertProcessing", "cls": ["<s>", 1], "sep": ["</s>", 2]}})


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def sentencepiece():
    mark = "\u2581"
    normal = [(token, -float(i)) for i, token in
              enumerate([mark, "a", "b", "ab", mark + "a", mark + "ab", "l", "ll", "\u00e9"])]

    def pieces(last):
        out = [(1, message((1, "<unk>"), (3, 2))), (1, message((1, "<s>"), (3, 3))),
               (1, message((1, "</s>"), (3, 3)))]
        out += [(1, message((1, token), (2, score))) for token, score in normal]
        return out + last

    user = [(1, message((1, "<sep>"), (2, 0.0), (3, 4)))]
    every_byte = [(1, message((1, f"<0x{b:02X}>"), (2, 0.0), (3, 6))) for b in range(256)]
    # Charsmap: one unit that leads nowhere, and a text.
    charsmap = struct.pack("<I", 4) + struct.pack("<I", 0x400) + b"x\0"
    put("tokenizer_model", "bpe", message(
        *pieces(user), (2, message((3, 2), (40, 0))),
        (3, message((2, charsmap), (3, 1), (4, 0), (5, 1)))))
    put("tokenizer_model", "unigram", message(
        *pieces(user), (2, message((3, 1))), (3, message((3, 0), (4, 1), (5, 0)))))
    put("tokenizer_model", "bytes", message(*pieces(every_byte), (2, message((3, 2), (35, 1)))))


def graph(layers=1, heads=1, kv_heads=1):
    return {"layers": layers, "heads": heads, "kv_heads": kv_heads, "parallel": False, "d_model": 8}


def circuits():
    put("circuit_json", "edges", {
        "plumb_circuit": 1, "title": "t", "convention": "c", "graph": graph(2, 2, 1),
        "edges": [["input->a0.h0<q>", 0.5], ["a0.h0->m1", -1.0], ["m1->logits", 2.0]],
        "others": [["input->m0", 1e-9]]})
    put("circuit_json", "components", {
        "title": "t", "convention": "c",
        "nodes": [{"name": "input@0", "kind": "input", "layer": -1, "score": 0.0},
                  {"name": "m0@0", "kind": "mlp", "layer": 0, "score": 0.5, "notes": {"a": "b"}},
                  {"name": "sink[1-3]", "kind": "sink", "layer": 1, "score": 0.25}],
        "edges": [{"from": "input@0", "to": "m0@0", "score": 0.1, "kind": "or"},
                  {"from": "m0@0", "to": "sink[1-3]", "score": -0.1, "kind": "",
                   "interval": [-0.2, -1e-3]}]})

    cfg = {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}
    nodes = {name: {"in_graph": True} for name in ("input", "a0.h0", "a0.h1", "m0", "logits")}
    edges = {"input->a0.h0<q>": {"score": 0.5, "in_graph": True},
             "input->a0.h1<k>": {"score": -0.25, "in_graph": False},
             "a0.h0->m0": {"score": 0.0, "in_graph": False},
             "a0.h0->logits": {"score": -2, "in_graph": True}}
    put("eap_ig", "peer", {"cfg": cfg, "nodes": nodes, "edges": edges})
    put("eap_ig", "parallel", {"cfg": cfg | {"parallel_attn_mlp": True}, "nodes": nodes,
                               "edges": {"input->m0": {"score": 1.5, "in_graph": True}}})

    for name, sizes in (("one_block", graph()), ("grouped", graph(2, 2, 1))):
        last = sizes["layers"] - 1
        put("neuronpedia", name, {
            "metadata": {"slug": "s", "scan": "m", "prompt": "p", "prompt_tokens": ["p"],
                         "info": {"description": "c"},
                         "generation_settings": {"title": "t", "convention": "c"} | sizes},
            "qParams": {"linkType": "both"},
            "nodes": [{"node_id": "a", "feature": None, "layer": "E", "ctx_idx": 0,
                       "feature_type": "embedding", "jsNodeId": "a-0", "clerp": "input"},
                      {"node_id": "b", "feature": None, "layer": str(last), "ctx_idx": 0,
                       "feature_type": "plumb mlp", "jsNodeId": "b-0", "clerp": f"m{last}"}],
            "links": [{"source": "a", "target": "b", "weight": 0.5,
                       "plumb_edge": f"input->m{last}"}]})

    put("edge_pruning", "list", [["tok_embeds", "a0.h0.q"], ["pos_embeds", "m0"],
                                 ["a0.h1", "a1.h0.v"], ["m1", "resid_post"]])
    put("edge_pruning", "empty", [])

    put("dot", "edges", b"""digraph circuit {
  graph [plumb_graph="2 2 1 0 8" label="t" plumb_title="t" plumb_convention="c"];
  node [shape=box];
  "input" [label="input" plumb_kind="input" plumb_layer=-1 plumb_score="0.5"];
  "m1" [plumb_kind="mlp" plumb_layer=1 plumb_score="0"];
  "plumb column 0" [label="layer 0"];
  { rank=same; "plumb column 0"; "m1"; }
  "input" -> "a1.h0" [color="#444444FF" plumb_kind="k" plumb_score="0.5"];
  "input" -> "a1.h1" [plumb_kind="k" plumb_score="0.5"];
  "input" -> "m1" [plumb_kind="" plumb_score="-1e-300"];
}
""")
    put("dot", "components", b"""digraph circuit {
  graph [plumb_title="a \\"t\\"" plumb_convention="c"];
  "input@0" [plumb_kind="input" plumb_layer=-1 plumb_score="0"];
  "sink[1-3]" [plumb_kind="sink" plumb_layer=1 plumb_score="0.25" "plumb_note_a"="b"];
  "input@0" -> "sink[1-3]" [plumb_kind="or" plumb_score="0.1" plumb_low="-1e-3" plumb_high="0.2"];
}
""")

    keys = "".join(f'<key id="{k}" for="{of}" attr.name="{k}" attr.type="string"/>'
                   for k, of in (("layers", "graph"), ("heads", "graph"), ("kv_heads", "graph"),
                                 ("parallel", "graph"), ("d_model", "graph"), ("title", "graph"),
                                 ("convention", "graph"), ("receiver", "edge"), ("qkv", "edge"),
                                 ("score", "edge"), ("in_graph", "edge")))
    data = lambda **words: "".join(f'<data key="{k}">{v}</data>' for k, v in words.items())
    for name, sizes in (("one_block", graph()), ("grouped", graph(2, 2, 1))):
        edges = ('<edge id="e0" source="input" target="a0.h0">'
                 + data(receiver="a0.h0&lt;q&gt;", qkv="q", score=0.5, in_graph="true") + "</edge>"
                 + '<edge id="e1" source="m0" target="logits">'
                 + data(receiver="logits", score=-1e-3, in_graph="False") + "</edge>")
        put("graphml", name, (
            '<?xml version="1.0" encoding="UTF-8"?><!-- c -->'
            f'<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{keys}'
            f'<graph edgedefault="directed">{data(title="t", convention="&#99;", **sizes)}'
            f'<node id="input"/><node id="a0.h0"></node>{edges}</graph></graphml>').encode())


def experiments():
    lines = [{"clean": [1, 2, 3], "corrupt": [1, 5, 3], "answers": [4, 6]},
             {"clean": [1, 2], "corrupt": [7, 1, 2], "answers": [[4, 8], 6],
              "align": [[0, 1], [1, 2]]}]
    put("pairs_jsonl", "pairs", "\n".join(map(json.dumps, lines)).encode())
    put("pairs_jsonl", "texts", b'{"clean": "ab a", "corrupt": "bb a", "answers": ["a", ["b", 7]]}')
    put("pairs_jsonl", "prompts", b'{"clean": [1, 2, 3]}\n\n{"clean": [4]}\n')
    header = b"clean,corrupted,correct_idx,incorrect_idx\n"
    put("pairs_csv", "texts", header + b'"a, ""b""\nab",a b,3,4\n')
    put("pairs_csv", "order", b"x,incorrect_idx,correct_idx,corrupted,clean\r\n1,2,3,a,b\r\n")
    for name, text in {
            "site": "L3.pattern[h=1,4;t=0;k=0-2]", "name": "blocks.3.attn.hook_z",
            "sites": "L0-2.z[h=*;t=0], L*.attn_out resid_final", "sweep": "z:layer,head,position",
            "edits": "L0-2.z[h=1;t=0]=zero L3.mlp_out=scale:0.5 L1.z=add:FILE",
            "metric": "attention:L3.pattern[h=2;t=7;k=0,1]", "loss": "loss@3,4",
            "sink": "sink:3.2", "projection": "projection:L3.resid_post[t=0]:FILE",
            "replacement": "clamp-norm:1e3"}.items():
        put("expressions", name, text.encode())


def main():
    tiny = {"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 4,
            "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
    put("config", "llama", tiny)
    put("config", "llama_yarn", tiny | {"rope_scaling": {
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4}})
    put("config", "mixtral", tiny | {"model_type": "mixtral", "num_local_experts": 2,
                                     "num_experts_per_tok": 1, "tie_word_embeddings": False})
    put("config", "gpt2", {"model_type": "gpt2", "n_embd": 4, "n_layer": 1, "n_head": 1,
                           "n_positions": 8, "vocab_size": 4})

    names = list(SHAPES)
    order = [n for n in names if not n.startswith("model.layers")] + names[2:]
    index = {name: "a.safetensors" for name in order[: len(order) // 2]}
    index |= {name: "b.safetensors" for name in order[len(order) // 2:]}
    put("index", "two_shards", {"metadata": {"total_size": 100}, "weight_map": index})
    put("index", "no_map", {"weight_map": {}})

    put("safetensors", "f32", safetensors(["F32"]))
    put("safetensors", "mixed", safetensors(["F64", "F32", "F16", "BF16"]))
    put("safetensors", "bare", safetensors(["F16"], "model."))

    gpt2 = [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "gpt-2"),
            ("tokenizer.ggml.tokens", ARRAY, STRING, ["a", "b", "ab", "<s>"]),
            ("tokenizer.ggml.token_type", ARRAY, I32, [1, 1, 1, 3]),
            ("tokenizer.ggml.merges", ARRAY, STRING, ["a b"]),
            ("tokenizer.ggml.bos_token_id", U32, 3), ("tokenizer.ggml.add_bos_token", BOOL, True)]
    spm = [("tokenizer.ggml.model", STRING, "llama"),
           ("tokenizer.ggml.tokens", ARRAY, STRING, ["<unk>", "<s>", "\u2581", "a"]),
           ("tokenizer.ggml.token_type", ARRAY, I32, [2, 3, 1, 1]),
           ("tokenizer.ggml.scores", ARRAY, F32, [0.0, 0.0, -1.0, -2.0])]
    put("gguf", "f32_gpt2", llama(4, 4, [0], gpt2))
    put("gguf", "mixed_llama", llama(32, 32, [2, 8, 1, 30], spm + [
        ("llama.rope.scaling.type", STRING, "linear"), ("llama.rope.scaling.factor", F32, 2.0)]))
    put("gguf", "no_tensors", gguf(gpt2, []))
    tokenizers()
    sentencepiece()
    circuits()
    experiments()


main()
