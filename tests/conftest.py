"""Every test runs with shapes and dtypes of the package's signatures checked, on one thread."""

import torch
from jaxtyping import install_import_hook

install_import_hook("papernets_lite", "beartype.beartype")
torch.set_num_threads(1)
