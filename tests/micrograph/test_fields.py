"""The images of a file, and where each lay on the stage."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dlm_fiji.errors import InputError
from dlm_fiji.micrograph import fields_of, from_array, open_image, save_image

write_nd2 = runpy.run_path(str(Path(__file__).with_name("vendor_files.py")))["write_nd2"]


def test_other_files_hold_one_image(tmp_path):
    save_image(np.ones((8, 9), np.uint8), tmp_path / "a.png")
    save_image(from_array(np.ones((8, 9), np.uint8), 0.5, stage_um=(3.0, 4.0)), tmp_path / "b.tif")
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(np.ones((8, 9), np.uint8))
        file.write(np.ones((4, 4), np.uint8))  # a thumbnail
    (png,), (ours,), (slide,) = (fields_of(tmp_path / name) for name in ("a.png", "b.tif", "slide.tif"))
    assert (png.name, png.stage_um, png.pixel_um) == ("a.png", None, None)
    assert (ours.stage_um, ours.pixel_um) == ((3.0, 4.0), (0.5, 0.5))
    assert (slide.series, slide.count) == (0, 1)
    with pytest.raises(InputError, match="does not exist"):
        fields_of(tmp_path / "gone.tif")


def test_images_of_an_ome_set_are_left_to_their_own_files(tmp_path):
    """Micro-Manager writes one file a position, and in each the metadata of all."""
    xml = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    for k in range(3):
        xml += (
            f'<Image ID="Image:{k}"><Pixels ID="Pixels:{k}" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="8" '
            'SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="C:0"/>'
            f'<TiffData IFD="0"><UUID FileName="p{k}.ome.tif">urn:uuid:{k}</UUID></TiffData>'
            f'<Plane TheZ="0" TheC="0" TheT="0" PositionX="{4 * k}" PositionY="1"/></Pixels></Image>'
        )
    for k in range(3):
        text = xml.replace("<OME ", f'<OME UUID="urn:uuid:{k}" ') + "</OME>"
        pixels = np.full((8, 9), k, np.uint8)
        tifffile.imwrite(tmp_path / f"p{k}.ome.tif", pixels, description=text.encode(), metadata=None)
    for k in range(3):
        (field,) = fields_of(tmp_path / f"p{k}.ome.tif")
        assert field.name == f"p{k}.ome.tif"
        assert field.stage_um == (1.0, 4.0 * k)
        assert (open_image(field.path, series=field.series).values == k).all()


def test_positions_of_a_vendors_file(tmp_path):
    pytest.importorskip("nd2")
    frames = np.arange(2 * 16 * 24, dtype=np.uint16).reshape(2, 1, 1, 16, 24)
    write_nd2(
        tmp_path / "a.nd2", frames, pixel_um=0.325, names=["a"], wavelengths_nm=[461], na=0.75,
        stage_um=[(10.0, -5.0), (20.0, 7.5)], step_um=2.0,
    )  # fmt: skip
    fields = fields_of(tmp_path / "a.nd2")
    assert [f.name for f in fields] == ["a.nd2 [0]", "a.nd2 [1]"]
    assert [f.stage_um for f in fields] == [(10.0, -5.0), (20.0, 7.5)]
    assert fields[0].pixel_um == (0.325, 0.325)
