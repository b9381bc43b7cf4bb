"""Choose each method's content weight on each pair from the table of pilots (PROTOCOL.md, line 5).

    python reproduce/tools/choose.py reproduce/tables/pilots.csv

Prints the dictionary SEARCHED of semst.bench.protocol, and what the rule still asks for: weights
that are still to try, and beyond an end of the range that is best the next one. The rule for
trainings that collapse is not applied: look at the pictures.
"""
import sys

from semst.bench.comparison import read_rows
from semst.bench.protocol import CONTENT_WEIGHTS, PAIRS, VARIANTS, title_of

LADDER = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def main(path: str):
    rows, chosen = read_rows(path), {}
    for pair in PAIRS:
        for method, variant in VARIANTS.items():
            found = {row["weight"]: row["downstream"] for row in rows
                     if row["pair"] == pair and row["method"] == method}
            if not found or method != variant.family:
                continue
            lacking = [f"{weight:g}" for weight in CONTENT_WEIGHTS if weight not in found]
            if lacking:
                print(f"# {pair}, {title_of(method)}: still to try {', '.join(lacking)}")
            if len(found) == 1:
                continue
            best = max(found, key=found.get)
            chosen.setdefault(pair, {})[method] = best
            tried = [LADDER.index(weight) for weight in found]
            ends = {min(tried): min(tried) - 1, max(tried): max(tried) + 1}
            beyond = ends.get(LADDER.index(best))
            if method != "gan" and beyond is not None and 0 <= beyond < len(LADDER):
                print(f"# {pair}, {title_of(method)}: {best:g} is an end; try {LADDER[beyond]:g}")
    for pair, weights in chosen.items():
        print(f'    "{pair}": dict({", ".join(f"{m}={w:g}" for m, w in weights.items())}),')


if __name__ == "__main__":
    main(sys.argv[1])
