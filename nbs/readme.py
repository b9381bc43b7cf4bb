"""index.ipynb -> README.md: the text as it is, code cells and their plain-text results as fenced blocks.

    python nbs/readme.py [--print]
"""
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def readme(notebook: Path) -> str:
    parts = ["<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"]
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += ["```\n" + "".join(o["data"]["text/plain"]) + "\n```" for o in cell["outputs"] if o["output_type"] == "execute_result"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    text = readme(HERE / "index.ipynb")
    if "--print" in sys.argv: sys.stdout.write(text)
    else: (HERE.parent / "README.md").write_text(text, encoding="utf-8")
