"""Pairs on the disk give the patches that the same pairs in memory give, and are not read whole."""

from contextlib import ExitStack

import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import PyramidWriter, open_region_reader
from dlm_fiji.training import TrainingSettings, extract_patches, scaled_pair, scaled_stored_pair

SETTINGS = TrainingSettings(patch=12, batch=4, overlap=0.4, seed=2)


def pair(seed=0, shape=(50, 74), dtype=np.uint8, scale=2.5, channels=3):
    """A label with an empty corner and its reduction, in the values of the type."""
    rng = np.random.default_rng(seed)
    label = rng.random((int(shape[0] * scale), int(shape[1] * scale), channels), np.float32)
    label[:60, :60] = 0.3
    full = {"uint8": 255, "uint16": 65535, "float32": 1}[np.dtype(dtype).name]
    lr = label[:: int(scale), :: int(scale)][: shape[0], : shape[1]]
    images = [(image * full).astype(dtype) for image in (lr, label)]
    return [image if channels > 1 else image[..., 0] for image in images]


@pytest.fixture(name="stored")
def pairs_on_disk():
    with ExitStack() as stack:

        def write(folder, images, ending=".ome.zarr"):
            folder.mkdir(exist_ok=True)
            readers = []
            for name, image in zip(("lr", "hr"), images, strict=True):
                with PyramidWriter(folder / f"{name}{ending}", image.shape, image.dtype, tile=64) as writer:
                    writer.write(0, 0, image)
                readers.append(stack.enter_context(open_region_reader(folder / f"{name}{ending}")))
            return tuple(readers)

        yield write


@pytest.mark.parametrize(
    ("types", "ending"),
    [(("uint8", "uint8"), ".zarr"), (("uint16", "uint8"), ".zarr"), (("float32",), ".zarr"), (("uint8",), ".tif")],
)
def test_patches_are_those_of_arrays(tmp_path, stored, types, ending):
    pairs = [pair(k, dtype=np.dtype(name)) for k, name in enumerate(types)]
    memory = extract_patches(pairs, SETTINGS)
    disk = extract_patches([stored(tmp_path / str(k), p, ending) for k, p in enumerate(pairs)], SETTINGS)
    assert disk.left_out == memory.left_out > 0
    assert len(disk) == len(memory)
    for step in (0, 30):
        for a, b in zip(memory.batch(step), disk.batch(step), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_label_is_read_in_blocks(tmp_path, stored):
    lr, hr = stored(tmp_path, pair(shape=(50, 400)))
    largest = 0
    original = hr.read

    def read(y0, y1, x0, x1):
        nonlocal largest
        largest = max(largest, (y1 - y0) * (x1 - x0))
        return original(y0, y1, x0, x1)

    hr.read = read
    found = extract_patches([(lr, hr)], SETTINGS)
    assert largest < 0.6 * hr.shape[0] * hr.shape[1]
    largest = 0
    found.batch(3)
    assert largest == 30 * 30


def test_fluorescence_pairs_are_scaled_alike(tmp_path, stored):
    low, label = pair(3, (64, 80), np.dtype(np.uint16), scale=2, channels=1)
    label = np.where(label > 30000, label, 100).astype(np.uint16)
    low = label.reshape(64, 2, 80, 2).mean((1, 3)).astype(np.uint16)
    memory = scaled_pair(low, label)
    disk = scaled_stored_pair(*stored(tmp_path, (low, label)))
    for a, b in zip(memory, disk, strict=True):
        np.testing.assert_allclose(a[8:40, 5:50, 0], b.read(8, 40, 5, 50), atol=1e-3)
    settings = TrainingSettings.of(SETTINGS, patch=16)
    kept = [extract_patches([p], settings, 2, values="as is") for p in (memory, disk)]
    assert kept[0].left_out == kept[1].left_out
    for a, b in zip(kept[0].batch(1), kept[1].batch(1), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_sentences(tmp_path, stored):
    lr, hr = stored(tmp_path / "a", pair())
    with pytest.raises(InputError, match=r"Pair 1: the label has 74×50 pixels, expected are 185×125"):
        extract_patches([(lr, lr)], SETTINGS)
    with pytest.raises(InputError, match="no field has 60 pixels"):
        extract_patches([(lr, hr)], TrainingSettings())
    images = pair(dtype=np.dtype(np.float32))
    images[1][3, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        extract_patches([stored(tmp_path / "b", images)], SETTINGS)


def test_empty_patches_of_fluorescence_pairs_are_left_out():
    label = np.zeros((64, 64, 1), np.float32)
    label[:, 32:] = np.random.default_rng(0).random((64, 32, 1)) * 255
    label[:, :32] += 2  # two of 255: below the least contrast by its mean and its noise
    found = extract_patches([(label[::2, ::2], label)], TrainingSettings(patch=8, overlap=0), 2, values="as is")
    assert found.left_out == 8
    assert len(found) == 8
