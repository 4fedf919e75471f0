"""A rehearsal of Colab: a fresh environment with what Colab has, one notebook alone in
an empty folder, which installs the package by its own first cell, here from the built
wheel instead of the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import registry  # noqa: E402
import stored  # noqa: E402

RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
where = "import papernets_lite\\nprint(papernets_lite.__file__, torch.__version__)"
notebook.cells.append(nbformat.v4.new_code_cell(where))
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""


def run(*command: object, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=1200,
    )
    assert done.returncode == 0, (
        f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    environment = dict(os.environ)
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    run(*build, "--outdir", folder, ROOT, cwd=folder, environment=environment)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_all_that_runs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        requirements = next(
            archive.read(n).decode()
            for n in archive.namelist()
            if n.endswith("METADATA")
        )
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "papernets_lite").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    book = {
        f"papernets_lite/book/{folder}/{path.name}"
        for folder in ("claims", "results")
        for path in (ROOT / "book" / folder).iterdir()
    }
    assert book, "the wheel holds the claims' words and results, too"
    assert names == package | book
    assert "papernets_lite/py.typed" in names
    asked = [
        line for line in requirements.splitlines() if line.startswith("Requires-Dist:")
    ]
    assert asked
    assert not [line for line in asked if "==" in line or "<" in line], (
        "lower bounds only: Colab keeps its torch"
    )


@pytest.mark.slow
def test_one_notebook_alone_installs_the_wheel_and_runs(tmp_path, wheel):
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never", "TQDM_DISABLE": "1"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)
    run(
        uv,
        "venv",
        "-q",
        "--python",
        sys.executable,
        "fresh",
        cwd=tmp_path,
        environment=environment,
    )
    python = tmp_path / "fresh" / "bin" / "python"
    install = (
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        python,
        "-c",
        ROOT / "requirements.txt",
    )
    run(
        *install,
        wheel,
        "ipykernel",
        "nbclient",
        "pip",
        cwd=tmp_path,
        environment=environment,
    )
    run(
        uv,
        "pip",
        "uninstall",
        "-q",
        "--python",
        python,
        "papernets-lite",
        cwd=tmp_path,
        environment=environment,
    )

    # The quickest chapter, alone; only the address of its install cell is another.
    found = {path: nbformat.read(path, 4) for path in registry.built(ROOT).values()}
    path, notebook = min(
        found.items(), key=lambda item: item[1].metadata["papernets"]["seconds"]
    )
    cell = next(
        cell for cell in notebook.cells if "install" in cell.metadata.get("tags", [])
    )
    address = stored.address(ROOT)
    assert cell.source.count(address) == 1
    cell.source = cell.source.replace(address, wheel.as_uri())
    (tmp_path / "alone").mkdir()
    (tmp_path / "home").mkdir()
    nbformat.write(notebook, tmp_path / "alone" / path.name)
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")
    # Without an index: what Colab has satisfies the wheel, and nothing is fetched.
    environment |= {"HOME": str(tmp_path / "home"), "PIP_NO_INDEX": "1"}
    printed = run(
        python,
        tmp_path / "run.py",
        path.name,
        cwd=tmp_path / "alone",
        environment=environment,
    )
    file, torch_version = printed.split()[-2:]
    assert Path(file).is_relative_to(tmp_path / "fresh"), (
        "the package came from the wheel"
    )
    assert torch_version.split("+")[0] == version("torch").split("+")[0], (
        "the installation left torch as it was"
    )
    assert [p.name for p in (tmp_path / "alone").iterdir()] == [path.name], (
        "the chapter left nothing behind"
    )
