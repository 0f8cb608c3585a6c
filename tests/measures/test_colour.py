"""CIE-94 against scikit-image."""

import numpy as np
import pytest
from skimage import color, data

from dlm_fiji.errors import InputError
from dlm_fiji.measures import cie94


@pytest.fixture(scope="module")
def images():
    a = data.astronaut()[:151, :130]
    noise = np.random.default_rng(0).normal(0, 15, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float"])
def test_equals_scikit_image(images, kind):
    a, b = images
    if kind == "uint16":
        a, b = (x.astype(np.uint16) * 257 for x in images)
    if kind == "float":
        a, b = (x / 255 for x in images)
    expected = color.deltaE_ciede94(color.rgb2lab(a), color.rgb2lab(b))
    result = cie94(a, b)
    np.testing.assert_allclose(result.map, expected, atol=2e-3)
    assert result.mean == pytest.approx(expected.mean(), abs=1e-4)
    assert result.std == pytest.approx(expected.std(), abs=1e-4)


def test_every_grey_and_primary():
    ramp = np.arange(256, dtype=np.uint8)
    a = np.zeros((4, 256, 3), np.uint8)
    a[0] = ramp[:, None]
    for channel in range(3):
        a[channel + 1, :, channel] = ramp
    b = np.roll(a, 1, axis=1)
    expected = color.deltaE_ciede94(color.rgb2lab(a), color.rgb2lab(b))
    np.testing.assert_allclose(cie94(a, b).map, expected, atol=2e-3)
    assert cie94(a, a).mean == 0


def test_bad_images_get_a_sentence(images):
    a, b = images
    with pytest.raises(InputError, match="shapes"):
        cie94(a, b[1:])
    with pytest.raises(InputError, match="RGB"):
        cie94(a[..., 0], b[..., 0])
    with pytest.raises(InputError, match="between 0 and 1"):
        cie94(a.astype(float), b.astype(float))
