"""The register step's way for serial sections; the others are compared with the service's in tests/cli."""

import numpy as np
import pytest
from skimage import data
from skimage.transform import rotate

from dlm_fiji.errors import ConfigurationError
from dlm_fiji.micrograph import from_array, to_array
from dlm_fiji.registration import tissue
from dlm_fiji.steps.alignment import align


def test_a_turned_section_in_another_stain_is_laid_on_the_reference():
    section = data.immunohistochemistry()
    other = 255 - np.clip((255 - section[..., ::-1].astype(float)) * 0.8, 0, 255)
    turned = rotate(other, 8, mode="edge", preserve_range=True)[20:500, 30:490].astype(np.uint8)
    moving, fixed = from_array(turned, 0.5), from_array(section, 0.5)
    registered, figures = align(moving, fixed, schedule="sections")
    assert registered.shape == fixed.shape
    assert abs(figures["rotation_deg"]) == pytest.approx(8, abs=0.5)
    inner = (slice(120, -120), slice(120, -120))
    laid, meant = (tissue(to_array(image))[inner].ravel() for image in (registered, fixed))
    assert np.corrcoef(laid, meant)[0, 1] > 0.9


def test_nanoj_has_no_way_for_sections():
    image = from_array(np.zeros((64, 64, 3), np.uint8), 0.5)
    with pytest.raises(ConfigurationError, match="sections"):
        align(image, image, schedule="sections", engine="fiji")
