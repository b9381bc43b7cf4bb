"SemST: unpaired image-to-image translation that keeps what a picture means."
__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import TrainConfig
    from .methods import PRESETS
    from .model import SemST
    from .training import train

__all__ = ["PRESETS", "SemST", "TrainConfig", "train"]

_MODULES = {"PRESETS": "methods", "SemST": "model", "TrainConfig": "config", "train": "training"}


def __getattr__(name: str):
    "`from semst import SemST`, without paying for torch when only a submodule is wanted."
    if name not in _MODULES:
        raise AttributeError(f"module 'semst' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
