from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from skimage import data

import dlm_fiji
from dlm_fiji.fiji import from_imageplus, to_imageplus
from dlm_fiji.micrograph import from_array, pixel_size_um


def test_arrays_and_imageplus_give_the_same_image() -> None:
    image = from_array(data.immunohistochemistry()[:64, :60], 0.625)
    direct = dlm_fiji.enhance(image)
    assert direct.sizes["y"] == 160
    assert direct.sizes["x"] == 150
    assert direct.attrs["provenance"]["note"] == "computationally enhanced"
    imp = dlm_fiji.enhance(to_imageplus(image, "smear"))
    assert str(imp.getTitle()) == "smear [enhanced]"
    back = from_imageplus(imp)
    np.testing.assert_array_equal(back.values, direct.values)
    assert pixel_size_um(back) == pytest.approx((0.25, 0.25))


def test_enhancing_an_array_starts_no_java() -> None:
    script = (
        "import numpy as np, sys, dlm_fiji; from dlm_fiji.micrograph import from_array;"
        "dlm_fiji.enhance(from_array(np.full((40, 40, 3), 90, np.uint8), 0.625));"
        "jpype = sys.modules.get('jpype'); sys.exit(bool(jpype and jpype.isJVMStarted()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
