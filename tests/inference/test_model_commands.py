"""The commands predict, train, export and models, called as typer calls them."""

import numpy as np
import pytest
import torch
import typer

from dlm_fiji.cli import export, models, predict, train
from dlm_fiji.cli.train import _new_network
from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.inference import ModelCard, load_model, save_model
from dlm_fiji.micrograph import from_array, open_image, save_image
from dlm_fiji.networks import BrightfieldNet
from dlm_fiji.training import TrainingSettings


@pytest.fixture(name="call")
def command_line(capsys):
    def call(command, *arguments):
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(command)
        app([str(a) for a in arguments], standalone_mode=False)
        return "".join(capsys.readouterr())

    return call


@pytest.fixture(name="model")
def small_model(tmp_path):
    torch.manual_seed(0)
    network = BrightfieldNet(2.5, 3, blocks=1)
    return save_model(tmp_path / "model", network, ModelCard(name="small"))


def picture(path, shape=(40, 50, 3), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = np.stack([128 + 100 * np.sin(x / 4 + c + seed) * np.cos(y / 5) for c in range(3)], -1)
    save_image(from_array(values.astype(np.uint8), 0.6), path)
    return path


def test_predict_one_and_many(tmp_path, call, model):
    picture(tmp_path / "in" / "a.tif")
    picture(tmp_path / "in" / "b.tif", seed=1)
    common = ("--model", model, "--backend", "torch", "--device", "cpu")
    said = call(predict.command, tmp_path / "in" / "a.tif", tmp_path / "out.tif", *common)
    assert "Computationally enhanced" in said
    result = open_image(tmp_path / "out.tif")
    assert dict(result.sizes) == {"c": 3, "y": 100, "x": 125}
    assert float(result.x[1] - result.x[0]) == pytest.approx(0.24)
    said = call(predict.command, tmp_path / "in", tmp_path / "many", "--batch", *common)
    assert "2 done" in said
    (tmp_path / "in" / "c.tif").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 3 files failed"):
        call(predict.command, tmp_path / "in", tmp_path / "many", "--batch", *common)
    with pytest.raises(InputError, match="--batch"):
        call(predict.command, tmp_path / "in", tmp_path / "out.tif", *common)


def test_train_from_pairs_and_from_simulation(tmp_path, call):
    rng = np.random.default_rng(0)
    for k in range(3):
        label = rng.integers(0, 255, (50, 50, 3), np.uint8)
        for kind, image in (("hr", label), ("lr", label[::2, ::2][:20, :20])):
            (tmp_path / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            save_image(from_array(image), tmp_path / "pairs" / kind / f"{k}.tif")
    quick = ("--set", "steps=2", "--set", "batch=2", "--set", "patch=12", "--set", "device=cpu")
    said = call(train.command, tmp_path / "a", "--pairs", tmp_path / "pairs", *quick)
    assert "best validation loss" in said.replace("\n", "")
    assert load_model(tmp_path / "a" / "model").card.training_data.startswith(
        "3 registered pairs of pairs, validated on"
    )
    assert (tmp_path / "a" / "history.csv").exists()
    assert (tmp_path / "a" / "curves.png").exists()
    picture(tmp_path / "labels" / "one.tif", (540, 1400, 3))
    call(
        train.command,
        tmp_path / "b",
        "--simulate",
        tmp_path / "labels",
        "--preset",
        "fast",
        "--init-from",
        tmp_path / "a" / "model",
        *quick,
    )
    card = load_model(tmp_path / "b" / "model").card
    assert "simulated" in card.training_data
    assert card.pixel_um == (0.625, 0.625)
    with pytest.raises(ConfigurationError, match="either"):
        call(train.command, tmp_path / "c")
    with pytest.raises(ConfigurationError, match="did you mean 'batch'"):
        call(train.command, tmp_path / "c", "--pairs", tmp_path / "pairs", "--set", "bach=3")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_export_by_ending(tmp_path, call, model):
    said = call(export.command, model, tmp_path / "m.pt")
    assert "m.pt" in said
    assert torch.jit.load(tmp_path / "m.pt")(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 20, 20)
    with pytest.raises(ConfigurationError, match="--format"):
        call(export.command, model, tmp_path / "m.xyz")


def test_models_lists_and_recommends(tmp_path, call, model, monkeypatch):
    from dlm_fiji.inference import model_files

    monkeypatch.setattr(model_files, "_shipped_places", lambda: [model.parent])
    assert "bright field" in call(models.command)
    assert '"name": "small"' in call(models.command, "--json")
    said = call(models.command, "--for", picture(tmp_path / "x.tif"))
    assert "small suits" in said or "model suits" in said
    monkeypatch.setattr(model_files, "_shipped_places", list)
    with pytest.raises(Exception, match="No models"):
        call(models.command)


def fluorescent(path, seed=0, shape=(200, 240)):
    """A sharp 16-bit plane of lines on a dark background."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = 300 + 9000 * (np.sin(x / 4 + np.sin(y / 9) + seed) > 0.8) + rng.normal(0, 60, shape)
    save_image(from_array(values.astype(np.uint16), 0.1), path)


def test_gan_from_sharp_labels_alone_and_resumed(tmp_path, call):
    fluorescent(tmp_path / "labels" / "one.tif")
    fluorescent(tmp_path / "labels" / "two.tif", 1)
    common = ("--simulate", tmp_path / "labels", "--preset", "widefield-gan", "--init-from", "fluorescence-x2-gan")
    common += ("--set", "batch=2", "--set", "patch=32", "--set", "crop=64", "--set", "validation_patches=2")
    common += ("--set", "na=0.4,0.6", "--set", "validate_every=1", "--set", "keep=last", "--set", "device=cpu")
    common += ("--set", "discriminator=fast")
    call(train.command, tmp_path / "whole", *common, "--set", "steps=3")
    call(train.command, tmp_path / "parts", *common, "--set", "steps=2")
    call(train.command, tmp_path / "parts", *common, "--set", "steps=3", "--resume")
    whole, parts = (load_model(tmp_path / name / "model") for name in ("whole", "parts"))
    assert whole.sha256 == parts.sha256
    assert whole.sha256 != load_model("fluorescence-x2-gan").sha256
    assert whole.card.na == (0.4, 0.6)
    assert whole.card.pixel_um == pytest.approx((0.216, 0.216))
    assert whole.card.normalisation == "percentile"
    with pytest.raises(ConfigurationError, match=r"multiple of \d+ px"):
        call(train.command, tmp_path / "odd", *common, "--set", "patch=34")
    with pytest.raises(ConfigurationError, match=r"1, 2, 3 or 4, not by 2\.5"):
        call(train.command, tmp_path / "odd", *common[:4], "--scale", "2.5")


@pytest.mark.parametrize("preset", ["brightfield", "widefield-gan"])
def test_pairs_in_zarr_give_the_same_model(tmp_path, call, preset):
    rng = np.random.default_rng(0)
    gan = preset == "widefield-gan"
    for k in range(2):
        label = rng.integers(0, 255, (96, 112) if gan else (100, 120, 3), np.uint8)
        label[:, :20] = 7
        if gan:
            low = label.reshape(48, 2, 56, 2).mean((1, 3)).astype(np.uint8)
        else:
            low = label[::5, ::5].repeat(2, 0).repeat(2, 1)
        for kind, image in (("hr", label), ("lr", low)):
            for folder, ending in (("tiff", ".tif"), ("zarr", ".ome.zarr")):
                (tmp_path / folder / kind).mkdir(parents=True, exist_ok=True)
                save_image(from_array(image), tmp_path / folder / kind / f"{k}{ending}")
    quick = ("--preset", preset, "--set", "steps=2", "--set", "batch=2", "--set", "device=cpu", "--set", "keep=last")
    if gan:
        quick += ("--init-from", "fluorescence-x2", "--set", "discriminator=fast")
    quick += ("--set", "patch=16") if gan else ("--set", "patch=12")
    for folder in ("tiff", "zarr"):
        call(train.command, tmp_path / folder / "out", "--pairs", tmp_path / folder, *quick)
    one, two = (load_model(tmp_path / folder / "out" / "model") for folder in ("tiff", "zarr"))
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_content_preset_keeps_means_and_the_papers_do_not():
    made = {name: _new_network(2, 1, True, TrainingSettings.preset(name)) for name in ("content", "widefield-gan")}
    assert made["content"].keep_means == 9
    assert made["widefield-gan"].keep_means == 0
    with pytest.raises(ConfigurationError, match="odd"):
        _new_network(2, 1, True, TrainingSettings.of(keep_means=4))
