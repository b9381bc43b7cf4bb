"""index.ipynb -> README.md: the text as it is, code cells and their plain-text results as fenced blocks, and a table of the manifests.

    python nbs/readme.py [--print]
"""
import json
import sys
from pathlib import Path

from semst.comparison import Interval

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "reproduce/results"          # manifests and pictures that are kept with the project


def status() -> str:
    "A table of what the kept manifests say."
    rows = ["| figure | command | data | hardware | verdict | revision |", "|---|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*/*/manifest.json")):
        m, profile, place = json.loads(path.read_text(encoding="utf-8")), path.parts[-3], path.parent.relative_to(HERE.parent).as_posix()
        figure = f"[{m['figure']}]({place}/figure.png)" if (path.parent / "figure.png").exists() else m["figure"]       # of photographs that are not ours there are numbers alone
        on, data = (" DATA=datasets", f"{m['data_name']}: {m['parameters']['data_root']}") if m["parameters"].get("data_root") else ("", m["data_name"])
        rows.append(f"| {figure} | `make reproduce PROFILE={profile}{on}` | {data} | {m['device']} | [{m['verdict']}]({place}/manifest.json) | {m['git_revision'][:10]} |")
    return "\n".join(rows) if len(rows) > 2 else "No results are kept yet."


COLUMNS = {   # title -> figure, and the name of its lead
    "figure 5: pixel accuracy": ("fig5_domain_adaptation", "lead over {}, pixel accuracy"), "figure 5: class accuracy": ("fig5_domain_adaptation", "lead over {}, class accuracy"),
    "figure 5: mIoU": ("fig5_domain_adaptation", "lead over {}, mIoU"), "figure 5: mIoU of a reader": ("fig5_domain_adaptation", "lead over the reader of {}, mIoU"),
    "figure 2: pixel accuracy": ("fig2_parsing2image", "lead over {}, pixel accuracy"), "figure 3: pixel accuracy": ("fig3_summer2winter", "lead over {}, pixel accuracy"),
    "figure 4: pixel accuracy": ("fig4_horse2zebra", "lead over {}, pixel accuracy")}


def leads(profile: str = "cpu") -> str:
    "SemST against each method, from the manifests over several seeds; a column for each measurement that is kept."
    kept = {path.parent.name: json.loads(path.read_text(encoding="utf-8"))["metrics"] for path in sorted(RESULTS.glob(f"{profile}/*/manifest.json"))}
    kept = {figure: m for figure, m in kept.items() if any(name.endswith(", low") for name in m)}
    if "fig5_domain_adaptation" not in kept: return "No comparison over several seeds is kept yet."
    columns = {title: (kept[figure], lead) for title, (figure, lead) in COLUMNS.items() if figure in kept}
    methods = dict.fromkeys(name.split(",")[0][len("lead over "):] for name in kept["fig5_domain_adaptation"] if name.startswith("lead over ") and " the reader of " not in name)

    def cell(metrics, lead):
        if f"{lead}, low" not in metrics: return ""
        return str(Interval(*(metrics[f"{lead}{end}"] for end in ("", ", low", ", high", ", seeds above 0")), metrics["seeds"]))

    cells = {name: [cell(metrics, lead.format(name)) for metrics, lead in columns.values()] for name in (*methods, "source")}
    rows = [f"| {name} | {' | '.join(row)} |" for name, row in cells.items() if any(row)]
    seeds = ", ".join(f"{m['seeds']} for figure {figure[3]}" for figure, m in kept.items() if figure[3] in "2345")
    return "\n".join([f"SemST's lead, profile {profile}, mean over seeds ({seeds}), 95 % interval, and seeds on which it led:", "", "| SemST against | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|",
                      *rows, "", "(*) the interval excludes zero; the others decide nothing. Where nothing differs, about one column in three has such a mark by chance."])


def ends(profile: str = "cpu") -> str:
    "Where each method of figure 5 stood at its last checkpoint, from the manifest."
    path = RESULTS / profile / "fig5_domain_adaptation/manifest.json"
    m = json.loads(path.read_text(encoding="utf-8"))["metrics"] if path.exists() else {}
    names = [name[len("distance to the oracle of "):] for name in m if name.startswith("distance to the oracle of ")]
    rows = ["| at the last checkpoint, mean of the seeds | distance to the oracle | pixels read right |", "|---|---:|---:|"]
    rows += [f"| {name} | {m[f'distance to the oracle of {name}']:.2f} | {100 * m[f'pixel accuracy of {name}']:.0f} % |" for name in sorted(names, key=lambda n: m[f"distance to the oracle of {n}"])]
    return "\n".join(rows) if names else "Nothing is kept yet."


def readme(notebook: Path) -> str:
    parts = ["<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": parts.append(source.replace("<!-- status -->", status()).replace("<!-- leads -->", leads()).replace("<!-- ends -->", ends()))
        else:
            parts.append(f"```python\n{source}\n```")
            parts += ["```\n" + "".join(o["data"]["text/plain"]) + "\n```" for o in cell["outputs"] if o["output_type"] == "execute_result"]
    return "\n\n".join(parts) + "\n"


text = readme(HERE / "index.ipynb")
if "--print" in sys.argv: sys.stdout.write(text)
else: (HERE.parent / "README.md").write_text(text, encoding="utf-8")
