"""Operations on files: the options are the settings, the result is the service's to the last bit."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from dlm_fiji.cli import main
from dlm_fiji.micrograph import from_array, open_image, save_image
from dlm_fiji.micrograph.files import provenance
from dlm_fiji.service import OPERATIONS
from dlm_fiji.service.jobs import JobQueue


@pytest.fixture
def image(tmp_path):
    from skimage import data

    image = from_array(data.immunohistochemistry()[100:148, 100:160], 0.6)
    save_image(image, tmp_path / "a field.tif")
    return tmp_path / "a field.tif"


def service_result(name, settings, **images):
    """What the service's queue makes of it."""
    operation = OPERATIONS[name]
    jobs = JobQueue()
    job = jobs.submit(
        name,
        lambda job: operation.run(
            job, {k: open_image(p) for k, p in images.items()}, operation.settings.of(**settings)
        ),
    )
    while job.state in ("queued", "running"):
        time.sleep(0.02)
    jobs.close()
    assert job.state == "done", job.error
    return job.results


def test_deconvolve_is_the_services(image, tmp_path):
    assert main(["deconvolve", str(image), str(tmp_path / "o.tif"), "--iterations", "3", "--na", "0.5", "-q"]) == 0
    expected = service_result("deconvolve", {"iterations": 3, "na": 0.5}, image=image)["deconvolved"]
    result = open_image(tmp_path / "o.tif")
    np.testing.assert_array_equal(result.values, expected.values)
    assert provenance(tmp_path / "o.tif")["iterations"] == 3


def test_predict_is_the_services(image, tmp_path):
    arguments = ["predict", str(image), str(tmp_path / "o.tif"), "--backend", "torch", "--whole", "-q"]
    assert main(arguments) == 0
    expected = service_result("enhance", {"backend": "torch"}, image=image)["enhanced"]
    np.testing.assert_array_equal(open_image(tmp_path / "o.tif").values, expected.values)


def test_register_and_error_map_print_their_figures(image, tmp_path, capsys):
    grey = open_image(image).values[1]
    save_image(from_array(np.roll(grey, 2, 1), 0.6), tmp_path / "moved.tif")
    save_image(from_array(grey, 0.6), tmp_path / "fixed.tif")
    pair = [str(tmp_path / "moved.tif"), str(tmp_path / "fixed.tif")]
    assert main(["register", *pair, str(tmp_path / "r.tif"), "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["correlation_after"] > 0.9
    expected = service_result("register", {}, image=pair[0], reference=pair[1])["registered"]
    np.testing.assert_array_equal(open_image(tmp_path / "r.tif").values, expected.values)
    assert main(["error-map", *pair, str(tmp_path / "e.tif"), "-q"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["rsp"] <= 1


def test_stitch_writes_the_mosaic_and_its_enhancement(tmp_path, capsys):
    from skimage import data

    scene = np.stack([data.coins()[:120, :200]] * 3, -1)
    (tmp_path / "tiles").mkdir()
    for k in range(2):
        save_image(from_array(scene[:, 80 * k : 80 * k + 120], 0.6), tmp_path / "tiles" / f"t{k}.tif")
    arguments = ["stitch", str(tmp_path / "o.tif"), "--folder", str(tmp_path / "tiles"), "--columns", "2", "-q"]
    assert main([*arguments, "--overlap", "0.33", "--model", "brightfield-x2.5"]) == 0
    mosaic, enhanced = open_image(tmp_path / "o_mosaic.tif"), open_image(tmp_path / "o.tif")
    assert mosaic.sizes["x"] == pytest.approx(200, abs=1)
    assert enhanced.sizes["x"] == int(mosaic.sizes["x"] * 2.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--na", "9"], "less than or equal to 1.7"),
        (["--iterations", "0"], "greater than or equal to 1"),
    ],
)
def test_settings_out_of_range_are_one_sentence(image, tmp_path, capsys, arguments, said):
    assert main(["deconvolve", str(image), str(tmp_path / "o.tif"), *arguments]) == 2
    words = capsys.readouterr().err
    assert said in words
    assert words.count("\n") == 1


def test_every_field_is_an_option(capsys):
    import re

    for command, name in (("deconvolve", "deconvolve"), ("error-map", "error_map"), ("register", "register")):
        main([command, "--help"])
        shown = set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
        assert shown == {f.replace("_", "-") for f in OPERATIONS[name].settings.model_fields} | {"help", "quiet"}


def test_stitch_takes_one_file_with_stage_positions(tmp_path, capsys):
    import tifffile
    from skimage import data

    scene = data.coins()[:200, :220]
    with tifffile.TiffWriter(tmp_path / "scan.ome.tif", ome=True) as file:
        for y, x in ((0, 100), (80, 100), (0, 0)):  # the fourth field of the grid is missing
            place = {"PositionX": [0.5 * x], "PositionY": [0.5 * y]}
            metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": place}
            file.write(scene[y : y + 120, x : x + 120], metadata=metadata)
    assert main(["stitch", str(tmp_path / "o.tif"), "--folder", str(tmp_path / "scan.ome.tif"), "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] == "stage positions in the files"
    mosaic = open_image(tmp_path / "o.tif")
    np.testing.assert_array_equal(mosaic.values[:120, :220], scene[:120, :220])
