"`semst` and `python -m semst`: the version at once, everything else after the imports."
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from . import __version__


@contextmanager
def quiet_stop() -> Iterator[None]:
    "Inside, Ctrl-C ends the program with one line: nothing has begun yet."
    def stop(*_) -> None:
        os.write(2, b"semst: stopped\n")
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield                                   # ignored, as in a background job, or the caller's
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int | None:
    "Run the command line; its exit code."
    if sys.argv[1:] == ["--version"]:
        print(f"semst {__version__}")
        return 0
    with quiet_stop():
        from .cli import main as command_line      # torch takes two seconds to import

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
