"""Put the pages of the site together: python docs/assemble.py FOLDER

The notebooks are copied as they are. The start page, the pages of the API and the ledger are
written from the package itself.
"""
import csv
import json
import pkgutil
import shutil
import sys
from pathlib import Path

import semst

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"The method": "0", "The evidence": "1", "Your own pictures": "t", "Appendices": "A"}


def toctree(title: str, names: list[str]) -> str:
    "A table of contents in MyST."
    return "\n".join(["```{toctree}", ":maxdepth: 1", f":caption: {title}", "", *names, "```", ""])


def local(text: str) -> str:
    "Links to what has another name in the site."
    names = {"../reproduce/PROTOCOL.md": "protocol.md", "reproduce/PROTOCOL.md": "protocol.md",
             "ledger.ipynb": "ledger.md", "index.ipynb": "index.md",
             "docs/extending.md": "extending.md", "docs/launching.md": "launching.md",
             "docs/coming_from_cut.md": "coming_from_cut.md",
             "docs/paper_data.md": "paper_data.md",
             "../docs/launching.md": "launching.md",
             "../reproduce/tools/ts_forms.md": "ts_forms.md"}
    for old, new in names.items():
        text = text.replace(f"]({old})", f"]({new})")
    return text


def start_page(notebooks: list[str]) -> str:
    "The README, without its links to files of the repository, and the tables of contents."
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in ("CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"):
        readme = readme.replace(f"]({page})", f"](https://github.com/semst/semst/blob/main/{page})")
    readme = local(readme.replace("](nbs/", "]("))
    trees = [toctree(title, [n for n in notebooks if n.startswith(letter)])
             for title, letter in PARTS.items()]
    solutions = sorted(f"solutions/{p.stem}" for p in (ROOT / "nbs/solutions").glob("*.ipynb"))
    trees += [toctree("Solutions", solutions),
              toctree("Reference", ["ledger", "protocol", "ts_forms", "api", "extending",
                                    "launching", "coming_from_cut", "paper_data",
                                    "reliability"])]
    return readme + "\n" + "\n".join(trees)


def api_page() -> str:
    "Every public name of every module, with parameters and types."
    names = sorted(m.name for m in pkgutil.walk_packages(semst.__path__, "semst."))
    names = [name for name in names if not name.endswith(("_modidx", "__main__", "template"))]
    parts = [
        f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"
        for name in names
    ]
    return "# The modules\n\n" + "\n".join(parts)


def ledger_page() -> str:
    "The ledger as a table: statement, code, test, status."
    with open(ROOT / "nbs/ledger.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [
        "# The ledger",
        "",
        "What the paper states, where it is built, and which test holds it.",
        "",
        "| source | statement | code | test | status |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["source"], row["statement"].replace("|", "\\|"), f"`{row['symbol']}`",
                 f"`{row['test'].partition('::')[2]}`", row["status"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shows_a_picture(cell: dict) -> bool:
    "Whether a cell has a picture among its outputs."
    return any(kind.startswith("image/") for output in cell.get("outputs", ())
               for kind in output.get("data", {}))


def readable(path: Path) -> str:
    "A notebook without hidden cells and without nbdev's marks; hidden inputs are folded."
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = []
    for cell in notebook["cells"]:
        first = cell["source"][0] if cell["source"] else ""
        hidden = first.strip() == "#| hide" or first.startswith("#| default_exp")
        if hidden and not shows_a_picture(cell):
            continue
        if first.startswith("#| hide"):
            cell["metadata"]["tags"] = ["hide-input"]
        if first.startswith("#|"):
            cell["source"] = cell["source"][1:]
        cells.append(cell)
    return local(json.dumps(notebook | dict(cells=cells)))


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notebooks = sorted(p.stem for p in (ROOT / "nbs").glob("*.ipynb")
                       if p.stem not in ("index", "ledger"))
    for name in notebooks:
        text = readable(ROOT / f"nbs/{name}.ipynb")
        (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "reproduce/pictures", folder / "reproduce/pictures")
    (folder / "solutions").mkdir()
    for path in (ROOT / "nbs/solutions").glob("*.ipynb"):
        (folder / "solutions" / path.name).write_text(readable(path), encoding="utf-8")
    pages = dict(index=start_page(notebooks), api=api_page(), ledger=ledger_page(),
                 protocol=(ROOT / "reproduce/PROTOCOL.md").read_text(encoding="utf-8"),
                 ts_forms=(ROOT / "reproduce/tools/ts_forms.md").read_text(encoding="utf-8"),
                 **{name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
                    for name in ("extending", "launching", "coming_from_cut", "paper_data",
                                 "reliability")})
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
