"""summer2winter_yosemite: photographs of Yosemite in summer (A) and winter (B), from CycleGAN.

    python data_scripts/summer2winter_yosemite.py OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/summer2winter

Downloads 133 MB, checks them, and unpacks trainA, trainB, testA and testB into OUT. Stopped? The
same command goes on. No network here? Put summer2winter_yosemite.zip into OUT yourself; it is
checked just the same.
"""
import sys

from common import run
from cyclegan import fetch


def main(argv: list[str]) -> None:
    fetch("summer2winter_yosemite", __doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
