"""One pair in two parts: aligned, far enough from each other, with content; in memory and on the disk."""

import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import PyramidWriter, open_region_reader
from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator
from dlm_fiji.training import TrainingSettings, extract_patches, hold_out_area

SMALL = TrainingSettings(patch=12, min_contrast=0.0, batch=2)
NETWORKS = [BrightfieldNet(2.5, 1, blocks=1), BrightfieldNet(2, 1, blocks=2), FluorescenceGenerator(2, (2, 2))]


def places(shape, scale):
    """A pair whose values are the number of the low-resolution pixel that each is part of."""
    h, w = shape
    lr = np.arange(h * w, dtype=np.float32).reshape(h, w) / (h * w)
    rows, columns = (np.arange(round(n * scale)) / scale for n in shape)
    return lr, lr[rows.astype(int)[:, None], columns.astype(int)[None]]


def pixels(image, shape):
    """Rows and columns of the low-resolution pixels of an image made by :func:`places`."""
    return np.divmod(np.rint(np.unique(image) * shape[0] * shape[1]).astype(int), shape[1])


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{type(n).__name__}-{n.scale:g}")
@pytest.mark.parametrize("shape", [(60, 151), (203, 77), (150, 150)])
def test_parts_are_aligned_and_no_input_is_in_both(network, shape):
    lr, hr = places(shape, network.scale)
    held = hold_out_area((lr, hr), SMALL, network)
    axis = int(shape[1] >= shape[0])
    seen = [pixels(part[0], shape)[axis] for part in (held.training, held.validation)]
    assert seen[1].min() - seen[0].max() - 1 >= network.receptive_radius
    size = seen[1].max() - seen[1].min() + 1
    assert max(12, shape[axis] / 10) <= size < max(12, shape[axis] / 10) + 2 * network.grid
    assert f"its {size} {('rows', 'columns')[axis]}" in held.text
    for low, label in (held.training, held.validation):
        found = extract_patches([(low, label)], SMALL, network.scale)
        for a, b in zip(found.lr, found.hr, strict=True):  # the label of a patch is of its pixels
            assert a[0, 0] == b[0, 0]
            assert set(np.unique(b)) <= set(np.unique(a))


def test_the_first_side_with_content_is_taken():
    lr, hr = places((80, 120), 2)
    hr = np.random.default_rng(0).random(hr.shape, np.float32)
    settings = TrainingSettings.of(SMALL, min_contrast=0.02)
    network = NETWORKS[1]
    assert "columns at the right" in hold_out_area((lr, hr), settings, network).text
    hr[:, 150:] = 0.5
    assert "columns at the left" in hold_out_area((lr, hr), settings, network).text
    hr[:, :90] = 0.5
    assert "rows at the bottom" in hold_out_area((lr, hr), settings, network).text
    hr[120:] = 0.5
    assert "rows at the top" in hold_out_area((lr, hr), settings, network).text
    with pytest.raises(InputError, match="No side of the one pair has content"):
        hold_out_area((lr, 0 * hr), settings, network)


@pytest.mark.parametrize("shape", [(30, 30), (11, 400)])
def test_too_small_a_pair_is_refused(shape):
    with pytest.raises(InputError, match="too small to validate on a part of it"):
        hold_out_area(places(shape, 2), SMALL, NETWORKS[1])


def test_a_pair_on_the_disk_gives_the_same_parts(tmp_path):
    pair = places((60, 151), 2)
    readers = []
    for name, image in zip(("lr", "hr"), pair, strict=True):
        with PyramidWriter(tmp_path / f"{name}.ome.zarr", image.shape, image.dtype, tile=64) as writer:
            writer.write(0, 0, image)
        readers.append(open_region_reader(tmp_path / f"{name}.ome.zarr"))
    memory, disk = (hold_out_area(p, SMALL, NETWORKS[1]) for p in (pair, tuple(readers)))
    assert memory.text == disk.text
    for a, b in ((memory.training, disk.training), (memory.validation, disk.validation)):
        one, two = (extract_patches([p], SMALL, 2).batch(3) for p in (a, b))
        for x, y in zip(one, two, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
    for reader in readers:
        reader.close()
