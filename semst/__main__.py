"`semst` and `python -m semst`: the version at once, everything else after the imports."
import sys

from . import __version__


def main() -> int | None:
    "Run the command line; its exit code."
    if sys.argv[1:] == ["--version"]:
        print(f"semst {__version__}")
        return 0
    from .cli import main as command_line      # torch takes two seconds to import

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
