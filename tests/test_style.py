"At most 100 columns, one statement a line, no unused or undefined name; in notebooks, too."
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import ROOT


@pytest.mark.skipif(find_spec("ruff") is None, reason="the package `ruff` is absent")
def test_lines_statements_and_names():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    done = subprocess.run([*command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
