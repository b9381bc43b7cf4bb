"""Time and peak memory of translating a picture as a whole and in tiles.

Every row has a process of its own, so that its peak is its own.

python tests/benchmarks/tiling.py        # a table for a narrow network, about a minute
python tests/benchmarks/tiling.py --image frame.png --ngf 64 --modes exact --tiles 512
# streams from file to file
python tests/benchmarks/tiling.py --sizes 20000 --modes approximate --tiff --ngf 2 --blocks 1
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

parser = argparse.ArgumentParser(
    description="time and peak memory of translating a picture as a whole and in tiles"
)
parser.add_argument(
    "--sizes",
    type=int,
    nargs="+",
    default=[256, 512, 1024],
    help="sides of synthetic pictures, pixels",
)
parser.add_argument("--image", type=Path, help="a picture instead of synthetic ones")
parser.add_argument("--tiles", type=int, nargs="+", default=[256])
parser.add_argument(
    "--modes",
    nargs="+",
    default=["whole", "exact", "approximate"],
    choices=["whole", "exact", "approximate"],
)
parser.add_argument("--ngf", type=int, default=16)
parser.add_argument("--blocks", type=int, default=9)
parser.add_argument("--scales", type=int, default=1, choices=[1, 2])
parser.add_argument(
    "--tiff",
    nargs="?",
    const="tiles",
    choices=["tiles", "plain", "strips"],
    help="from a TIFF in tiles, uncompressed or in strips, to a tiled TIFF; not for `whole`",
)
parser.add_argument("--device", default="cpu")
# mode, size and tile of one row, as JSON: what the child processes are given
parser.add_argument("--row", help=argparse.SUPPRESS)


def write_scene(path, side, layout, tile=512):
    "A smooth, coloured TIFF of any size, piece by piece."
    import numpy as np
    import tifffile

    def block(top, left, height, width):
        y, x = np.arange(top, top + height)[:, None] / 97, np.arange(left, left + width)[None] / 61
        return np.stack(
            [127 + 60 * np.sin(y) + 60 * np.sin(x + phase) for phase in (0, 1, 2)], -1
        ).astype(np.uint8)

    about = dict(shape=(side, side, 3), dtype="uint8", photometric="rgb")
    if layout == "tiles":
        tifffile.imwrite(
            path,
            (
                block(top, left, tile, tile)
                for top in range(0, side, tile)
                for left in range(0, side, tile)
            ),
            tile=(tile, tile),
            compression="zlib",
            maxworkers=1,
            **about,
        )
    elif layout == "strips":
        tifffile.imwrite(
            path,
            (
                zlib.compress(block(top, 0, min(32, side - top), side).tobytes())
                for top in range(0, side, 32)
            ),
            rowsperstrip=32,
            compression="zlib",
            maxworkers=1,
            **about,
        )
    else:
        tifffile.memmap(path, **about).flush()
        for top in range(0, side, tile):
            tifffile.memmap(path)[top:top + tile] = block(top, 0, min(tile, side - top), side)


def peak():
    # on Linux; `ru_maxrss` would count what the parent held before the start
    "The most memory this process has held, bytes."
    return 1024 * int(
        next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    )


def row(args, mode, size, tile):
    "What a child process does: one translation, measured."
    import numpy as np
    import torch

    from semst.data import load_image, to_image, to_tensor
    from semst.model import ModelConfig, SemST, translate_whole
    from semst.tiling import translate_tiled

    torch.manual_seed(0)
    taps = (0, 4, 8, 12, 16) if args.blocks >= 5 else (0, 4, 8)
    model = (
        SemST(ModelConfig(scales=args.scales, ngf=args.ngf, blocks=args.blocks, taps=taps))
        .to(args.device)
        .eval()
    )
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.tif", Path(folder) / "out.tif" if args.tiff else None
        if args.image:
            source = load_image(args.image)
        elif args.tiff:
            write_scene(source, size, args.tiff)
        else:
            source = to_image(
                torch.nn.functional.interpolate(
                    torch.rand(1, 3, 16, 16) * 2 - 1, (size, size), mode="bicubic"
                )[0]
            )
        pixels = size**2 if args.tiff else int(np.prod(source.size))
        # from here on `peak` counts anew: writing the picture took memory, too
        Path("/proc/self/clear_refs").write_text("5")
        before, start, cpu = peak(), time.perf_counter(), time.process_time()
        if mode == "whole":
            with torch.inference_mode():
                to_image(translate_whole(model, to_tensor(source)[None].to(args.device)).fused[0])
        else:
            translate_tiled(model, source, output, tile, mode)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        json.dumps(
            dict(
                seconds=seconds,
                cpu=cpu,
                before=before,
                peak=peak(),
                pixels=pixels,
                device=torch.cuda.max_memory_allocated() if args.device == "cuda" else 0,
            )
        )
    )


def main():
    args = parser.parse_args()
    if args.row:
        return row(args, *json.loads(args.row))
    rows = [
        (mode, size, tile)
        for size in ([0] if args.image else args.sizes)
        for mode in args.modes
        for tile in ([0] if mode == "whole" else args.tiles)
    ]
    print(f"ngf {args.ngf}, {args.blocks} blocks, {args.scales} scale(s), {args.device}")
    print(
        f"{'picture':>16s} {'mode':>12s} {'tile':>5s} {'seconds':>8s} {'cpu s':>8s} "
        f"{'images/s':>9s} {'Mpx/s':>7s} {'peak GiB':>9s} {'before':>7s} {'device GiB':>11s}"
    )
    for mode, size, tile in rows:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--row", json.dumps([mode, size, tile])],
            capture_output=True,
            text=True,
        )
        name = args.image.name[:16] if args.image else f"{size}x{size}"
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            print(f"{name:>16s} {mode:>12s} {tile:5d} failed: {said[-1]}")
            continue
        r = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:>16s} {mode:>12s} {tile or '':>5} {r['seconds']:8.2f} {r['cpu']:8.2f} "
            f"{1 / r['seconds']:9.3f} {r['pixels'] / 1e6 / r['seconds']:7.2f} "
            f"{r['peak'] / 2**30:9.3f} {r['before'] / 2**30:7.3f} {r['device'] / 2**30:11.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
