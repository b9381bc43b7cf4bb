"SemST: unpaired image-to-image translation that keeps what a picture means."
__version__ = "0.1.0"


def __getattr__(name):
    "`from semst import SemST`, without paying for torch when only a submodule is wanted."
    if name == "SemST":
        from semst.multiscale import SemST
        return SemST
    raise AttributeError(f"module 'semst' has no attribute {name!r}")
