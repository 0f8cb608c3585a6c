"""Fiji's scripts run by Jython 2.7 with ImageJ 1.54p against the real service in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.micrograph import from_array, open_image, save_image

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "fiji_scripts"
RNG = np.random.default_rng(11)
SERVICE = "from dlm_fiji.service import serve; serve()"
JYTHON = "org.python:jython-standalone:2.7.4"
SCIJAVA = "org.scijava:scijava-common:2.99.2"


def jars_of(endpoint):
    """The jars of a Maven endpoint, fetched once."""
    import jgo
    import jgo.maven
    import requests

    try:
        environment = jgo.build(
            endpoint=endpoint, repositories={}, resolver=jgo.maven.PythonResolver(lenient=True), update=False
        )
    except (requests.RequestException, RuntimeError, OSError) as error:
        pytest.skip(f"{endpoint} cannot be fetched from Maven Central: {error}")
    found = [*environment.modules_dir.glob("*.jar"), *environment.jars_dir.glob("*.jar")]
    if not found:
        pytest.skip(f"{endpoint} cannot be fetched from Maven Central")
    return [str(jar) for jar in found]


@pytest.fixture(scope="module")
def java():
    from dlm_fiji.errors import SetupError
    from dlm_fiji.fiji import embedded
    from dlm_fiji.fiji.java import choose_java

    try:
        jars = [str(jar) for jar in embedded.jars()]
    except SetupError as error:
        pytest.skip(str(error))
    home = choose_java().home
    classpath = os.pathsep.join([*jars_of(JYTHON), jars[0]])
    options = ["-Djava.awt.headless=true", "-Xmx1g", "-Dpython.console.encoding=UTF-8"]
    return [str(home / "bin" / "java"), *options, "-cp", classpath]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small untrained networks: one for RGB, one for one channel."""
    import torch

    from dlm_fiji.inference import ModelCard, save_model
    from dlm_fiji.networks import BrightfieldNet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    for name, channels in (("rgb", 3), ("grey", 1)):
        save_model(folder / name, BrightfieldNet(scale=2.5, channels=channels, blocks=1), ModelCard.of(name=name))
    return folder


class Fiji:
    """Jython with ImageJ, and the folder in which the service's address is found."""

    def __init__(self, java, folder):
        self.java, self.folder, self.state = java, folder, folder / "state"
        self.environment = {
            **os.environ,
            "DLM_FIJI_STATE": str(self.state),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, cases, **environment):
        number = len(list(self.folder.glob("out*")))
        out = self.folder / f"out{number}"
        out.mkdir()
        task = {"lib": str(SCRIPTS / "Lib"), "scripts": str(SCRIPTS), "out": str(out), "cases": cases}
        (out / "task.json").write_text(json.dumps(task))
        harness = Path(__file__).with_name("jython_harness.py")
        command = [
            *self.java,
            "org.python.util.jython",
            "-Dpython.cachedir.skip=true",
            str(harness),
            str(out / "task.json"),
        ]
        process = subprocess.Popen(
            command, env=self.environment | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return process, out

    def run(self, cases, **environment):
        return self.answers(*self.start(cases, **environment))

    @staticmethod
    def answers(process, out):
        said, _ = process.communicate(timeout=400)
        assert (out / "answers.json").exists(), said
        return {answer["name"]: answer for answer in json.loads((out / "answers.json").read_text())}

    def service(self):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert "http" in process.stdout.readline()
        return process


@pytest.fixture(scope="module")
def fiji(java, tmp_path_factory):
    return Fiji(java, tmp_path_factory.mktemp("fiji"))


@pytest.fixture
def service(fiji):
    process = fiji.service()
    yield process
    process.kill()
    process.stdout.close()
    process.wait()
    (fiji.state / "service.json").unlink(missing_ok=True)


def integers(shape, dtype):
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@pytest.fixture
def pictures(tmp_path):
    def save(name, image):
        save_image(image, tmp_path / name)
        return str(tmp_path / name)

    hyperstack = from_array(
        integers((2, 3, 30, 40, 2), np.uint16), 0.5, dims=("t", "z", "y", "x", "c"), z_step_um=1.5, channels=["a", "b"]
    ).assign_coords(t=("t", [0.0, 2.0], {"units": "s"}))
    return {
        "8-bit": save("an 8-bit image.tif", from_array(integers((40, 52), np.uint8), 0.5)),
        "16-bit": save("16.tif", from_array(integers((40, 52), np.uint16), 0.5)),
        "rgb": save("rgb.tif", from_array(integers((40, 52, 3), np.uint8), 0.5)),
        "stack": save(
            "stack.tif", from_array(integers((4, 30, 40), np.uint8), 0.5, dims=("z", "y", "x"), z_step_um=2.0)
        ),
        "hyperstack": save("hyper.tif", hyperstack),
        "large": save("large.tif", from_array(integers((1500, 1500, 3), np.uint8), 0.5)),
    }


def test_every_kind_of_image_comes_back_enhanced(fiji, service, models, pictures):
    from dlm_fiji.steps import enhance

    def case(name, kind=None, model="rgb", **more):
        variables = {
            "dlm_model": str(models / model),
            "dlm_passes": 1,
            "dlm_backend": "torch",
            **more.pop("variables", {}),
        }
        image = {"path": pictures[kind or name], "title": name, **more.pop("image", {})}
        return {"name": name, "script": "Enhance_.py", "image": image, "variables": variables, **more}

    answers = fiji.run(
        [
            case("8-bit"),
            case("16-bit"),
            case("rgb"),
            case("selection", "rgb", image={"roi": [6, 4, 20, 16]}),
            case("stack"),
            case("slice", "stack", image={"position": [1, 3, 1]}, variables={"whole_stack": False}),
            case("hyperstack", model="grey", image={"composite": True}),
            {**case("file", "8-bit"), "image": None, "variables": {
                "dlm_model": str(models / "rgb"), "input": pictures["8-bit"], "dlm_backend": "torch",
                "output": str(fiji.folder / "written here.tif")}},
        ]
    )  # fmt: skip
    for name, answer in answers.items():
        assert "traceback" not in answer, answer["traceback"]
        assert answer["messages"] == [], (name, answer["messages"])
        result = answer["result"]
        assert result["pixel"][:2] == pytest.approx([0.2, 0.2], rel=1e-6), name
        assert result["unit"] in ("micron", "µm", "um"), name
        assert result["title"].endswith(" [enhanced]"), name

    def values(name):
        return open_image(answers[name]["result"]["path"]).values

    for name in ("8-bit", "16-bit", "rgb"):
        expected = enhance(open_image(pictures[name]), str(models / "rgb"), backend="torch")
        np.testing.assert_array_equal(values(name), expected.values, err_msg=name)
    assert (answers["8-bit"]["result"]["bits"], answers["16-bit"]["result"]["bits"]) == (8, 16)
    assert answers["rgb"]["result"]["bits"] == 24

    selection = answers["selection"]
    assert selection["result"]["dimensions"] == [50, 40, 1, 1, 1]
    assert selection["result"]["origin"] == pytest.approx([-15, -10])
    assert selection["roi_kept"]
    cut = open_image(pictures["rgb"])[:, 4:20, 6:26]
    np.testing.assert_array_equal(values("selection"), enhance(cut, str(models / "rgb"), backend="torch").values)

    assert answers["stack"]["result"]["dimensions"] == [100, 75, 1, 4, 1]
    assert answers["stack"]["result"]["pixel"][2] == pytest.approx(2.0)
    np.testing.assert_array_equal(values("slice"), values("stack")[2])

    hyper = answers["hyperstack"]["result"]
    assert hyper["dimensions"] == [100, 75, 2, 3, 2]
    assert hyper["composite"]
    assert hyper["luts"] == [[255, 0, 0], [0, 255, 0]]
    assert hyper["pixel"][2] == pytest.approx(1.5)
    assert hyper["interval"] == pytest.approx(2.0)
    expected = enhance(open_image(pictures["hyperstack"]), str(models / "grey"), backend="torch")
    np.testing.assert_array_equal(values("hyperstack"), expected.values)
    np.testing.assert_array_equal(open_image(fiji.folder / "written here.tif").values, values("8-bit"))


def test_the_other_scripts(fiji, service, models, pictures, tmp_path):
    from skimage import data

    sharp = from_array(data.camera()[100:200, 100:200], 0.25)
    coarse = from_array(data.camera()[100:200, 100:200].reshape(50, 2, 50, 2).mean((1, 3)).astype(np.uint8), 0.5)
    for name, image in (("sharp", sharp), ("coarse", coarse)):
        save_image(image, tmp_path / f"{name}.tif")
    answers = fiji.run(
        [
            {"name": "deconvolve", "script": "Deconvolve_.py", "image": {"path": pictures["16-bit"]},
             "variables": {"dlm_iterations": 3, "dlm_na": 0.4}},
            {"name": "compare", "script": "Compare_with_Richardson-Lucy_.py", "image": {"path": pictures["rgb"]},
             "variables": {"dlm_model": str(models / "rgb"), "dlm_iterations": 2}},
            {"name": "error map", "script": "Error_Map_.py", "image": {"path": str(tmp_path / "sharp.tif")},
             "others": [{"path": str(tmp_path / "coarse.tif"), "title": "the reference"}],
             "variables": {"reference": "the reference"}},
            {"name": "models", "script": "Models_.py"},
            {"name": "status", "script": "Service_Status_.py"},
            {"name": "stitch", "script": "Stitch_and_Enhance_Folder_.py", "variables": {"dlm_folder": str(tmp_path)}},
            {"name": "train", "script": "Train_.py", "variables": {"dlm_config": "/no/such.toml", "dlm_output": "/no"}},
        ]
    )  # fmt: skip
    for name, answer in answers.items():
        assert "traceback" not in answer, (name, answer["traceback"])
    assert answers["deconvolve"]["result"]["title"].endswith("[deconvolved]")
    assert answers["deconvolve"]["result"]["pixel"][0] == pytest.approx(0.5)
    assert answers["compare"]["result"]["labels"] == ["bicubic", "richardson_lucy", "network"]
    assert answers["compare"]["result"]["dimensions"][:2] == [130, 100]
    assert answers["error map"]["result"]["dimensions"][:2] == [100, 100]
    assert answers["error map"]["result"]["bits"] == 32
    assert "brightfield-x2.5" in answers["models"]["result"]
    assert "runs at http://127.0.0.1" in answers["status"]["messages"][0]
    assert "may not use" in answers["stitch"]["messages"][0]
    assert "may not use" in answers["train"]["messages"][0]


def test_escape_cancels_and_refusals_are_one_sentence(fiji, service, models, pictures):
    small, large = {"path": pictures["rgb"]}, {"path": pictures["large"]}
    slow = {"dlm_model": str(models / "rgb"), "dlm_passes": 2, "dlm_backend": "torch"}
    answers = fiji.run(
        [
            {"name": "escape", "script": "Enhance_.py", "image": large, "variables": slow, "escape": 3},
            {"name": "no image", "script": "Enhance_.py", "variables": slow},
            {"name": "no file", "script": "Enhance_.py", "variables": {**slow, "input": "/no/such image.tif"}},
            {"name": "no model", "script": "Enhance_.py", "image": small, "variables": {"dlm_model": "brightfeild"}},
            {"name": "range", "script": "Enhance_.py", "image": small, "variables": {**slow, "dlm_passes": 99}},
            {"name": "channels", "script": "Enhance_.py", "image": {"path": pictures["hyperstack"]}, "variables": slow},
            {"name": "no reference", "script": "Error_Map_.py", "image": small, "variables": {"reference": "nothing"}},
        ]
    )
    for name, answer in answers.items():
        assert "traceback" not in answer, (name, answer["traceback"])
        assert answer["result"] is None, name
    assert answers["escape"]["messages"] == []
    for name, said in {
        "no image": "no image open",
        "no file": "no file /no/such image.tif",
        "no model": "brightfield-x2.5",
        "range": "passes",
        "channels": "channels",
        "no reference": "no image 'nothing'",
    }.items():
        assert len(answers[name]["messages"]) == 1, name
        assert said in answers[name]["messages"][0], name
        assert "\n" not in answers[name]["messages"][0]
    # The service works on after a cancel.
    again = fiji.run(
        [{"name": "again", "script": "Enhance_.py", "image": small, "variables": {**slow, "dlm_passes": 1}}]
    )
    assert again["again"]["result"] is not None


def test_service_killed_during_a_job(fiji, service, models, pictures):
    variables = {"dlm_model": str(models / "rgb"), "dlm_passes": 2, "dlm_backend": "torch"}
    cases = [{"name": "killed", "script": "Enhance_.py", "image": {"path": pictures["large"]}, "variables": variables}]
    process, out = fiji.start(cases)
    address = json.loads((fiji.state / "service.json").read_text())
    import httpx

    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{address['port']}/health").json()["busy"]:
                break
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    service.kill()
    answer = fiji.answers(process, out)["killed"]
    assert "traceback" not in answer, answer["traceback"]
    assert answer["messages"] == [
        "The dlm_fiji service does not answer any more; run the command again to start it anew."
    ]


def test_wrong_token(fiji, service, models, pictures):
    path = fiji.state / "service.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "wrong"}))
    case = {
        "name": "token",
        "script": "Enhance_.py",
        "image": {"path": pictures["rgb"]},
        "variables": {"dlm_model": "x"},
    }
    answer = fiji.run([case])["token"]
    assert "token is wrong" in answer["messages"][0]


def test_no_service_and_no_interpreter_and_then_one(fiji, models, pictures, tmp_path):
    variables = {"dlm_model": str(models / "rgb"), "dlm_backend": "torch"}
    case = {"name": "start", "script": "Enhance_.py", "image": {"path": pictures["8-bit"]}, "variables": variables}
    status = {"name": "status", "script": "Service_Status_.py"}
    answers = fiji.run([case, status])
    assert "install-scripts" in answers["start"]["messages"][0]
    assert "does not run" in answers["status"]["messages"][0]
    assert "is not there" in fiji.run([case], DLM_FIJI_PYTHON="/no/python")["start"]["messages"][0]

    # An interpreter that starts the service as 'python -m dlm_fiji serve --idle 30' does.
    starter = tmp_path / "python with blank"
    code = "import sys; assert sys.argv[1:] == ['-m', 'dlm_fiji', 'serve', '--idle', '30']; "
    code += "from dlm_fiji.service import serve; serve(idle_minutes=0.2)"
    starter.write_text(f"#!{sys.executable}\n{code}\n")
    starter.chmod(0o755)
    answer = fiji.run([case], DLM_FIJI_PYTHON=str(starter))["start"]
    assert answer["messages"] == []
    assert answer["result"]["title"].endswith("[enhanced]")


def test_the_parameter_lines_are_those_of_the_settings_classes():
    from dlm_fiji.service.operations import OPERATIONS
    from dlm_fiji.service.script_parameters import SCRIPTS as WITH_SETTINGS
    from dlm_fiji.service.script_parameters import with_parameters

    for name, (operation, leave_out) in WITH_SETTINGS.items():
        text = (SCRIPTS / name).read_text("utf-8")
        assert with_parameters(text, OPERATIONS[operation].settings, leave_out) == text, name
        assert text.isascii(), name
    assert {path.name for path in SCRIPTS.glob("*_.py")} >= set(WITH_SETTINGS)


def test_scijava_reads_the_parameter_lines(java, tmp_path):
    """The real parser of scijava-common, by way of a Java file that needs no compiler of ours."""
    program = tmp_path / "Parse.java"
    program.write_text(
        textwrap.dedent("""
        import java.io.File;
        import org.scijava.Context;
        import org.scijava.module.ModuleItem;
        import org.scijava.script.ScriptInfo;
        public class Parse {
            public static void main(String[] paths) throws Exception {
                Context context = new Context();
                for (String path : paths) {
                    ScriptInfo info = new ScriptInfo(context, new File(path));
                    info.inputs();  // reads the file
                    System.out.println("SCRIPT|" + new File(path).getName() + "|" + info.getMenuPath() + "|"
                        + info.canRunHeadless());
                    for (ModuleItem<?> item : info.inputs())
                        System.out.println("ITEM|" + item.getName() + "|" + item.getType().getSimpleName() + "|"
                            + item.getDefaultValue() + "|" + item.getMinimumValue() + "|" + item.getMaximumValue() + "|"
                            + (item.getChoices() == null ? 0 : item.getChoices().size()));
                }
                System.exit(0);
            }
        }
        """)
    )
    import shutil

    compiler = shutil.which("javac")
    if compiler is None:
        pytest.skip("no Java compiler here")
    classpath = os.pathsep.join(jars_of(SCIJAVA))
    subprocess.run([compiler, "-cp", classpath, "-d", str(tmp_path), str(program)], check=True, capture_output=True)
    scripts = sorted(str(path) for path in SCRIPTS.glob("*_.py"))
    done = subprocess.run(
        ["java", "-cp", os.pathsep.join([str(tmp_path), classpath]), "Parse", *scripts],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    lines = [line.split("|") for line in done.stdout.splitlines()]
    found = {line[1]: line[2:] for line in lines if line[0] == "SCRIPT"}
    assert len(found) == 8, done.stdout + done.stderr
    assert all("Deep Learning Microscopy" in menu and headless == "true" for menu, headless in found.values()), found
    items = [line[1:] for line in lines if line[0] == "ITEM"]
    assert ["dlm_passes", "Integer", "1", "1", "5", "0"] in items
    assert ["dlm_iterations", "Integer", "10", "1", "500", "0"] in items
    assert any(item[0] == "dlm_backend" and item[5] == "4" for item in items)
    written = sum(len(re.findall(r"^#@ ", Path(path).read_text(), re.M)) for path in scripts)
    assert len(items) == written
