"""Measures on the simulated instrument and the fluorescence comparison, small, with what must hold of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dlm_fiji.errors import InputError
from dlm_fiji.inference import ModelCard, save_model
from dlm_fiji.micrograph import from_array, open_image, provenance, save_image
from dlm_fiji.networks import FluorescenceGenerator
from dlm_fiji.pipeline.characterising import characterise
from dlm_fiji.pipeline.comparing_fluorescence import compare_fluorescence_image
from dlm_fiji.steps.characterisation import Instrument
from dlm_fiji.steps.fluorescence_area import enlargement, unit_label


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_better_lens_is_sharper_and_has_less_depth() -> None:
    instrument = Instrument()
    dot = np.full((120, 120, 3), 0.9, np.float32)
    dot[58:62, 58:62] = 0.1
    sharp, defocused = instrument.label(dot), instrument.label(dot, 5.0)
    assert sharp.min() < defocused.min() - 30
    low, low_defocused = instrument.low(dot), instrument.low(dot, 5.0)
    assert low.shape == (48, 48, 3)
    # The dot keeps more of its contrast with the smaller aperture.
    kept = [(a.max() - float(b.min())) / (a.max() - float(a.min())) for a, b in
            ((sharp, defocused), (low, low_defocused))]  # fmt: skip
    assert kept[1] > kept[0]


def test_depth_and_runtime_are_written(tmp_path: Path) -> None:
    page = characterise(
        "brightfield-x2.5", tmp_path / "run", measures=("depth", "runtime"), planes=3, depth_um=3.0, sides=(48,)
    )
    rows = table(tmp_path / "run" / "measures" / "depth_of_field.csv")
    assert [float(row["defocus_um"]) for row in rows] == [-3, 0, 3]
    middle = rows[1]
    assert float(middle["label"]) == pytest.approx(1, abs=1e-6)
    assert float(middle["network"]) > float(middle["input"]) > 0.5
    assert float(table(tmp_path / "run" / "measures" / "runtime.csv")[0]["seconds"]) > 0
    text = page.read_text(encoding="utf-8")
    assert "Simulated instrument" in text
    assert "Depth of field" in text
    assert "Contrast out of focus" in text
    assert "Time by image size" in text


@pytest.fixture
def pair(tmp_path: Path, filaments: Callable[..., np.ndarray]) -> tuple[Path, Path]:
    """Filaments through a good lens, and the same blurred, with noise."""
    rng = np.random.default_rng(2)
    sharp = np.minimum(filaments(rng, 160, 40, 60), 1)
    label = gaussian_filter(sharp, 1.0)
    wide = rng.poisson(gaussian_filter(sharp, 2.1) * 4000 + 50).astype(np.float32)
    paths = tmp_path / "wide.tif", tmp_path / "label.tif"
    save_image(from_array(wide, 0.1), paths[0])
    save_image(from_array(label.astype(np.float32), 0.1), paths[1])
    return paths


def test_a_fluorescence_pair_needs_no_model(pair: tuple[Path, Path], tmp_path: Path) -> None:
    page = compare_fluorescence_image(*pair, tmp_path / "run", iterations=25, sigma=1.8)
    metrics = json.loads((tmp_path / "run" / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
    area = metrics["test_area"]
    assert area["richardson_lucy"]["ssim"] > area["unprocessed"]["ssim"] + 0.05
    assert area["richardson_lucy"]["iterations"] > 1
    assert area["unprocessed"]["frc_px"] > 0
    text = page.read_text(encoding="utf-8")
    assert "the input as it is" in text
    trust = json.loads((tmp_path / "run" / "trust" / "trust.json").read_text(encoding="utf-8"))
    assert "σ 1.8 px, as given" in trust["judged_by"]
    assert trust["test_area"]["label"]["flagged_share"] < 0.02
    assert set(trust["test_area"]) == {"label", "richardson_lucy"}
    assert "without a label" in text
    assert "Left out" not in text
    tried = [int(row["iterations"]) for row in table(tmp_path / "run" / "deconvolve" / "search.csv")]
    assert tried == [*range(1, 21), 22, 24, 25]


def test_a_model_gets_the_image_reduced_to_its_scale(pair: tuple[Path, Path], tmp_path: Path) -> None:
    network = FluorescenceGenerator(2, (4, 8))
    card = ModelCard(
        name="tiny",
        architecture="FluorescenceGenerator",
        config=network.config,
        scale=2.0,
        channels=1,
        normalisation="percentile",
    )
    save_model(tmp_path / "model", network, card)
    save_model(tmp_path / "other", network, card.model_copy(update={"name": "twin"}))
    page = compare_fluorescence_image(
        *pair, tmp_path / "run", str(tmp_path / "model"), iterations=3, sigma=1.8, others=[str(tmp_path / "other")]
    )
    rows = table(tmp_path / "run" / "measures" / "cross_matrix.csv")
    assert [row["model"] for row in rows] == ["unprocessed", "richardson_lucy", "tiny", "twin"]
    assert rows[2]["ssim"] == rows[3]["ssim"]
    assert "Models and specimens" in page.read_text(encoding="utf-8")
    assert open_image(tmp_path / "run" / "evaluate" / "network.tif").shape[-2:] == (160, 160)
    made = provenance(tmp_path / "run" / "evaluate" / "network.tif")
    assert made is not None
    assert made["network_input"] == "the image reduced 2 times"
    metrics = json.loads((tmp_path / "run" / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
    assert -1 <= metrics["test_area"]["network"]["ssim"] <= 1


def test_bad_fluorescence_pairs_get_a_sentence(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image itself"):
        compare_fluorescence_image(pair[0], pair[0], tmp_path / "run")
    with pytest.raises(InputError, match="whole number of times"):
        enlargement(np.zeros((100, 100)), np.zeros((150, 150)))
    assert enlargement(np.zeros((50, 40)), np.zeros((100, 80))) == 2
    with pytest.raises(InputError, match="empty"):
        unit_label(np.ones((10, 10)))
    colour = tmp_path / "colour.tif"
    save_image(from_array(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), colour)
    with pytest.raises(InputError, match="emission wavelength"):
        compare_fluorescence_image(*pair, tmp_path / "run", na=1.3)
    with pytest.raises(InputError, match="one channel"):
        compare_fluorescence_image(colour, pair[1], tmp_path / "run")
