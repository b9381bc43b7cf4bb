"The page of a profile's results: pictures first, one table, verdicts in words, links to manifests."
import shutil
from html import escape
from pathlib import Path
from urllib.parse import quote

from semst.bench.comparison import conclude, differences, read_rows, values
from semst.bench.manifest import repository
from semst.bench.protocol import COMPARED, LIVE, PAIRS, title_of
from semst.eval.statistics import mean_interval
from semst.files import read_json, write_text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto; image-rendering: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #ccc; text-align: right }
td:first-child, th:first-child { text-align: left }
tr.ours { font-weight: 600 }
.scroll { overflow-x: auto }
.small { color: #555; font-size: 14px }
"""
TITLES = {"fig1_user_study": "Figure 1: which one would you choose?",
          "fig2_parsing2image": "Figure 2: label maps to photographs",
          "fig3_summer2winter": "Figure 3: summer to winter",
          "fig4_horse2zebra": "Figure 4: horses to zebras",
          "fig5_domain_adaptation": "Figure 5: learning to see from translations"}
ORDER = ("copy", "matrix", "gan", *COMPARED[1:], LIVE, "semst",
         *(f"{method}-searched" for method in (*COMPARED[1:], "semst")), "oracle", "target")

MEASURES = dict(downstream=("downstream mIoU", "{:.3f}"), flips=("flipped", "{:.0%}"),
                fid=("FID", "{:.1f}"))


def link(figure: str, name: str) -> str:
    "A relative address inside the page's folder."
    return quote(f"{figure}/{name}")


def section(path: Path, manifest: dict) -> str:
    "A figure: its pictures, its verdict in words, and where it comes from."
    figure, folder = manifest["figure"], path.parent
    pictures = sorted(folder.glob("*.png"), key=lambda p: (p.stem != "figure", p.stem))
    shown = "".join(f'<p><a href="{link(figure, p.name)}"><img src="{link(figure, p.name)}" '
                    f'alt="{escape(p.stem)}"></a></p>' for p in pictures)
    others = "".join(f' · <a href="{link(figure, p.name)}">{escape(p.name)}</a>'
                     for p in sorted(folder.glob("*.html")))
    return f"""<section><h2 id="{escape(figure)}">{escape(TITLES.get(figure, figure))}</h2>{shown}
<p><strong>{escape(manifest["verdict"])}</strong>: {escape(manifest["words"])}</p>
<p class="small">{escape(manifest["data_name"])} data, {manifest["seconds"]:.0f} s on
{escape(manifest["device"])}, revision <code>{escape(manifest["git_revision"][:10])}</code> ·
<a href="{link(figure, "manifest.json")}">manifest</a> ·
<a href="{link(figure, manifest["notebook"])}">notebook as executed</a>{others}</p></section>"""


def cell(rows: list[dict], method: str, measure: str, form: str) -> str:
    found = values(rows, method, measure)
    return f"<td>{form.format(mean_interval(found).mean)}</td>" if found else "<td></td>"


def table(by_pair: dict[str, list[dict]]) -> str:
    "One table over all pairs: downstream mIoU and flips of every method, and FID if there is one."
    if not by_pair:
        return ""
    methods = [m for m in ORDER if any(values(rows, m, "n") for rows in by_pair.values())]
    shown = [measure for measure in MEASURES if measure != "fid"
             or any("fid" in row for rows in by_pair.values() for row in rows)]
    head = "".join(f'<th colspan="{len(shown)}">{escape(PAIRS[pair].title)}</th>'
                   for pair in by_pair)
    below = "".join(f"<th>{MEASURES[measure][0]}</th>" for measure in shown) * len(by_pair)
    lines = []
    for method in methods:
        cells = "".join(cell(rows, method, measure, MEASURES[measure][1])
                        for rows in by_pair.values() for measure in shown)
        kind = ' class="ours"' if method in ("semst", "semst-searched") else ""
        lines.append(f"<tr{kind}><td>{escape(title_of(method))}</td>{cells}</tr>")
    return f"""<h2>All pairs</h2><div class="scroll"><table><tr><th></th>{head}</tr>
<tr><th></th>{below}</tr>{"".join(lines)}</table></div>
<p class="small">Downstream mIoU: a network learns from the translations and is tested on target
pictures; more is better. Flipped: pixels that show their class in the oracle and another one in
the translation; of a folder, which has no oracle, all that the evaluator reads wrongly; less is
better. Means over the trainings that there are. Searched: with the content weight that pilots
found for the pair; all others have weight 1.</p>"""


def all_trainings(folder: Path) -> str:
    "What the project's table of all trainings says, and the picture of its model with two scales."
    shutil.copy(repository() / "reproduce/pictures/scales.jpg", folder / "scales.jpg")
    rows, lines = read_rows(repository() / "reproduce/tables/scores.csv"), []
    for pair, about in PAIRS.items():
        found = [row for row in rows if row["pair"] == pair]
        verdict, words = conclude(differences(found), about.admitted)
        lines.append(f"<li>{escape(about.title)}: <strong>{verdict}</strong>. {escape(words)}</li>")
    return f"""<section><h2>Two scales</h2><p><img src="scales.jpg" alt="SemST with two scales"></p>
<p class="small">Summer to winter with 256 pixels: drawn scenes that the training has not seen.
The picture is kept; reproduce/tools/pictures.py makes it.</p></section>
<section><h2>Verdicts of the whole comparison</h2><ul>{"".join(lines)}</ul>
<p class="small">From all trainings in reproduce/tables/scores.csv, by reproduce/PROTOCOL.md. The
figures below have verdicts of their own, from the trainings of this profile.</p></section>"""


def write_page(folder: Path) -> Path:
    "FOLDER/index.html over all manifests in FOLDER/*/, and the notebooks that left none."
    sections, by_pair, drawn = [], {}, False
    for path in sorted(folder.glob("*/manifest.json")):
        manifest = read_json(path, dict)
        drawn |= manifest["data_name"] == "embedded"
        sections.append(section(path, manifest))
        rows = path.with_name("rows.csv")
        for row in read_rows(rows) if rows.exists() else ():
            by_pair.setdefault(row["pair"], []).append(row)
    stopped = [path for path in sorted(folder.glob("*/*.ipynb"))
               if not path.with_name("manifest.json").exists()]
    for path in stopped:
        figure = path.parent.name
        sections.append(f'<section><h2>{escape(TITLES.get(figure, figure))}</h2>'
                        f'<p><strong>failed</strong>: <a href="{link(figure, path.name)}">the '
                        'notebook up to there</a></p></section>')
    if not sections:
        sections.append("<p>No figure has been made yet.</p>")
    folder.mkdir(parents=True, exist_ok=True)
    whole = all_trainings(folder) if drawn else ""
    said = "What is measured on drawn scenes speaks of those scenes, not of the paper's data."
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SemST: figures</title><style>{STYLE}</style></head><body>
<h1>SemST: figures</h1><p>Profile {escape(folder.name)}. {said if drawn else ""}</p>
{whole}{"".join(sections)}{table(by_pair)}</body></html>
"""
    write_text(folder / "index.html", page)
    return folder / "index.html"
