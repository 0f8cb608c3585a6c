"""``train`` as a newcomer types it: one pair, other channels, options that do not go together."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from dlm_fiji.cli import main, train
from dlm_fiji.cli.train import _changes
from dlm_fiji.errors import ConfigurationError
from dlm_fiji.inference import ModelCard, load_model, save_model
from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator
from dlm_fiji.training import FluorescenceSimulation, SimulationSettings

QUICK = ["--set", "steps=2", "--set", "batch=2", "--set", "patch=12", "--set", "device=cpu"]
GAN = ["--preset", "content", "--set", "patch=16", "--set", "discriminator=fast", "--set", "min_contrast=0.001"]


def label(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def write_pairs(folder: Path, count: int = 1, channels: int = 3, scale: float = 2.5, size: int = 80, ending="tif"):
    for k in range(count):
        high = label((size, size, channels), k).squeeze()
        step = np.round((np.arange(int(size / scale)) + 0.5) * scale - 0.5).astype(int)
        low = high[step[:, None], step[None]]
        for kind, image in (("lr", low), ("hr", high)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            save_image(from_array(image, 0.5 if kind == "lr" else 0.5 / scale), folder / kind / f"{k}.{ending}")
    return folder


@pytest.fixture(name="run")
def command(capsys):
    def run(*arguments, code=0):
        assert main(["train", *map(str, arguments)]) == code
        return capsys.readouterr().err

    return run


@pytest.fixture(name="grey")
def grey_model(tmp_path):
    return save_model(tmp_path / "grey", BrightfieldNet(2.5, 1, blocks=1), ModelCard(name="grey", channels=1))


@pytest.fixture(name="generator")
def fluorescence_model(tmp_path):
    card = ModelCard(name="generator", modality="fluorescence", normalisation="percentile", scale=2, channels=1)
    return save_model(tmp_path / "generator", FluorescenceGenerator(2, (2, 2)), card)


def test_one_pair_validates_on_a_part_of_itself(tmp_path, run):
    said = run(tmp_path / "out", "--pairs", write_pairs(tmp_path / "pairs", size=120), *QUICK)
    text = "1 registered pair of pairs, validated on its 12 columns at the right, the 14 beside them left out"
    assert text in said
    card = load_model(tmp_path / "out" / "model").card
    assert card.training_data == text
    assert card.pixel_um == pytest.approx((0.5, 0.5))
    assert set(card.measured) == {"validation loss", "validation SSIM", "step"}
    assert "step 2/2: loss" in said  # what is no terminal gets lines
    assert "0:00:00 left" in said


@pytest.mark.parametrize("ending", ["tif", "ome.zarr"])
def test_one_fluorescence_pair_validates_on_a_part_of_itself(tmp_path, run, generator, ending):
    pairs = write_pairs(tmp_path / "pairs", channels=1, scale=2, size=240, ending=ending)
    said = run(tmp_path / "out", "--pairs", pairs, "--init-from", generator, *QUICK, *GAN)
    assert "validated on its 12 columns at the right" in said
    card = json.loads((tmp_path / "out" / "model" / "model.json").read_text())
    assert card["measured"]["lambda"] > 0


def test_a_start_of_other_channels_names_what_does_not_fit(tmp_path, run, grey):
    pairs = write_pairs(tmp_path / "pairs", 2)
    said = run(tmp_path / "out", "--pairs", pairs, "--init-from", grey, *QUICK)
    assert "first.weight of grey does not fit and starts anew." in said
    assert load_model(tmp_path / "out" / "model").network.config["blocks"] == 1


def test_simulation_follows_the_channels_of_the_start(tmp_path, run, grey):
    (tmp_path / "sharp").mkdir()
    iio.imwrite(tmp_path / "sharp" / "a.png", label((300, 1500, 3)))
    arguments = ("--simulate", tmp_path / "sharp", "--init-from", grey, *QUICK, "--set", "na=0.3", "--set", "pool=2")
    run(tmp_path / "out", *arguments)
    card = load_model(tmp_path / "out" / "model").card
    assert card.channels == 1
    assert card.na == (0.3, 0.3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "mse_share=0.5"], "Nothing reads mse_share with preset brightfield"),
        (["--data", "PAIRS"], "--data goes with --simulate"),
        (["--set", "scale=2"], "--scale"),
        (["--set", "steps"], "NAME=VALUE"),
        (["--scale", "2"], "0.tif: the label has 80×80 pixels, expected are 64×64"),
        (["--scale", "2.333"], "ratio of small whole numbers"),
        (["--set", "device=gpu"], "'device'"),
        (["--devices", "3"], "A batch of 2 cannot be shared by 3 devices"),
        (["--init-from", "GENERATOR"], "is a FluorescenceGenerator, preset brightfield trains a BrightfieldNet"),
        (["--init-from", "GREY", "--set", "initial=interpolation"], "Nothing reads initial with --init-from"),
        (["--preset", "content", "--scale", "2.5"], "1, 2, 3 or 4, not by 2.5"),
        (["--preset", "content", "--set", "gradient_weight=1"], "Nothing reads gradient_weight"),
        (["--validation", "NOWHERE"], "has no images in lr/"),
    ],
)
def test_sentences(tmp_path, run, grey, generator, arguments, words):
    pairs = write_pairs(tmp_path / "pairs", 2)
    places = {"PAIRS": pairs, "GREY": grey, "GENERATOR": generator, "NOWHERE": tmp_path / "nowhere"}
    said = run(tmp_path / "out", "--pairs", pairs, *QUICK, *(places.get(a, a) for a in arguments), code=2)
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said


def test_folders_that_are_none(tmp_path, run):
    pairs = write_pairs(tmp_path / "pairs", 2)
    (tmp_path / "file").write_text("x")
    assert "cannot be a folder for the model" in run(tmp_path / "file", "--pairs", pairs, *QUICK, code=2)
    (pairs / "lr" / "1.tif").unlink()
    assert "no low-resolution image for 1.tif" in run(tmp_path / "out", "--pairs", pairs, *QUICK, code=2)
    (pairs / "hr" / "0.tif").unlink()
    assert "no label for 0.tif" in run(tmp_path / "out", "--pairs", pairs, *QUICK, code=2)
    assert "goes with --pairs" in run(tmp_path / "out", "--simulate", pairs, "--validation", pairs, code=2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda image: np.stack([image] * 3), "is a stack"),
        (lambda image: np.where(image == image.max(), np.nan, image).astype(np.float32), "0.tif: The image has pixels"),
        (lambda image: np.full_like(image, 5), "0.tif: The image has one value everywhere"),
        (lambda image: 255 - image, "0.tif: The label does not look like the input"),
    ],
)
def test_spoilt_fluorescence_images_are_named(tmp_path, run, generator, spoil, words):
    pairs = write_pairs(tmp_path / "pairs", 2, channels=1, scale=2)
    path = pairs / "lr" / "0.tif"
    tifffile.imwrite(path, spoil(tifffile.imread(path)), photometric="minisblack")
    said = run(tmp_path / "out", "--pairs", pairs, "--init-from", generator, *QUICK, *GAN, code=2)
    assert words in said


def test_resume_without_a_checkpoint_says_so(tmp_path, run):
    said = run(tmp_path / "out", "--pairs", write_pairs(tmp_path / "pairs", size=120), *QUICK, "--resume")
    assert "has no checkpoint: the training starts at its first step." in said


def test_a_log_is_not_silent_between_validations(tmp_path, run, monkeypatch):
    monkeypatch.setattr(train, "SILENCE_S", 0)
    said = run(tmp_path / "out", "--pairs", write_pairs(tmp_path / "pairs", 2), *QUICK)
    assert "step 1/2: loss" in said
    assert "step 2/2: loss" in said


def test_ctrl_c_tells_how_to_go_on(tmp_path, run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    pairs = write_pairs(tmp_path / "pairs", 2)
    monkeypatch.setattr(BrightfieldNet, "forward", interrupt)
    assert "with --resume goes on from the last validation" in run(tmp_path / "out", "--pairs", pairs, *QUICK, code=130)


def test_one_value_is_a_range_without_width():
    for kind in (SimulationSettings, FluorescenceSimulation):
        assert _changes(["na=0.4"], kind) == ({}, {"na": ["0.4", "0.4"]})
    assert _changes(["zooms=1", "na=0.3,0.5", "steps=3"], SimulationSettings) == (
        {"steps": "3"},
        {"zooms": ["1"], "na": ["0.3", "0.5"]},
    )
    with pytest.raises(ConfigurationError, match="scale"):
        _changes(["scale=3"], SimulationSettings)
