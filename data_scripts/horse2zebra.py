"""horse2zebra: photographs of horses (A) and zebras (B) from ImageNet, by the authors of CycleGAN.

    python data_scripts/horse2zebra.py OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/horse2zebra

Downloads 117 MB, checks them, and unpacks trainA, trainB, testA and testB into OUT. Stopped? The
same command goes on. No network here? Put horse2zebra.zip into OUT yourself; it is checked just
the same.
"""
import sys

from common import run
from cyclegan import fetch

# a private copy; the checksum vouches for it
COPY = ("https://huggingface.co/datasets/kerls/cyclegan-horse2zebra/resolve/main/"
        "horse2zebra.zip")


def main(argv: list[str]) -> None:
    fetch("horse2zebra", __doc__, argv, (COPY,))


if __name__ == "__main__":
    sys.exit(run(main))
