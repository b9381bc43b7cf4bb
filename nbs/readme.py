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


def readme(notebook: Path) -> str:
    parts = ["<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": parts.append(source.replace("<!-- status -->", status()))
        else:
            parts.append(f"```python\n{source}\n```")
            parts += ["```\n" + "".join(o["data"]["text/plain"]) + "\n```" for o in cell["outputs"] if o["output_type"] == "execute_result"]
    return "\n\n".join(parts) + "\n"


text = readme(HERE / "index.ipynb")
if "--print" in sys.argv: sys.stdout.write(text)
else: (HERE.parent / "README.md").write_text(text, encoding="utf-8")
