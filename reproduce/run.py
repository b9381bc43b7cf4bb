"""Run figure notebooks through papermill, strictly, and write one HTML page of their results.

    python reproduce/run.py                                       every figure, profile quick, one after the other
    python reproduce/run.py fig4_horse2zebra --profile cpu -p seed 1
    python reproduce/run.py fig4_horse2zebra --profile paper --results results/datasets -p data_root datasets/horse2zebra -p data_name paper

(The Snakefile beside this file runs the trainings in parallel first; a notebook loads what it finds.)
Each notebook has one cell tagged `parameters`; a name that it does not define is an error, not a new variable.
Each leaves figure.png, manifest.json and the executed notebook in RESULTS/PROFILE/NAME; RESULTS/PROFILE/index.html shows them all.
"""
import argparse
import ast
import html
import json
import os
import sys
from pathlib import Path

import nbformat
import papermill

from semst.bench.manifest import REAL_DATA

HERE = Path(__file__).resolve().parent


class RunError(Exception):
    "A mistake in what was asked for, in words for a person."


def parameters_of(notebook: Path) -> dict:
    "Name -> default of every parameter: the plain assignments of the one cell tagged `parameters`."
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1: raise RunError(f"{notebook.name}: {len(cells)} cells are tagged 'parameters'; there must be exactly one")
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cells[0].source).body if isinstance(line, ast.Assign)}


def checked(notebook: Path, given: dict[str, str]) -> dict:
    "The given parameters, each with the type of its default; an unknown name or a value of another type is an error."
    defaults = parameters_of(notebook)
    if unknown := sorted(set(given) - set(defaults)):
        raise RunError(f"{notebook.name} has no parameter {', '.join(unknown)}; it has {', '.join(defaults)}")
    values = {}
    for name, text in given.items():
        kind = type(defaults[name])
        try: values[name] = text == "True" if kind is bool and text in ("True", "False") else kind(text)
        except ValueError: raise RunError(f"{notebook.name}: {name} must be {kind.__name__}, not {text!r}") from None
    if values.get("data_name", REAL_DATA[0]) not in REAL_DATA: raise RunError(f"data_name must be {' or '.join(REAL_DATA)}, not {values['data_name']!r}")
    return values


def run(notebook: Path, results: Path, given: dict[str, str]) -> dict:
    "Execute one figure's notebook and return its manifest."
    out = (results / notebook.stem).resolve()
    values = checked(notebook, {"results_dir": str(results.resolve()), "out_dir": str(out)} | given)
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)         # an old one must not speak for a run that fails
    papermill.execute_notebook(str(notebook), str(out / notebook.name), values, cwd=str(HERE), kernel_name="python3", progress_bar=False)
    return json.loads((Path(values["out_dir"]) / "manifest.json").read_text())


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>SemST: figures</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}img{{max-width:100%}}
table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}}</style>
<h1>SemST: figures</h1><p>Each figure with its verdict, its measurements, the notebook that made it and the manifest it can be traced by.
Verdicts on embedded data speak of that data, not of the paper's.</p>{sections}</html>"""

SECTION = """<h2>{figure}: {verdict}</h2><p>{data_name} data, profile {profile}, seed {seed}, {wall_seconds:.0f} s on {device}</p>
<a href="{figure}/figure.png"><img src="{figure}/figure.png" alt="{figure}"></a>{more}<details><summary>measurements</summary><table>{rows}</table></details>
<p><a href="{figure}/{notebook}">notebook as executed</a> · <a href="{figure}/manifest.json">manifest</a> · revision <code>{git_revision}</code></p>"""


def write_index(results: Path) -> Path:
    "RESULTS/index.html over all manifests that lie there."
    sections = []
    for path in sorted(results.glob("*/manifest.json")):
        try: m = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError): continue            # another call is about to write it
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{v:.4g}</td></tr>" for k, v in m["metrics"].items())
        more = "".join(f'<a href="{m["figure"]}/{f.name}"><img src="{m["figure"]}/{f.name}" alt="{f.stem}"></a>' for f in sorted(path.parent.glob("*.png")) if f.stem != "figure")
        sections.append(SECTION.format(**m, more=more, profile=html.escape(str(m["parameters"]["profile"])), seed=m["parameters"]["seed"], rows=rows))
    page, draft = results / "index.html", results / f".index-{os.getpid()}.html"
    draft.write_text(PAGE.format(sections="\n".join(sections)), encoding="utf-8")
    os.replace(draft, page)
    return page


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", help="names of notebooks in reproduce/; none: all of them")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--profile", default="quick", help="how much is spent: smoke, quick, cpu, gpu; on real data (-p data_root FOLDER) also standin, paper")
    parser.add_argument("--results", type=Path, help="folder that holds a folder for each profile; default: results, and with data_root results/NAME OF THE FOLDER")
    parser.add_argument("--index", action="store_true", help="only write the page over the results that are there")
    args = parser.parse_args(argv)
    given = dict(args.parameter) | {"profile": args.profile}
    for name in ("data_root", "votes"):                     # a notebook runs in its own folder, a path is meant from here
        if given.get(name): given[name] = str(Path(given[name]).resolve())
    results = (args.results or HERE.parent / "results" / Path(given.get("data_root", "")).name) / args.profile
    if args.index:
        print(f"index: {write_index(results)}")
        return 0
    notebooks = [HERE / f"{name.removesuffix('.ipynb')}.ipynb" for name in args.figures] or sorted(HERE.glob("fig*.ipynb"))
    try:
        for notebook in notebooks:
            if not notebook.exists(): raise RunError(f"no figure {notebook.stem}; there are {', '.join(sorted(p.stem for p in HERE.glob('fig*.ipynb')))}")
            checked(notebook, given)                        # all of them before the first minute is spent
        for notebook in notebooks:
            print(f"{notebook.stem} ...", flush=True)
            manifest = run(notebook, results, given)
            print(f"{notebook.stem}: {manifest['verdict']} ({manifest['wall_seconds']:.0f} s)", flush=True)
    except RunError as e:
        print(f"reproduce: {e}", file=sys.stderr)
        return 2
    except papermill.PapermillExecutionError as e:
        print(f"reproduce: {notebook.stem} failed: {e.ename}: {e.evalue}\n  the notebook up to there: {results / notebook.stem / notebook.name}", file=sys.stderr)
        return 1
    print(f"index: {write_index(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
