"""Fiji's Bio-Formats reads the vendors' files to the same pixels, sizes and places as the native readers."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.fiji import bio_formats
from dlm_fiji.micrograph import open_image, pixel_size_um

WRITERS = runpy.run_path(str(Path(__file__).parents[1] / "micrograph" / "vendor_files.py"))
pytestmark = pytest.mark.fiji


@pytest.fixture
def values():
    return np.random.default_rng(6).integers(0, 60000, (2, 3, 2, 20, 32)).astype(np.uint16)


def write(kind, path, values):
    if kind == "czi":
        czi = pytest.importorskip("pylibCZIrw.czi")
        with czi.create_czi(str(path)) as document:
            for s, z, c in np.ndindex(*values.shape[:3]):
                document.write(values[s, z, c], plane={"Z": z, "C": c}, scene=s, location=(50 * s, 0))
            document.write_metadata("a", channel_names={0: "DAPI", 1: "GFP"}, scale_x=1e-7, scale_y=2e-7, scale_z=5e-7)
    elif kind == "lif":
        pytest.importorskip("readlif")
        length = {1: 31e-7, 2: 19 * 2e-7, 3: 1e-6}
        images = [{"name": n, "planes": v[None], "length": length, "channels": ["Green", "Red"]}
                  for n, v in zip("ab", values, strict=True)]  # fmt: skip
        WRITERS["write_lif"](path, images)
    else:
        WRITERS["write_stk"](path, values[0, :, 0], pixel_um=(0.2, 0.1), step_um=0.5, stage_um=[(12.5, 100.0)] * 3,
                             wavelength_nm=525)  # fmt: skip


@pytest.mark.parametrize("kind", ["czi", "lif", "stk"])
def test_same_as_the_native_reader(imagej, tmp_path, values, kind):
    path = tmp_path / f"a field.{kind}"
    write(kind, path, values)
    for series in range(1 if kind == "stk" else 2):
        native, fiji = open_image(path, series=series), bio_formats.read(path, series)
        assert dict(fiji.sizes) == dict(native.sizes)
        np.testing.assert_array_equal(fiji.values, native.values)
        assert pixel_size_um(fiji) == pytest.approx(pixel_size_um(native))
        np.testing.assert_allclose(fiji.coords["z"], native.coords["z"])


def test_what_no_native_reader_takes_goes_to_bio_formats(imagej, tmp_path, values):
    """A LIF with a wavelength scan."""
    pytest.importorskip("readlif")
    images = [{"name": "scan", "planes": values[:1], "length": {1: 1e-6, 2: 1e-6, 3: 1e-6}, "channels": ["a", "b"]}]
    WRITERS["write_lif"](tmp_path / "a.lif", images)
    content = (tmp_path / "a.lif").read_bytes()
    scan = content.replace('DimID="3"'.encode("utf-16-le"), 'DimID="5"'.encode("utf-16-le"))
    assert scan != content
    (tmp_path / "a.lif").write_bytes(scan)
    image = open_image(tmp_path / "a.lif")
    assert (image.sizes["y"], image.sizes["x"]) == (20, 32)
    np.testing.assert_array_equal(np.sort(image.values, None), np.sort(values[:1], None))


def test_refusals(imagej, tmp_path):
    (tmp_path / "a.vsi").write_bytes(b"not a slide")
    with pytest.raises(InputError, match=r"Bio-Formats does not read .*a\.vsi"):
        open_image(tmp_path / "a.vsi")
    write("stk", tmp_path / "b.stk", np.ones((1, 3, 1, 8, 12), np.uint16))
    with pytest.raises(InputError, match="there is no number 3"):
        bio_formats.read(tmp_path / "b.stk", 3)
