"""index.ipynb -> README.md: the text as it is, code cells and their plain-text results as fenced blocks, and a table of the manifests.

    python nbs/readme.py [--print]
"""
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "reproduce/results"          # manifests and pictures that are kept with the project


def status() -> str:
    "A table of what the kept manifests say."
    rows = ["| figure | command | data | hardware | verdict | revision |", "|---|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*/*/manifest.json")):
        m, profile = json.loads(path.read_text(encoding="utf-8")), path.parts[-3]
        rows.append(f"| [{m['figure']}](reproduce/results/{profile}/{m['figure']}/figure.png) | `make reproduce PROFILE={profile}` | {m['data_name']} | {m['device']} "
                    f"| [{m['verdict']}](reproduce/results/{profile}/{m['figure']}/manifest.json) | {m['git_revision'][:10]} |")
    return "\n".join(rows) if len(rows) > 2 else "No results are kept yet."


def leads() -> str:
    "SemST against each method at equal distance to the oracle, from figure 5's manifests over several seeds."
    parts = []
    for path in sorted(RESULTS.glob("*/fig5_domain_adaptation/manifest.json")):
        m, scores = json.loads(path.read_text(encoding="utf-8")), ("pixel accuracy", "class accuracy", "mIoU")
        if "lead over gan, mIoU, low" not in m["metrics"]: continue
        rows = [f"SemST's lead, profile {path.parts[-3]}, {m['metrics']['seeds']} seeds, mean and 95 % interval:", "",
                "| SemST against | " + " | ".join(scores) + " |", "|---|---|---|---|"]
        for name in dict.fromkeys(k.split(",")[0][len("lead over "):] for k in m["metrics"] if k.startswith("lead over ")):
            cells = [[m["metrics"][f"lead over {name}, {score}{end}"] for end in ("", ", low", ", high")] for score in scores]
            rows.append(f"| {name} | " + " | ".join(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" + (" (*)" if low > 0 or high < 0 else "") for mean, low, high in cells) + " |")
        parts.append("\n".join(rows + ["", "(*) the interval excludes zero; the others decide nothing."]))
    return "\n\n".join(parts)


def readme(notebook: Path) -> str:
    parts = ["<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": parts.append(source.replace("<!-- status -->", status()).replace("<!-- leads -->", leads()))
        else:
            parts.append(f"```python\n{source}\n```")
            parts += ["```\n" + "".join(o["data"]["text/plain"]) + "\n```" for o in cell["outputs"] if o["output_type"] == "execute_result"]
    return "\n\n".join(parts) + "\n"


text = readme(HERE / "index.ipynb")
if "--print" in sys.argv: sys.stdout.write(text)
else: (HERE.parent / "README.md").write_text(text, encoding="utf-8")
