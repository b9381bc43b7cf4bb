"""index.ipynb -> README.md: the text as it is, code cells and their plain-text results as fenced blocks, and tables of the manifests.

    python nbs/readme.py [--print]
"""
import csv
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "reproduce/results"          # manifests and pictures that are kept with the project


def status() -> str:
    "A table of what the kept manifests say."
    rows = ["| figure | command | data | hardware | training | verdict | revision |", "|---|---|---|---|---:|---|---|"]
    for path in sorted(RESULTS.glob("*/*/manifest.json")):
        m, place = json.loads(path.read_text(encoding="utf-8")), path.parent.relative_to(HERE.parent).as_posix()
        figure, profile, folder = m["figure"], m["parameters"]["profile"], m["parameters"].get("data_root")
        name = f"[{figure}]({place}/figure.png)" if (path.parent / "figure.png").exists() else figure       # of photographs that are not ours we keep numbers alone
        seconds = sum(t["seconds"] for t in m.get("trainings", {}).values())                             # manifests from before they were noted have none
        spent = "those of figures 2 to 4" if figure == "fig1_user_study" else f"{seconds / 60:.0f} min" if seconds else "not noted"
        command = f".venv/bin/python reproduce/run.py {figure} --profile {profile} -p data_root standins/{folder}" if folder else f"make reproduce PROFILE={profile}"
        rows.append(f"| {name} | `{command}` | {m['data_name']}{f': {folder}' if folder else ''} | {m['device']} | {spent} | [{m['verdict']}]({place}/manifest.json) | {m['git_revision'][:10]} |")
    return "\n".join(rows) if len(rows) > 2 else "No results are kept yet."


def ends(profile: str = "cpu") -> str:
    "Where each method of figure 5 stood at its last checkpoint, from the manifest."
    path = RESULTS / profile / "fig5_domain_adaptation/manifest.json"
    m = json.loads(path.read_text(encoding="utf-8"))["metrics"] if path.exists() else {}
    names = [name[len("distance to the oracle of "):] for name in m if name.startswith("distance to the oracle of ")]
    if not names: return "Nothing is kept yet."
    with open(path.with_name("scores.csv"), newline="") as f: scored = list(csv.DictReader(f))
    last, spread = max((r["step"] for r in scored), key=lambda step: int(step or 0)), {}
    for r in scored:
        if r["step"] == last: spread.setdefault(r["method"], []).append(float(r["sfd_oracle"]))
    rows = ["| at the last checkpoint, mean of the seeds | distance to the oracle | least and greatest | pixels read right |", "|---|---:|---:|---:|"]
    for name in sorted(names, key=lambda n: m[f"distance to the oracle of {n}"]):
        least_and_greatest = f"{min(spread[name]):.1f} to {max(spread[name]):.1f}" if name in spread else ""
        rows.append(f"| {name} | {m[f'distance to the oracle of {name}']:.2f} | {least_and_greatest} | {100 * m[f'pixel accuracy of {name}']:.0f} % |")
    return "\n".join(rows)


def photographs() -> str:
    "What was measured on photographs: a row for each method, a column for each folder of pictures and what could be measured there."
    kept = {m["parameters"]["data_root"]: m["metrics"] for m in (json.loads(p.read_text(encoding="utf-8")) for p in sorted(RESULTS.glob("standin-*/*/manifest.json")))}
    measures = {"read right": ("pixel accuracy of {}", "{:.0%}"), "distance": ("distance to the target of {}", "{:.1f}"), "reader's mIoU": ("mIoU, trained on {}", "{:.3f}")}
    columns = [(folder, measure) for folder, m in kept.items() for measure, (name, _) in measures.items() if any(k.startswith(name.format("")) for k in m)]
    methods = dict.fromkeys(k[len("distance to the target of "):] for m in kept.values() for k in m if k.startswith("distance to the target of "))
    alias = {"the input": "source", "target pictures (ceiling)": "target"}             # what readers were taught on
    rows = ["| | " + " | ".join(f"{folder}: {measure}" for folder, measure in columns) + " |", "|---|" + "---:|" * len(columns)]
    for method in methods:
        cells = []
        for folder, measure in columns:
            name, form = measures[measure]
            key = name.format(alias.get(method, method) if measure == "reader's mIoU" else method)
            cells.append(form.format(kept[folder][key]).replace("%", " %") if key in kept[folder] else "")
        rows.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(rows) if kept else "Nothing is kept yet."


def readme(notebook: Path) -> str:
    parts = ["<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for table in (status, ends): source = source.replace(f"<!-- {table.__name__} -->", table())
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += ["```\n" + "".join(o["data"]["text/plain"]) + "\n```" for o in cell["outputs"] if o["output_type"] == "execute_result"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    text = readme(HERE / "index.ipynb")
    if "--print" in sys.argv: sys.stdout.write(text)
    else: (HERE.parent / "README.md").write_text(text, encoding="utf-8")
