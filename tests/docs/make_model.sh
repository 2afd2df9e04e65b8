#!/usr/bin/env bash
# make_model.sh PROGRAM DIR: a model for the documentation's commands, in a second and without a network.
#
# A planted one (6 blocks, its sink at position 0 written by blocks 0 and 1), whose tokenizer knows, beside
# single bytes, the names in data/inputs/ioi.jsonl as one token each. Its other predictions mean nothing.
set -euo pipefail
program=$1 dir=$2
"$program" plant --seed 1 --out "$dir"

# Byte-level BPE. Bytes keep the ids that the planted model gave them; tokens of names have those of bytes from
# 128 on, which no ASCII text has. Every merge adds a letter to the beginning of a name, so that none meets another.
awk '
  function byte(c) { return c <= 32 ? sprintf("\\u%04x", 256 + c) : c == 34 || c == 92 ? "\\" sprintf("%c", c) : sprintf("%c", c) }
  BEGIN {
    for (c = 0; c < 127; ++c) vocab = vocab sprintf("%s\"%s\": %d", c ? ", " : "", byte(c), c)
    id = 128
    names = split("Alice Anna David Emma Henry Jack Jane John Laura Lucy Mark Mary Paul Peter Sarah Tom", name, " ")
    for (n = 1; n <= names; ++n) {
      before = byte(32)
      for (at = 1; at <= length(name[n]); ++at) {
        letter = substr(name[n], at, 1)
        whole = before letter
        if (!(whole in known)) {
          known[whole] = 1
          vocab = vocab sprintf(", \"%s\": %d", whole, id++)
          merges = merges sprintf("%s\"%s %s\"", merges == "" ? "" : ", ", before, letter)
        }
        before = whole
      }
    }
    step = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}"
    printf "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [], \"normalizer\": null,\n"
    printf " \"pre_tokenizer\": %s,\n \"post_processor\": %s,\n \"decoder\": %s,\n", step, step, step
    printf " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null,\n"
    printf "  \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,\n"
    printf "  \"vocab\": {%s},\n  \"merges\": [%s]}}\n", vocab, merges
  }' >"$dir/tokenizer.json"
rm -f "$dir/tokenizer_config.json"
