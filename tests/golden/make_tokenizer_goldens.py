#!/usr/bin/env python3
"""Makes tests/data/tokenizers: tiny tokenizer.json files and what the reference makes of texts.

Needs PyPI's `tokenizers` (made with 0.23.3). Run make_sentencepiece_goldens.py first, whose charsmap
is used here. Run from anywhere:

    python3 make_tokenizer_goldens.py [SHARED_TOKENIZERS]

Each tiny tokenizer has a pre-tokenizer, model or option of its own. `golden.json` holds the texts, and
for every tokenizer the ids of every text, where each token lies (first byte and length, of whole
characters, as the reference knows no part of one; offsets are not trimmed) and, where it is not the
text, what the ids decode to. "pre/NAME" are the ids with the splitting patterns that a GGUF file calls
NAME, over the vocabulary of "gpt2". With SHARED_TOKENIZERS (a directory with `gpt2` and `gpt-neox`)
the ids of those two are made as well; their files are not copied.
"""

import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "data" / "tokenizers"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

TEXTS = [
    "",
    "a",
    " ",
    "Hello, world!",
    " leading and trailing ",
    "I'm sure they've said it's fine, but we'd rather you didn't. DON'T! We'LL see; I'D go 'tis",
    "In 2024, 3.14159 * 1000000 = 3141590; call 555-0199 or +49 (0)30 1234567.",
    "\u0663\u0661\u0664 \u00bd \u2167 x\u00b2 \u2460 \u0967\u0968\u0969\u096a 12\u066334",
    "def f(x):\n    return x**2 + 1  # square\n\nprint(f(3))\n",
    "for (int i = 0; i < n; ++i) { a[i] ^= (b[i] << 3) & 0xFF; }\t// ok\r\n\r\n",
    "a  b   c    d\t\te\n\n\nf  \n  g",
    "   \n\n  \t \n",
    "\n", "\r\n\r\n", "x\n\n\n", "end with spaces   ", "  two", "a \n b\n \n c",
    "nbsp\u00a0\u00a0here\u2003em\u3000ideographic\u2028line\u2029para\u0085next\u1680ogham \u180e mongolian",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd\u3002\uc11c\uc6b8",
    "\u1112\u1161\u11ab\u1100\u1173\u11af \u30ab\u3099\u30ad\u3099 \ufb01sh \u212b \u2126",
    "Great job \U0001f44d\U0001f3fd see you at 5pm \U0001f389 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea",
    "na\u00efve caf\u00e9 \u2014 nai\u0308ve cafe\u0301 Z\u0351\u036b\u0343\u036aA\u0310\u0317L\u0347G\u0301O\u0322",
    "q\u0307\u0323 q\u0323\u0307 \u1e69 s\u0323\u0307 \u0344 \u0958 \u0f73",
    "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439 \u043c\u0438\u0440! \u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0928\u092e\u0938\u094d\u0924\u0947",
    "nul\x00 bell\x07 esc\x1b[31m del\x7f c1\x80\x9f vt\x0b ff\x0c fs\x1c\x1d\x1e\x1f",
    "\ufeffbom \u200b zwsp \u202e rtl \ufffd replacement \U0010ffff last \ue000 private",
    "don\u2019t \u2018quoted\u2019 \u201cdouble\u201d \u2026 \u2013 \u2014 \u20ac5 \u00a35 $5 5%",
    "ha\u017f 'S 'T 'RE 'Ve \u2160's K'\u017f \u212a'M",
    "http://example.org/a?b=c&d=%20#frag user@host.example C:\\path\\file.txt",
    "<|endoftext|><|im_start|>user\nhi<|im_end|><|im_start|",
    "x<|endoftext|>y <|endoftext|> z", "[NOTE] [NOTES] [NOT] [NOTE",
    "  caf\u00e9-tok cafe\u0301-tok    eight        spaces",
    "!!!???...,,,;;;:::---___===+++***///\\\\\\|||~~~```^^^",
    "Donaudampfschifffahrtselektrizit\u00e4tenhauptbetriebswerkbauunterbeamtengesellschaft",
    "mamamama banana aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the " * 20 + "the",
    "antidisestablishmentarianism" * 8 + "1234567890" * 8 + "!?" * 40,
    " " * 130 + "x" + "\n" * 70 + "\t" * 33,
    "<s>Hello</s> <s> <unk> <0x41> <0x0A>\u2581mark \u2581\u2581two",
    "see MASK, MASKS, a MASK\u00a0 b  LEFT  c RIGHT  d LEFT RIGHT  e xMASK MASK_ (MASK)",
    "``quoted'' \ufb01sh \uff21\uff22\uff23 caf\u00e9 cafe\u0301 \u2460 \u0e33 \u1100\u1161\u11a8 x\u0301\u0302",
    "\u0995\u09c7\u09be \U000110b9\U000110ba \u0f73\u0f71\u0301 a\u0f73\u0301 \uac00\u11a8 \u0344",
    "a-b--c, d,e,,f 12345 1234 \u00b2\u00b3 1\u00b2 <=> $5 ^~|` a_b",
    "q" * 3000 + "ab" * 700,
]

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def corpus():
    texts = (ROOT.parent / "data" / "inputs" / "texts.txt").read_text(encoding="utf-8")
    return texts.splitlines() * 2 + TEXTS * 3


def train(pre_tokenizer, normalizer=None, vocab=420, alphabet=None, model=None, extra=()):
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    if alphabet is None:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=sorted(alphabet),
                                  special_tokens=SPECIALS + list(extra), show_progress=False,
                                  limit_alphabet=len(alphabet))
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_level(prefix=False, regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                                    byte_level(regex=False)])


def tiny_tokenizers():
    out = {}
    out["gpt2"] = train(byte_level())
    out["prefix_space"] = train(byte_level(prefix=True))
    out["smollm"] = train(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level()]))
    out["digit_runs"] = train(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(False), byte_level(prefix=True)]))

    llama3 = train(split(LLAMA3))
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|im_start|> $A", pair="<|im_start|> $A $B",
                                      special_tokens=[("<|im_start|>", 1)])])
    out["llama3"] = llama3

    qwen2 = train(split(QWEN2), normalizers.NFC())
    qwen2.add_tokens([AddedToken("[NOTE]", normalized=False), AddedToken("[NOTES]", normalized=False),
                      AddedToken("caf\u00e9-tok", normalized=True),
                      AddedToken("    ", normalized=True), AddedToken("  ", normalized=True)])
    out["qwen2"] = qwen2

    few = [c for c in pre_tokenizers.ByteLevel.alphabet() if ord(c) < 127] + ["\u0120", "\u010a"]
    out["unknown"] = train(byte_level(), alphabet=few, vocab=300, extra=["<unk>"],
                           model=models.BPE(unk_token="<unk>", fuse_unk=True))
    out["unknown_each"] = train(byte_level(), alphabet=few, vocab=300, extra=["<unk>"],
                                model=models.BPE(unk_token="<unk>", fuse_unk=False))
    literal = pre_tokenizers.Sequence([pre_tokenizers.Split("a.", behavior="isolated"),
                                       pre_tokenizers.Split(Regex(r"\s+$|^[A-Z]+"), "isolated"),
                                       byte_level()])
    out["literal"] = train(literal)
    return out


METASPACE = "\u2581"
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def character_bpe(prepend):
    """Vocabulary and merges as SentencePiece's converters make them: special tokens, bytes, pieces."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", METASPACE)
    trained.pre_tokenizer = pre_tokenizers.Metaspace(METASPACE, prepend_scheme=prepend)
    trained.train_from_iterator(corpus()[:64], trainers.BpeTrainer(vocab_size=300, show_progress=False,
                                                                   limit_alphabet=60))
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + BYTES + list(model["vocab"])
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
            "ignore_merges": False, "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": model["merges"]}


def added(content, id, special=True, normalized=False, **rules):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": normalized, "special": special, **rules}


def template(bos=None, eos=None):
    parts = ([{"SpecialToken": {"id": bos[0], "type_id": 0}}] if bos else []) + [
        {"Sequence": {"id": "A", "type_id": 0}}] + (
        [{"SpecialToken": {"id": eos[0], "type_id": 0}}] if eos else [])
    return {"type": "TemplateProcessing", "single": parts, "pair": parts + [
        {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {
            name: {"id": name, "ids": [id], "tokens": [name]} for name, id in
            [token for token in (bos, eos) if token]}}


def sentencepiece_decoder(*last):
    return {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": METASPACE}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"}, *last]}


def document(model, **parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": model, **parts}


def unigram(normalizer, pre_tokenizer, byte_fallback=False):
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizer
    trained.train_from_iterator(corpus()[:64], trainers.UnigramTrainer(
        vocab_size=220, show_progress=False, unk_token="<unk>", special_tokens=["<unk>", "</s>"]))
    model = json.loads(trained.to_str())["model"]
    if byte_fallback:
        model["vocab"] += [[token, 0.0] for token in BYTES]
    # Scores that tie on purpose.
    model["vocab"] += [["zz", -5.0], ["zzz", -7.5], ["z", -2.5]]
    model["vocab"] = list({token: [token, score] for token, score in model["vocab"]}.values())
    return {**model, "type": "Unigram", "unk_id": 0, "byte_fallback": byte_fallback}


def character_tokenizers():
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": METASPACE}
    metaspace = {"type": "Metaspace", "replacement": METASPACE, "prepend_scheme": "first",
                 "split": False}
    specials = [added("<unk>", 0), added("<s>", 1), added("</s>", 2)]
    model = character_bpe("always")
    out = {}
    out["llama2"] = document(
        model, added_tokens=specials + [added("MASK", len(model["vocab"]), False, True, single_word=True)],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": METASPACE}, replace]},
        post_processor=template(("<s>", 1)), decoder=sentencepiece_decoder(strip))
    out["mistral"] = document(
        model, added_tokens=specials, pre_tokenizer=metaspace, decoder=sentencepiece_decoder(strip),
        post_processor=template(("<s>", 1)))
    gemma = character_bpe("never")
    last = len(gemma["vocab"])
    out["gemma"] = document(
        {**gemma, "ignore_merges": True},
        added_tokens=specials + [added("\n\n", last, False), added(2 * METASPACE, last + 1, False),
                                 added("    ", last + 2, False)],
        normalizer=replace, decoder=sentencepiece_decoder(), post_processor=template(("<s>", 1)),
        pre_tokenizer={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                       "invert": False})

    charsmap = (OUT / "charsmap.txt").read_text(encoding="ascii").strip()
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": METASPACE}
    always = {"type": "Metaspace", "replacement": METASPACE, "prepend_scheme": "always",
              "split": True}
    t5 = unigram(normalizers.NFKC(), pre_tokenizers.Metaspace())
    out["t5"] = document(
        t5, added_tokens=[added("<unk>", 0), added("</s>", 1),
                          added("MASK", len(t5["vocab"]), True, False, lstrip=True)],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": charsmap},
            {"type": "Strip", "strip_left": False, "strip_right": True}, spaces]},
        pre_tokenizer=always, decoder=always, post_processor=template(None, ("</s>", 1)))
    out["unigram_bytes"] = document(
        unigram(normalizers.Replace(" ", METASPACE), pre_tokenizers.Metaspace(prepend_scheme="never"),
                True),
        added_tokens=[added("<unk>", 0), added("</s>", 1)],
        normalizer=replace, decoder=sentencepiece_decoder())
    out["xlnet"] = document(
        unigram(normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
                pre_tokenizers.Metaspace()),
        added_tokens=[added("<unk>", 0), added("</s>", 1)],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
            {"type": "Replace", "pattern": {"String": "''"}, "content": '"'},
            {"type": "NFKD"}, {"type": "StripAccents"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, always]},
        decoder=always)

    words = train(pre_tokenizers.Whitespace(), alphabet=list("abcdefghijklmnopqrstuvwxyz.,0123456789"),
                  vocab=200, extra=["<unk>"], model=models.BPE(unk_token="<unk>"))
    words = json.loads(words.to_str())
    out["words"] = {**words, "decoder": None}

    bytes_ = json.loads(train(byte_level(), normalizers.NFC()).to_str())
    size = len(bytes_["model"]["vocab"])
    out["neox"] = {**bytes_, "added_tokens": bytes_["added_tokens"] + [
        added("MASK", size, False, True, single_word=True),
        added("LEFT", size + 1, False, True, lstrip=True),
        added("RIGHT", size + 2, False, False, rstrip=True),
        added("        ", size + 3, False, True), added("  ", size + 4, False, True)]}
    split = [{"type": "Split", "pattern": {"String": ","}, "behavior": "MergedWithPrevious",
              "invert": False},
             {"type": "Split", "pattern": {"Regex": "-+"}, "behavior": "MergedWithNext",
              "invert": False},
             {"type": "Split", "pattern": {"Regex": "[a-e]"}, "behavior": "Contiguous",
              "invert": True}]
    falcon = [{"type": "Punctuation", "behavior": "Contiguous"},
              {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
               "use_regex": True},
              {"type": "Digits", "individual_digits": False},
              {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated",
               "invert": False}]
    for name, steps in (("splits", split + [falcon[1]]), ("falcon", falcon)):
        out[name] = {**bytes_, "normalizer": None,
                     "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    return out


GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# As the tokenizer.json of one model of each name has them.
GGUF_PATTERNS = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3],
    "dbrx": [LLAMA3],
    "qwen2": [QWEN2],
    "qwen35": [QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]+",
                                                                   r"[^\s\p{L}\p{M}\p{N}]+")],
    "smollm": [r"\p{N}", GPT2],
    "command-r": [r"\p{N}", GPT2],
    "gpt-4o": [GPT4O],
    "tekken": [GPT4O.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")],
    "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
                    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
                    r"\s*[\r\n]+|\s+(?!\S)|\s+"],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}
GGUF_NFC = ("qwen2", "qwen35", "command-r")
IGNORE_MERGES = ("llama-bpe", "tekken")


def gguf_pretokenizers(gpt2):
    for name, patterns in GGUF_PATTERNS.items():
        model = json.loads(json.dumps(gpt2))
        model["model"]["type"] = "BPE"
        model["model"]["ignore_merges"] = name in IGNORE_MERGES
        model["normalizer"] = {"type": "NFC"} if name in GGUF_NFC else None
        model["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in patterns] + [{"type": "ByteLevel", "add_prefix_space": False,
                                         "trim_offsets": False, "use_regex": False}]}
        yield name, Tokenizer.from_str(json.dumps(model))


def byte_spans(text, offsets):
    """Offsets in characters as first bytes and lengths, in one flat list."""
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode()))
    return [n for begin, end in offsets for n in (at[begin], at[end] - at[begin])]


def with_changes(name, document):
    """What the training interface cannot express."""
    if name == "llama3":
        document["model"]["ignore_merges"] = True
        vocab = document["model"]["vocab"]
        for word in ("Hello", "\u0120square", "eight"):  # tokens that no merge reaches
            if word not in vocab:
                vocab[word] = max(max(vocab.values()), 2) + 1
    if name in ("gpt2", "smollm"):  # the older spelling of merges
        document["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m
                                       for m in document["model"]["merges"]]
    if name == "gpt2":  # as in GPT-2's own file
        del document["model"]["type"]
    return document


def write_rows(file, name, rows):
    lines = [f"{json.dumps(key)}:[\n" + ",\n".join(json.dumps(row, separators=(",", ":"))
                                                  for row in all_rows) + "]"
             for key, all_rows in rows.items()]
    file.write(f'"{name}":{{\n' + ",\n".join(lines) + "}")


def main():
    golden = {"ids": {}, "spans": {}, "decoded": {}}

    def record(name, reader, spans=True):
        encodings = [reader.encode(text, add_special_tokens=False) for text in TEXTS]
        golden["ids"][name] = [encoding.ids for encoding in encodings]
        if spans:
            golden["spans"][name] = [byte_spans(text, encoding.offsets)
                                     for text, encoding in zip(TEXTS, encodings)]
            decoded = [reader.decode(encoding.ids, skip_special_tokens=False)
                       for encoding in encodings]
            golden["decoded"][name] = [None if back == text else back
                                       for text, back in zip(TEXTS, decoded)]

    documents = {name: with_changes(name, json.loads(tokenizer.to_str()))
                 for name, tokenizer in tiny_tokenizers().items()}
    documents.update(character_tokenizers())
    for name, content in documents.items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
        reread = text if name != "gpt2" else text.replace('"model":{', '"model":{"type":"BPE",')
        record(name, Tokenizer.from_str(reread))
    for name, reader in gguf_pretokenizers(documents["gpt2"]):
        record("pre/" + name, reader, spans=False)
    if len(sys.argv) > 1:
        for name in ("gpt2", "gpt-neox"):
            path = Path(sys.argv[1]) / name / "tokenizer.json"
            record("shared/" + name, Tokenizer.from_file(str(path)))
    with (OUT / "golden.json").open("w", encoding="ascii") as file:
        file.write(f'{{"made_with":"tokenizers {tokenizers.__version__}",\n')
        file.write('"texts":[\n' + ",\n".join(json.dumps(text) for text in TEXTS) + "],\n")
        for i, (name, rows) in enumerate(golden.items()):
            file.write(",\n" if i else "")
            write_rows(file, name, rows)
        file.write("}\n")


if __name__ == "__main__":
    main()
