"""Simulated pairs: reproducible by step, aligned, as varied as they say; labels from folders and lists."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.microscope.virtual import VirtualMicroscope
from dlm_fiji.training import (
    SimulatedPairs,
    SimulationSettings,
    TrainingSettings,
    read_label_fields,
    read_test_fields,
)
from dlm_fiji.training.label_fields import reduced, sharpness
from dlm_fiji.training.simulated import drawn_microscope, recorded_pairs

SETTINGS = TrainingSettings(batch=3, patch=12, seed=4)
SMALL = SimulationSettings(piece=60, pool=4, renewed=1, zooms=(1.0, 0.8))


def specimen(seed=0, shape=(120, 140)):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = [128 + 100 * np.sin(x / (5 + c)) * np.cos(y / 7 + rng.random()) for c in range(3)]
    return np.stack(image, -1).astype(np.uint8)


def test_batches_depend_on_seed_and_step_only():
    fields = [(specimen(0), 1.0), (specimen(1), 2.0)]
    one, two = (SimulatedPairs(fields, SETTINGS, SMALL) for _ in range(2))
    row = [one.batch(step) for step in range(12)]
    again = two.batch(11)  # without the steps before
    for a, b in zip(row[11], again, strict=True):
        assert torch.equal(a, b)
    assert row[0][0].shape == (3, 3, 12, 12)
    assert row[0][1].shape == (3, 3, 30, 30)
    assert not torch.equal(row[0][1], row[11][1])
    other = SimulatedPairs(fields, TrainingSettings.of(SETTINGS, seed=5), SMALL)
    assert not torch.equal(other.batch(11)[0], again[0])


def test_pairs_show_the_same_place():
    quiet = SimulationSettings.of(SMALL, electrons=(1e6, 1e6), read_noise=(0.0, 0.0), blur_um=(0.0, 0.0))
    source = SimulatedPairs([(specimen(), 1.0)], SETTINGS, quiet)
    for step in range(4):
        lr, hr = source.batch(step)
        area = torch.nn.functional.interpolate(hr, size=(12, 12), mode="area")
        inner = (..., slice(1, -1), slice(1, -1))
        right = (lr - area)[inner].abs().mean()
        for shift, axis in [(1, -1), (-1, -1), (1, -2), (-1, -2)]:
            assert right < 0.7 * (lr - torch.roll(area, shift, axis))[inner].abs().mean()


def test_instruments_stay_in_their_range_and_differ():
    rng = np.random.default_rng(0)
    drawn = [drawn_microscope(SimulationSettings(), 3, rng) for _ in range(200)]
    assert all(0.3 <= m.na <= 0.5 and 0.5 * m.na <= m.condenser_na <= m.na for m in drawn)
    assert all(2500 <= m.electrons <= 40000 and 0 <= m.blur_um <= 0.16 for m in drawn)
    assert np.ptp([m.na for m in drawn]) > 0.18
    assert 0.2 < np.mean([m.blur_um == 0 for m in drawn]) < 0.5


def test_empty_and_small_labels_are_refused():
    with pytest.raises(InputError, match="pixels on a side"):
        SimulatedPairs([(specimen(shape=(50, 50)), 1.0)], SETTINGS, SMALL)
    flat = SimulatedPairs([(np.full((100, 100, 3), 200, np.uint8), 1.0)], SETTINGS, SMALL)
    with pytest.raises(InputError, match="almost empty"):
        flat.batch(0)


def test_labels_from_a_folder_and_from_a_list(tmp_path):
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (80, 100, 3), np.uint8)
    soft = np.repeat(np.repeat(specimen(shape=(40, 50)), 2, 0), 2, 1)
    iio.imwrite(tmp_path / "a.png", sharp)
    iio.imwrite(tmp_path / "b.png", soft)
    assert sharpness(sharp) > 0.5 > 0.02 > sharpness(soft)
    training, validation = read_label_fields(tmp_path)
    assert [label.shape for label, _ in training] == [(80, 80, 3), (40, 40, 3)]
    assert [label.shape for label in validation] == [(80, 20, 3), (40, 10, 3)]
    list_file = tmp_path / "list" / "labels.toml"
    list_file.parent.mkdir()
    list_file.write_text(
        '[[field]]\nfile = "a.png"\ncolumns = [10, 60]\nreduce = 2.5\nweight = 3\n'
        '[[field]]\nfile = "b.png"\nvalidation = true\n'
        '[[field]]\nfile = "b.png"\nrows = [0, 40]\nreduce = 2\ntest = true\n'
    )
    training, validation = read_label_fields(list_file, tmp_path, channels=1)
    assert training[0][0].shape == (32, 20, 1)
    assert training[0][1] == 3
    assert [label.shape for label in validation] == [(80, 100, 1)]
    assert len(training) == 1  # the test field is in neither
    assert {name: field.shape for name, field in read_test_fields(list_file, tmp_path).items()} == {
        "b.png": (20, 50, 3)
    }
    list_file.write_text('[[field]]\nfiel = "a.png"\n')
    with pytest.raises(ConfigurationError, match="did you mean 'file'"):
        read_label_fields(list_file)


def test_reduction_is_the_area_mean():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    np.testing.assert_array_equal(
        reduced(image, 2), np.rint(image.reshape(2, 2, 2, 2, 3).mean((1, 3))).astype(np.uint8)
    )


def test_recorded_pairs_are_one_instrument():
    label = specimen()
    (lr, hr), *_ = recorded_pairs([label, label], VirtualMicroscope(electrons=1e6, read_noise=0), largest=100)
    assert hr.shape == (100, 100, 3)
    assert lr.shape == (40, 40, 3)
