"""A rehearsal of Colab: the package's wheel in a fresh environment, one notebook alone in an empty folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import nbformat, sys
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
notebook.cells.append(nbformat.v4.new_code_cell("import papernets_lite; print(papernets_lite.__file__)"))
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""


@pytest.mark.slow
def test_one_notebook_alone_with_the_wheel(tmp_path):
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never", "HOME": str(tmp_path / "home"), "TQDM_DISABLE": "1"}
    environment["UV_CACHE_DIR"] = subprocess.run(
        [uv, "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment.pop("PYTHONPATH", None)

    def run(*command: object, cwd: Path = tmp_path) -> str:
        done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    (tmp_path / "home").mkdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    run(uv, "venv", "-q", "--python", sys.executable, "fresh")
    python = tmp_path / "fresh" / "bin" / "python"
    # The pins only make the rehearsal repeatable; what Colab gets are the wheel's own lower bounds.
    run(
        uv, "pip", "install", "-q", "--python", python, "-c", ROOT / "requirements.txt", wheel, "ipykernel", "nbclient"
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(ROOT / "book" / "backbones" / "resnet.ipynb", alone)
    (alone / "run.py").write_text(RUN)
    printed = subprocess.run(
        [python, "run.py", "resnet.ipynb"], cwd=alone, env=environment, capture_output=True, text=True
    )
    assert printed.returncode == 0, printed.stderr[-3000:]
    assert str(tmp_path / "fresh") in printed.stdout, "the package came from the wheel"
