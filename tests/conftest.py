"""Every test runs with shapes and dtypes of the package's signatures checked, on one
thread."""

import torch
from jaxtyping import install_import_hook

from tests import typecheck  # noqa: F401 - the hook finds it by name

install_import_hook("papernets_lite", "tests.typecheck.check")
torch.set_num_threads(1)
