"""Classic computer-vision papers as small, tested PyTorch files: one paper, one
module."""

__version__ = "0.1.0"
