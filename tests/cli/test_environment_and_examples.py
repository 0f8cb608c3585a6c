"""environment.yml line by line against pyproject.toml; the Slurm example run as a cluster would."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: conda-forge's names of PyPI's packages.
CONDA = {"pytorch": "torch"}


def requirement(line):
    """(name, ((sign, version), …)) of ``name >=1, <2`` or ``name>=1; marker``."""
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[.*\])?\s*([^;]*)(?:;.*)?", line.strip()).groups()
    return name.lower(), tuple(re.findall(r"([<>=!~]+)\s*([\d.]+)", bounds))


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def environment():
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_every_line_of_the_conda_environment_is_a_dependency_of_ours(project, environment):
    ours = dict(map(requirement, [*project["dependencies"], *project["optional-dependencies"]["test"]]))
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    assert environment["channels"] == ["conda-forge"]
    for line in lines:
        name, bounds = requirement(line)
        if name == "python":
            assert f"{bounds[0][0]}{bounds[0][1]}" == project["requires-python"]
        elif name != "pip":
            assert bounds == ours[CONDA.get(name, name)], line


def test_pip_installs_the_rest_from_this_folder(project, environment):
    pip = next(line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert pip == [".[test]"]
    assert "pip" in environment["dependencies"]
    assert "test" in project["optional-dependencies"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_slurm_array_shares_the_files_out_and_skips_what_is_done(tmp_path):
    images, out, tools = (tmp_path / name for name in ("my tiles", "out", "bin"))
    for folder in (images, tools):
        folder.mkdir()
    for k in range(5):
        (images / f"t {k}.tif").touch()
    # A stand-in for python: notes what it was asked for, fails for one file.
    (tools / "python").write_text(
        f'#!/bin/bash\necho "$4" >> "{tmp_path}/asked"\n[ "$(basename "$4")" = "t 3.tif" ] && exit 2\ncp "$4" "$5"\n'
    )
    (tools / "python").chmod(stat.S_IRWXU)
    script = ["bash", str(ROOT / "examples" / "slurm_array.sh"), str(images), str(out)]

    def job(number):
        slurm = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(script, env={**os.environ, **slurm, "PATH": path}, check=False).returncode

    assert [job(0), job(1)] == [0, 1]
    asked = [Path(line).name for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked == ["t 0.tif", "t 2.tif", "t 4.tif", "t 1.tif", "t 3.tif"]
    job(0), job(1)
    assert (tmp_path / "asked").read_text().splitlines()[5:] == [str(images / "t 3.tif")]


def test_the_examples_call_options_that_exist(capsys):
    from dlm_fiji.cli import main

    main(["predict", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for name in ("Snakefile", "slurm_array.sh"):
        call = re.search(r"python -m dlm_fiji predict (.*)", (ROOT / "examples" / name).read_text())
        assert set(re.findall(r"--[a-z-]+", call[1])) <= known
