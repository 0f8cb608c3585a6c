"""Files of microscope vendors: pixels, calibration, channels, optics and stage positions come along."""

from __future__ import annotations

import builtins
import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.micrograph import is_image_file, open_image, pixel_size_um
from dlm_fiji.micrograph.files import format_of

_writers = runpy.run_path(str(Path(__file__).with_name("vendor_files.py")))
write_lif, write_nd2, write_stk = (_writers[f"write_{kind}"] for kind in ("lif", "nd2", "stk"))


def scene(*shape, top=60000, dtype=np.uint16):
    return np.random.default_rng(4).integers(0, top, shape).astype(dtype)


def test_stk(tmp_path):
    planes = scene(3, 20, 30)
    write_stk(
        tmp_path / "a.stk", planes, pixel_um=(0.2, 0.1), step_um=0.5, stage_um=[(12.5, 100.0)] * 3, wavelength_nm=525
    )
    image = open_image(tmp_path / "a.stk")
    assert image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(image.values, planes)
    assert pixel_size_um(image) == (0.2, 0.1)
    np.testing.assert_allclose(image.coords["z"], [0, 0.5, 1.0])
    assert image.attrs["stage_um"] == (12.5, 100.0)
    assert image.attrs["wavelength_um"] == 0.525


def test_ome_tiff_tells_its_images_apart(tmp_path):
    """Each position of a multi-field OME-TIFF has its own pixel size and place on the stage."""
    fields = [scene(16, 24), scene(16, 24, top=100)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for number, field in enumerate(fields):
            place = {"PositionX": [1000.0 * number], "PositionY": [2.0 + number]}
            units = {"PositionXUnit": ["µm"], "PositionYUnit": ["mm"]}
            tif.write(
                field, metadata={"axes": "YX", "PhysicalSizeX": 0.1 + number, "PhysicalSizeY": 0.3,
                                 "Plane": place | units},
            )  # fmt: skip
    for number, field in enumerate(fields):
        image = open_image(tmp_path / "a.ome.tif", series=number)
        np.testing.assert_array_equal(image.values, field)
        assert image.attrs["stage_um"] == (2000.0 + 1000 * number, 1000.0 * number)
        assert pixel_size_um(image) == pytest.approx((0.3, 0.1 + number))


def test_nd2(tmp_path):
    pytest.importorskip("nd2")
    frames = scene(2, 3, 2, 16, 24)
    write_nd2(
        tmp_path / "a.nd2", frames, pixel_um=0.325, names=["DAPI", "bright field"], wavelengths_nm=[461, 0], na=0.75,
        stage_um=[(10.0, -5.0), (20.0, 7.5)], step_um=2.0,
    )  # fmt: skip
    for number in range(2):
        image = open_image(tmp_path / "a.nd2", series=number)
        assert image.dims == ("z", "c", "y", "x")
        np.testing.assert_array_equal(image.values, frames[number])
        assert image.attrs["stage_um"] == [(10.0, -5.0), (20.0, 7.5)][number]
    assert pixel_size_um(image) == (0.325, 0.325)
    np.testing.assert_allclose(image.coords["z"], [0, 2, 4])
    assert list(image.coords["c"].values) == ["DAPI", "bright field"]
    assert image.attrs["wavelength_um"] == [0.461, None]
    assert (image.attrs["na"], image.attrs["magnification"], image.attrs["objective"]) == (0.75, 20.0, "20x")
    with pytest.raises(InputError, match="holds 2 images; there is no number 2"):
        open_image(tmp_path / "a.nd2", series=2)


def test_czi(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    values = scene(2, 2, 3, 2, 20, 30)  # scene, t, z, c
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for s, t, z, c in np.ndindex(*values.shape[:4]):
            document.write(values[s, t, z, c], plane={"T": t, "Z": z, "C": c}, scene=s, location=(50 * s, 0))
        document.write_metadata("a", channel_names={0: "DAPI", 1: "GFP"}, scale_x=1e-7, scale_y=2e-7, scale_z=5e-7)
    for number in range(2):
        image = open_image(tmp_path / "a.czi", series=number)
        np.testing.assert_array_equal(image.transpose("t", "z", "c", "y", "x").values, values[number])
    assert pixel_size_um(image) == (0.2, 0.1)
    np.testing.assert_allclose(image.coords["z"], [0, 0.5, 1.0])
    assert list(image.coords["c"].values) == ["DAPI", "GFP"]


def test_czi_colour(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    values = scene(20, 30, 3, top=255, dtype=np.uint8)
    with czi.create_czi(str(tmp_path / "rgb.czi")) as document:
        document.write(values[..., ::-1])  # the format's order is blue, green, red
    image = open_image(tmp_path / "rgb.czi")
    assert list(image.coords["c"].values) == ["red", "green", "blue"]
    np.testing.assert_array_equal(image.values, np.moveaxis(values, -1, 0))


def test_czi_metadata_as_zen_writes_it():
    from dlm_fiji.micrograph.vendor_formats import _czi_facts

    facts = _czi_facts(
        """<ImageDocument><Metadata><Information><Instrument><Objectives>
        <Objective Name="EC Plan-Neofluar 40x/1.30 Oil"><LensNA>1.3</LensNA>
        <NominalMagnification>40</NominalMagnification></Objective></Objectives></Instrument><Image><Dimensions>
        <Channels><Channel Id="Channel:0" Name="DAPI"><EmissionWavelength>465</EmissionWavelength></Channel>
        <Channel Id="Channel:1" Name="TL"/></Channels>
        <S><Scenes><Scene Index="0"><CenterPosition>1,2</CenterPosition></Scene>
        <Scene Index="1"><CenterPosition>-15.5,2000.25</CenterPosition></Scene></Scenes></S>
        <T><Positions><Interval><Increment>2.5</Increment></Interval></Positions></T></Dimensions></Image>
        </Information><Scaling><Items><Distance Id="X"><Value>1.1e-07</Value></Distance></Items></Scaling>
        </Metadata></ImageDocument>""",
        1,
    )
    assert facts.attrs["stage_um"] == (2000.25, -15.5)
    assert facts.attrs["wavelength_um"] == [0.465, None]
    assert (facts.attrs["na"], facts.attrs["magnification"]) == (1.3, 40.0)
    assert (facts.pixel_um, facts.t_step_s, facts.channels) == ((0.11, 0.11), 2.5, ["DAPI", "TL"])


LENGTH = {1: 29e-7, 2: 19 * 2e-7, 3: 2e-6, 4: 3.0}
SETTINGS = (
    '<Attachment Name="HardwareSetting"><ATLConfocalSettingDefinition ObjectiveName="HC PL APO   63x" Magnification='
    '"63" NumericalAperture="1.3" StagePosX="0.03" StagePosY="0.01"><DetectorList><Detector Channel="1" IsActive="1"/>'
    '<Detector Channel="2" IsActive="0"/><Detector Channel="3" IsActive="1"/></DetectorList>'
    '<Spectro><MultiBand Channel="1" LeftWorld="500" RightWorld="540"/><MultiBand Channel="2" LeftWorld="1" '
    'RightWorld="2"/><MultiBand Channel="3" LeftWorld="600" RightWorld="700"/></Spectro>'
    "</ATLConfocalSettingDefinition></Attachment>"
)


def test_lif(tmp_path):
    pytest.importorskip("readlif")
    first, second = scene(4, 3, 2, 20, 30, top=255, dtype=np.uint8), scene(1, 1, 1, 20, 30)
    images = [
        {"name": "a", "planes": first, "length": LENGTH, "channels": ["Green", "Red"], "extra": SETTINGS},
        {"name": "b", "planes": second, "length": LENGTH, "channels": ["Gray"]},
    ]
    write_lif(tmp_path / "a.lif", images)
    image = open_image(tmp_path / "a.lif")
    assert image.dims == ("t", "z", "c", "y", "x")
    np.testing.assert_array_equal(image.values, first)
    assert pixel_size_um(image) == (0.2, 0.1)
    np.testing.assert_allclose(image.coords["z"], [0, 1, 2])
    np.testing.assert_allclose(image.coords["t"], [0, 1, 2, 3])
    assert list(image.coords["c"].values) == ["Green", "Red"]
    assert image.attrs["wavelength_um"] == [0.52, 0.65]
    assert image.attrs["stage_um"] == pytest.approx((10000.0, 30000.0))
    assert (image.attrs["na"], image.attrs["objective"]) == (1.3, "HC PL APO 63x")
    np.testing.assert_array_equal(open_image(tmp_path / "a.lif", series=1).values, second[0, 0, 0])


def test_truncated_lif_is_refused(tmp_path):
    """The reader would give black images instead."""
    pytest.importorskip("readlif")
    planes = scene(1, 1, 1, 20, 30)
    images = [{"name": n, "planes": planes, "length": LENGTH, "channels": ["Gray"]} for n in "ab"]
    write_lif(tmp_path / "a.lif", images)
    content = (tmp_path / "a.lif").read_bytes()
    (tmp_path / "a.lif").write_bytes(content[: -planes.nbytes - 20] + bytes(8))
    with pytest.raises(InputError, match="damaged"):
        open_image(tmp_path / "a.lif", series=1)


vendors = pytest.mark.parametrize(
    ("name", "head", "package"),
    [
        ("a.czi", b"ZISRAWFILE", "pylibCZIrw"),
        ("a.nd2", b"\xda\xce\xbe\x0a", "nd2"),
        ("a.lif", b"\x70\0\0\0", "readlif"),
    ],
)


@pytest.fixture
def no_fiji(monkeypatch):
    monkeypatch.setattr("dlm_fiji.fiji.bio_formats.available", lambda: False)


@vendors
def test_without_reader_a_sentence_says_what_to_install(tmp_path, monkeypatch, no_fiji, name, head, package):
    (tmp_path / name).write_bytes(head.ljust(200, b"\0"))
    real = builtins.__import__

    def without(module, *rest):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return real(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SetupError, match=f"pip install {package}.*DLM_FIJI_HOME"):
        open_image(tmp_path / name)


@vendors
def test_damage_is_one_sentence(tmp_path, name, head, package):
    pytest.importorskip(package)
    (tmp_path / name).write_bytes(head.ljust(200, b"\1"))
    with pytest.raises(InputError, match=f"{name}.*not a readable") as caught:
        open_image(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_formats_that_only_bio_formats_reads(tmp_path, no_fiji):
    (tmp_path / "a.vsi").write_bytes(b"whatever")
    assert is_image_file("a.VSI")
    assert format_of(tmp_path / "a.vsi") == "other"
    with pytest.raises(SetupError, match="DLM_FIJI_HOME, whose Bio-Formats reads it"):
        open_image(tmp_path / "a.vsi")
