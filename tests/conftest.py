"What several tests share."
import os
import signal
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# reference numbers and photographs, kept outside the project
SHARED = Path(os.environ.get("SEMST_SHARED", ROOT.parent / "shared"))

# one device for all tests, also beside a GPU; the tests of CUDA need ACCELERATE_USE_CPU=false
os.environ.setdefault("ACCELERATE_USE_CPU", "true")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:      # so starts what a shell sends behind
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def golden():
    "Loads an archive of reference numbers as tensors; skips the test where there are none."
    import numpy as np

    def load(name):
        path = SHARED / "golden" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no reference numbers here ({path.name} is kept outside the project)")
        return {k: torch.from_numpy(v) for k, v in np.load(path).items()}
    return load


def weights(archive):
    "The `w/...` entries of an archive as a state dict."
    return {k[2:]: v for k, v in archive.items() if k.startswith("w/")}
