"""The installed scripts in a real Fiji: ``--headless --run``, with the service started by the script itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.cli.install_scripts import MENU, install
from dlm_fiji.micrograph import from_array, open_image, pixel_size_um, save_image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fiji(tmp_path):
    """A copy of the Fiji of DLM_FIJI_HOME (links to its files), so that nothing is written into the user's."""
    home = os.environ.get("DLM_FIJI_HOME")
    if not home:
        pytest.skip("DLM_FIJI_HOME does not name a Fiji folder")
    from dlm_fiji.fiji.runtime import check_fiji

    original = check_fiji(Path(home))
    if not any((original / "jars").glob("jython-s*.jar")):
        pytest.skip("this Fiji has no Jython")
    copy = tmp_path / "Fiji.app"
    shutil.copytree(original, copy, copy_function=os.symlink)
    for part in ("jars/Lib", str(MENU)):
        shutil.rmtree(copy / part, ignore_errors=True)
    install(copy)
    return copy


@pytest.mark.fiji
@pytest.mark.slow
def test_enhance_headless_in_fiji(fiji, tmp_path):
    from dlm_fiji.fiji.java import choose_java
    from dlm_fiji.steps import enhance

    image = from_array(np.random.default_rng(2).integers(0, 255, (60, 80, 3), dtype=np.uint8), 0.6)
    save_image(image, tmp_path / "a tile.tif")
    out = tmp_path / "enhanced.tif"
    jars = ("jars/*", "jars/bio-formats/*", "plugins/*")
    opens = [f"--add-opens=java.base/java.{part}=ALL-UNNAMED" for part in ("lang", "util")]
    command = [
        str(choose_java(fiji).home / "bin" / "java"), "-Djava.awt.headless=true", *opens, f"-Dplugins.dir={fiji}",
        f"-Dimagej.dir={fiji}", "-cp", os.pathsep.join(jars), "net.imagej.Main", "--headless", "--run",
        str(fiji / MENU / "Enhance_Image....py"),
        f'input="{tmp_path / "a tile.tif"}",output="{out}",dlm_model="brightfield-x2.5",dlm_backend="torch"',
    ]  # fmt: skip
    state = tmp_path / "state"
    environment = {**os.environ, "DLM_FIJI_STATE": str(state), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=fiji, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert out.exists(), done.stdout + done.stderr
        result = open_image(out)
        np.testing.assert_array_equal(result.values, enhance(image, "brightfield-x2.5", backend="torch").values)
        assert pixel_size_um(result) == pytest.approx((0.24, 0.24), rel=1e-5)
    finally:
        if (state / "service.json").exists():
            os.kill(json.loads((state / "service.json").read_text())["pid"], signal.SIGTERM)
