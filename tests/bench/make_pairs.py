"""Random pairs of ids for timing: make_pairs.py VOCAB COUNT LENGTH > pairs.jsonl"""

import json
import random
import sys


def main():
    vocab, count, length = map(int, sys.argv[1:4])
    draw = random.Random(1)
    for _ in range(count):
        clean = [draw.randrange(vocab) for _ in range(length)]
        corrupt = list(clean)
        for place in (length // 4, length // 2):
            corrupt[place] = draw.randrange(vocab)
        answers = draw.sample(range(vocab), 2)
        print(json.dumps(dict(clean=clean, corrupt=corrupt, answers=answers)))


if __name__ == "__main__":
    main()
