#!/usr/bin/env python3
"""Makes the SentencePiece side of tests/data/tokenizers: tiny models, and what the reference gives.

Needs PyPI's `sentencepiece` (made with 0.2.3) and `gguf` (0.19.0). Run from anywhere:

    python3 make_sentencepiece_goldens.py [SHARED_MODELS]

Trains small models on the bundled texts, writes each as NAME/tokenizer.model, some as GGUF files with
the same pieces (NAME.gguf), and the ids and places of their tokens in the texts of
make_tokenizer_goldens.py to sentencepiece.json. charsmap.txt holds one model's table of replacements in
base 64. With SHARED_MODELS (a directory with stories260K/tok512.model) that model's ids are made as
well; its file is not copied.
"""

import base64
import io
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

from make_tokenizer_goldens import OUT, ROOT, TEXTS, byte_spans

# Source and target code points, as in SentencePiece's own tables: full-width letters, ligatures, a
# rule that begins another, composition, an ideographic space, a control character that goes away.
RULES = """\
FF21\t41
FF22\t42
FF23\t43
FB01\t66 69
FB02\t66 6C
65 301\tE9
65 301 302\t65
A0\t20
3000\t20
200B\t
2460\t31
AC00 11A8\tAC01
"""


def texts():
    lines = (ROOT.parent / "data" / "inputs" / "texts.txt").read_text(encoding="utf-8").splitlines()
    return lines + ["caf\u00e9 na\u00efve 12345 <sep> zz  zz"] * 20


def train(**options):
    out = io.BytesIO()
    rules = OUT / "rules.tsv"
    rules.write_text(RULES, encoding="ascii")
    if options.pop("rules", False):
        options["normalization_rule_tsv"] = str(rules)
    else:
        options["normalization_rule_name"] = "identity"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()), model_writer=out, minloglevel=2, num_threads=1,
        hard_vocab_limit=False, **options)
    rules.unlink()
    return out.getvalue()


MODELS = {
    "sp_bpe": dict(model_type="bpe", vocab_size=520, byte_fallback=True,
                   remove_extra_whitespaces=False),
    "sp_bpe_bare": dict(model_type="bpe", vocab_size=500, byte_fallback=True, add_dummy_prefix=False,
                        remove_extra_whitespaces=False, user_defined_symbols=["<sep>", "\u2581\u2581"]),
    "sp_bpe_rules": dict(model_type="bpe", vocab_size=240, rules=True),
    "sp_unigram": dict(model_type="unigram", vocab_size=250, rules=True,
                       user_defined_symbols=["<sep>", "zz"]),
    "sp_unigram_bytes": dict(model_type="unigram", vocab_size=500, byte_fallback=True,
                             remove_extra_whitespaces=False, split_digits=True),
}
GGUF = {"sp_bpe": True, "sp_bpe_bare": False}  # with the space in front?


def write_gguf(name, processor, space_prefix):
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")
    size = processor.get_piece_size()
    kinds = [(processor.is_unknown, 2), (processor.is_control, 3), (processor.is_unused, 5),
             (processor.is_byte, 6)]
    types = [next((kind for is_kind, kind in kinds if is_kind(i)), 1) for i in range(size)]
    for piece in MODELS[name].get("user_defined_symbols", []):
        types[processor.piece_to_id(piece)] = 4
    # The converters write user-defined spaces as such.
    pieces = [processor.id_to_piece(i).replace("\u2581", " ") if types[i] == 4
              else processor.id_to_piece(i) for i in range(size)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([float(np.float32(processor.get_score(i))) for i in range(size)])
    writer.add_token_types(types)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_add_space_prefix(space_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def charsmap_of(model):
    """The one field of that kind: normalizer_spec (3) . precompiled_charsmap (2)."""
    def fields(message):
        at = 0
        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = message[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value
        while at < len(message):
            key = varint()
            size = {0: 0, 5: 4, 1: 8}.get(key & 7)
            if size is None:
                size = varint()
            elif key & 7 == 0:
                varint()
            yield key >> 3, message[at:at + size]
            at += size
    normalizer = next(content for number, content in fields(model) if number == 3)
    return next(content for number, content in fields(normalizer) if number == 2)


def main():
    golden = {"made_with": f"sentencepiece {sentencepiece.__version__}", "ids": {}, "spans": {},
              "decoded": {}}

    def record(name, processor):
        golden["ids"][name] = [processor.encode(text) for text in TEXTS]
        golden["spans"][name] = [
            byte_spans(text, processor.encode_as_offset_mapping(text)["offsets"]) for text in TEXTS]
        golden["decoded"][name] = [processor.decode(ids) for ids in golden["ids"][name]]

    for name, options in MODELS.items():
        model = train(**options)
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.model").write_bytes(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        record(name, processor)
        if name in GGUF:
            write_gguf(name, processor, GGUF[name])
        if name == "sp_bpe_rules":
            text = base64.b64encode(charsmap_of(model)).decode()
            (OUT / "charsmap.txt").write_text(text + "\n", encoding="ascii")
    if len(sys.argv) > 1:
        path = Path(sys.argv[1]) / "stories260K" / "tok512.model"
        record("shared/stories260K", sentencepiece.SentencePieceProcessor(model_file=str(path)))
    with (OUT / "sentencepiece.json").open("w", encoding="ascii") as file:
        file.write("{" + ",\n".join(
            f"{json.dumps(key)}:" + (json.dumps(value) if isinstance(value, str) else "{\n" + ",\n".join(
                f"{json.dumps(name)}:[\n" + ",\n".join(json.dumps(row, separators=(",", ":"))
                                                      for row in rows) + "]"
                for name, rows in value.items()) + "}") for key, value in golden.items()) + "}\n")


if __name__ == "__main__":
    main()
