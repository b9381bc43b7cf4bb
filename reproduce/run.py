r"""Run figure notebooks through papermill, strictly, and write one HTML page of their results.

    python reproduce/run.py                                  every figure, profile quick, one by one
    python reproduce/run.py fig4_horse2zebra --profile cpu
    python reproduce/run.py fig4_horse2zebra --profile paper \
        -p data_root datasets/horse2zebra -p data_name paper

The Snakefile beside this file makes what a figure needs in parallel; a notebook loads what it
finds. Each notebook has one cell tagged `parameters`; a name that it does not define is an error,
not a new variable. Each leaves its pictures, manifest.json and the executed notebook in
RESULTS/PROFILE/FIGURE; RESULTS/PROFILE/index.html shows them all.
"""
import argparse
import ast
import sys
from pathlib import Path

import nbformat
import papermill
from page import write_page

from semst.bench.manifest import DATA_NAMES
from semst.bench.protocol import PROFILES
from semst.bench.workflow import FIGURES, results_folder
from semst.data import InputError
from semst.files import read_json

HERE = Path(__file__).resolve().parent
ONE_PAIR = HERE / "fig2to4_translations.ipynb"       # one notebook makes figures 2, 3 and 4


def notebook_of(figure: str) -> tuple[Path, dict]:
    "The notebook of a figure, and the parameters that make it this figure."
    if figure not in FIGURES:
        raise InputError(f"no figure {figure}; there are {', '.join(FIGURES)}")
    if figure[:4] in ("fig2", "fig3", "fig4"):
        return ONE_PAIR, dict(pair=FIGURES[figure][0])
    return HERE / f"{figure}.ipynb", {}


def parameters_of(notebook: Path) -> dict:
    "Name -> default of every parameter: the plain assignments of the one cell tagged `parameters`."
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells
             if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(f"{notebook.name}: {len(cells)} cells are tagged 'parameters'; "
                         "there must be exactly one")
    lines = ast.parse(cells[0].source).body
    return {line.targets[0].id: ast.literal_eval(line.value)
            for line in lines if isinstance(line, ast.Assign)}


def checked(notebook: Path, given: dict[str, str]) -> dict:
    "The given parameters, each with the type of its default; an unknown name or type is an error."
    defaults, values = parameters_of(notebook), {}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise InputError(f"{notebook.name} has no parameter {', '.join(unknown)}; "
                         f"it has {', '.join(defaults)}")
    for name, text in given.items():
        kind = type(defaults[name])
        try:
            values[name] = kind(text)
        except ValueError:
            problem = f"{name} must be {kind.__name__}, not {text!r}"
            raise InputError(f"{notebook.name}: {problem}") from None
    if values.get("data_name", DATA_NAMES[1]) not in DATA_NAMES[1:]:
        raise InputError(f"data_name must be {' or '.join(DATA_NAMES[1:])}, "
                         f"not {values['data_name']!r}")
    if values.get("profile", "quick") not in PROFILES:
        raise InputError(f"profile must be one of {', '.join(PROFILES)}, not {values['profile']!r}")
    return values


def run(figure: str, results: Path, given: dict[str, str]) -> dict:
    "Execute one figure's notebook and return its manifest."
    notebook, own = notebook_of(figure)
    out = results / given["profile"] / figure
    values = checked(notebook, dict(results_dir=str(results), out_dir=str(out)) | own | given)
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)  # an old one must not speak for a failed run
    papermill.execute_notebook(str(notebook), str(out / notebook.name), values, cwd=str(HERE),
                               kernel_name="python3", progress_bar=False)
    return read_json(out / "manifest.json", dict)


def failures(figures: list[str], results: Path, given: dict[str, str]) -> list[str]:
    "Make figure after figure; the names of those whose notebook failed."
    failed = []
    for figure in figures:
        print(f"{figure} ...", flush=True)
        try:
            manifest = run(figure, results, given)
        except papermill.PapermillExecutionError as e:
            failed.append(figure)
            print(f"reproduce: {figure} failed: {e.ename}: {e.evalue}\n  the notebook up to there: "
                  f"{results / given['profile'] / figure}", file=sys.stderr)
        else:
            print(f"{figure}: {manifest['verdict']} ({manifest['seconds']:.0f} s)", flush=True)
    return failed


def arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", help=f"of {', '.join(FIGURES)}; none: all of them")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[],
                        metavar=("NAME", "VALUE"))
    parser.add_argument("--profile", default="quick",
                        help=f"how much is spent: {', '.join(PROFILES)}")
    parser.add_argument("--results", default="", help="a folder that gets one for each profile; "
                        "default: results in the project, for real data results/NAME")
    parser.add_argument("--index", action="store_true", help="only write the page")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = arguments(argv)
    given = dict(args.parameter) | dict(profile=args.profile)
    for name in ("data_root", "votes"):                  # a path is meant from here
        if given.get(name):
            given[name] = str(Path(given[name]).resolve())
    try:
        figures = [name.removesuffix(".ipynb") for name in args.figures] or list(FIGURES)
        results = results_folder(args.results, given.get("data_root", ""))
        for figure in figures:                           # all before the first minute is spent
            checked(notebook_of(figure)[0], given)
        failed = [] if args.index else failures(figures, results, given)
    except InputError as e:
        print(f"reproduce: {e}", file=sys.stderr)
        return 2
    print(f"page: {write_page(results / args.profile)}")
    if failed:
        print(f"reproduce: {len(failed)} of {len(figures)} figures failed: {', '.join(failed)}",
              file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
