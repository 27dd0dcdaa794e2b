"""Draws what table.sh measured, and prints it as Markdown.

    python recipes/capfilt/plot.py METRICS… > docs/capfilt.svg

METRICS are the `metrics` folders of runs with different seeds. Standard library only. The drawing goes to standard
output, the table to standard error. A bar is the mean of the seeds; a thin line is the 95 % interval of one seed.
"""

import json
import pathlib
import sys

ROWS = [
    ("none", "neither"),
    ("captioner-only", "captioner"),
    ("filter-only", "filter"),
    ("both", "both, nucleus"),
    ("both-beam", "both, beam"),
]


def cider(report):
    measured = report["caption"]["cider"]
    return measured["value"], measured["interval"]["low"], measured["interval"]["high"]


def recall(kind):
    def of(report):
        found = report["retrieval"][kind]["toImage"]
        interval = found["recallIntervals"][0]
        return found["recall"][0], interval["low"], interval["high"]

    return of


def negatives(report):
    pairs = report["negatives"]["pairs"]
    return 100 * pairs["share"], 100 * pairs["interval"]["low"], 100 * pairs["interval"]["high"]


PANELS = [
    ("CIDEr of captions", cider, 2),
    ("picture of a text first of 100, %", recall("reranked"), 1),
]
COLUMNS = PANELS + [
    ("the same by contrast alone, %", recall("byContrast"), 1),
    ("hard negatives, %", negatives, 1),
]
WIDTH, BAR, GAP, LEFT, TOP = 640, 18, 10, 110, 34


def table(seeds):
    print("| training texts | " + " | ".join(title for title, _, _ in COLUMNS) + " |", file=sys.stderr)
    print("|---" * (len(COLUMNS) + 1) + "|", file=sys.stderr)
    for row, label in ROWS:
        cells = []
        for _, of, digits in COLUMNS:
            each = ["%.*f (%.*f to %.*f)" % sum(((digits, x) for x in of(seed[row])), ()) for seed in seeds]
            cells.append("; ".join(each))
        print(f"| {label} | " + " | ".join(cells) + " |", file=sys.stderr)


def panel(title, of, digits, seeds, top):
    values = {row: [of(seed[row]) for seed in seeds] for row, _ in ROWS}
    most = max(high for each in values.values() for _, _, high in each)
    scale = (WIDTH - LEFT - 60) / most
    yield f'<text x="{LEFT}" y="{top - 12}" font-weight="bold">{title}</text>'
    for number, (row, label) in enumerate(ROWS):
        y = top + number * (BAR + GAP)
        mean = sum(value for value, _, _ in values[row]) / len(seeds)
        yield f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{label}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{mean * scale:.1f}" height="{BAR}" fill="#4878a8"/>'
        for nth, (_, low, high) in enumerate(values[row]):
            at = y + BAR * (nth + 1) / (len(seeds) + 1)
            yield (f'<line x1="{LEFT + low * scale:.1f}" x2="{LEFT + high * scale:.1f}" '
                   f'y1="{at:.1f}" y2="{at:.1f}" stroke="#222"/>')
        end = LEFT + max(high for _, _, high in values[row]) * scale
        yield f'<text x="{end + 6:.1f}" y="{y + 13}">{mean:.{digits}f}</text>'


def main(folders):
    def of(folder):
        return {row: json.loads((pathlib.Path(folder) / f"{row}.json").read_text()) for row, _ in ROWS}

    seeds = [of(folder) for folder in folders]
    table(seeds)
    height = TOP + len(ROWS) * (BAR + GAP) + 20
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height * len(PANELS)}" '
          'font-family="sans-serif" font-size="13">')
    print('<rect width="100%" height="100%" fill="#fff"/>')
    for number, (title, value, digits) in enumerate(PANELS):
        print("\n".join(panel(title, value, digits, seeds, TOP + number * height)))
    print("</svg>")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
