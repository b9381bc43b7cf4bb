"""Keep one training at several of its steps, for the course: half precision, with the log.

    python reproduce/tools/keep_course.py RUN PAIR                      one scale, chapter 09
    python reproduce/tools/keep_course.py RUN PAIR --to two_scales      two scales, chapters 07, 09
"""
import argparse
import shutil
from pathlib import Path

from semst.bench.protocol import PAIRS
from semst.bench.weights import half
from semst.bench.workflow import kept_folder
from semst.files import digest, read_json, write_json
from semst.pretrained import checkpoints, find_weights
from semst.run_folder import read_run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=Path, help="folder of a finished run that keeps its checkpoints"
    )
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--to", default="course", help="folder of reproduce/weights")
    parser.add_argument("--begun", default="", help="the kept file that the training began from")
    args = parser.parse_args()
    folder, about, note = kept_folder(args.to), read_run(args.run), args.run.with_name("made.json")
    made = read_json(note, list) if note.exists() else []
    begun = dict(begun_from=args.begun) if args.begun else {}
    folder.mkdir(exist_ok=True)
    for old in folder.glob("step_*"):
        old.unlink()
    for checkpoint in checkpoints(args.run):
        path = folder / f"{checkpoint.name}.safetensors"
        half(find_weights(checkpoint), path)
        write_json(path.with_suffix(".json"), dict(
            pair=args.pair, step=int(checkpoint.name.partition("_")[2]), steps=about["steps"],
            config=about["config"], made=made, sha256=digest(path)) | begun)
        print(path, f"{path.stat().st_size / 1e6:.2f} MB")
    shutil.copy(args.run / "log.jsonl", folder / "log.jsonl")


if __name__ == "__main__":
    main()
