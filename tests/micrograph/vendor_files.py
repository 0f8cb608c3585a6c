"""Writers of the smallest files of vendors' formats, after the public descriptions of their layouts."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def write_stk(path: Path, planes: np.ndarray, *, pixel_um, step_um, stage_um, wavelength_nm) -> None:
    """MetaMorph STK: one IFD, the planes behind one another, UIC tags with their values elsewhere in the file."""
    planes = np.ascontiguousarray(planes, "<u2")
    count, height, width = planes.shape
    content = bytearray(struct.pack("<2sHI", b"II", 42, 0))

    def put(data: bytes) -> int:
        content.extend(bytes(-len(content) % 2))
        content.extend(data)
        return len(content) - len(data)

    def fraction(value: float) -> bytes:
        return struct.pack("<2I", round(value * 10**6), 10**6)

    pixels = put(planes.tobytes())
    text = b"um\0"
    values = {
        3: 1,  # SpatialCalibration
        4: put(fraction(pixel_um[1])),
        5: put(fraction(pixel_um[0])),
        6: put(struct.pack("<I", len(text)) + text),
        28: put(b"".join(fraction(value) for y, x in stage_um for value in (x, y))),  # StagePosition
    }
    uic1 = put(b"".join(struct.pack("<2I", *pair) for pair in values.items()))
    uic2 = put(b"".join(fraction(step_um) + struct.pack("<4I", 2459000, 0, 2459000, 0) for _ in range(count)))
    uic3 = put(fraction(wavelength_nm) * count)
    uic4 = put(struct.pack("<H", 28) + b"".join(fraction(v) for y, x in stage_um for v in (x, y)) + b"\0\0")
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, pixels), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2 * width * height),
        (33628, 4, len(values), uic1), (33629, 5, count, uic2), (33630, 5, count, uic3), (33631, 4, count, uic4),
    ]  # fmt: skip
    ifd = put(struct.pack("<H", len(tags)) + b"".join(struct.pack("<2H2I", *tag) for tag in tags) + bytes(4))
    struct.pack_into("<I", content, 4, ifd)
    path.write_bytes(content)


def write_lif(path: Path, images: list[dict]) -> None:
    """Leica LIF: XML in UTF-16, then one memory block an image. An image: name, planes (T, Z, C, H, W), and its XML."""
    elements, blocks = [], []
    for number, image in enumerate(images):
        planes = np.ascontiguousarray(image["planes"])
        t, z, c, height, width = planes.shape
        item = planes.itemsize
        plane = item * height * width
        steps = {1: (width, item), 2: (height, item * width), 3: (z, plane * c), 4: (t, plane * c * z)}
        dims = "".join(
            f'<DimensionDescription DimID="{axis}" NumberOfElements="{n}" Length="{image["length"][axis]}" '
            f'Unit="{"s" if axis == 4 else "m"}" '
            f'BytesInc="{step}"/>'
            for axis, (n, step) in steps.items()
            if n > 1
        )
        channels = "".join(
            f'<ChannelDescription Resolution="{8 * item}" LUTName="{name}" ChannelTag="0" BytesInc="{k * plane}"/>'
            for k, name in enumerate(image["channels"])
        )
        elements.append(
            f'<Element Name="{image["name"]}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
            f"<Dimensions>{dims}</Dimensions></ImageDescription>{image.get('extra', '')}</Image></Data>"
            f'<Memory Size="{planes.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
        blocks.append((f"MemBlock_{number}", planes.tobytes()))
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="project"><Data/><Memory Size="0" MemoryBlockID="none"/>'
        f"<Children>{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    with open(path, "wb") as file:
        file.write(struct.pack("<2iBi", 0x70, len(text) + 5, 0x2A, len(xml)) + text)
        for name, data in [("none", b""), *blocks]:
            file.write(struct.pack("<2iBQBi", 0x70, 18 + 2 * len(name), 0x2A, len(data), 0x2A, len(name)))
            file.write(name.encode("utf-16-le") + data)


def write_nd2(path: Path, frames: np.ndarray, *, pixel_um, names, wavelengths_nm, na, stage_um, step_um) -> None:
    """Nikon ND2, version 2.1: chunks of XML and pixels, and a map of the chunks at the end.

    ``frames`` (P, Z, C, H, W) uint16: stage positions outside, planes inside.
    """
    positions, depth, channels, height, width = frames.shape

    def xml(content: str) -> bytes:
        return f'<?xml version="1.0" encoding="UTF-8"?><variant version="1.0">{content}</variant>'.encode()

    def numbers(**values: float | str) -> str:
        kinds = {int: "lx_int32", float: "double", str: "CLxStringW", bool: "bool"}
        return "".join(
            f'<{k} runtype="{kinds[type(v)]}" value="{str(v).lower() if isinstance(v, bool) else v}"/>'
            for k, v in values.items()
        )

    def listed(*parts: str) -> str:
        return "".join(f'<i{k:010} runtype="CLxListVariant">{part}</i{k:010}>' for k, part in enumerate(parts))

    attributes = numbers(
        uiWidth=width, uiWidthBytes=2 * channels * width, uiHeight=height, uiComp=channels, uiBpcInMemory=16,
        uiBpcSignificant=16, uiSequenceCount=positions * depth, uiTileWidth=0, uiTileHeight=0, eCompression=2,
    )  # fmt: skip
    planes = "".join(
        f'<a{k} runtype="CLxListVariant">'
        + numbers(sDescription=name, uiCompCount=1, uiSampleIndex=k, uiColor=255)
        + '<pFluorescentProbe runtype="CLxListVariant"><m_EmissionSpectrum runtype="CLxListVariant">'
        + f'<pPoint runtype="CLxListVariant"><Point0 runtype="CLxListVariant">{numbers(dWavelength=float(wave))}'
        + f"{numbers(dTValue=1.0, eType=1)}</Point0></pPoint>"
        + f"{numbers(bPoints=True, uiCount=1)}</m_EmissionSpectrum></pFluorescentProbe></a{k}>"
        for k, (name, wave) in enumerate(zip(names, wavelengths_nm, strict=True))
    )
    metadata = (
        numbers(bCalibrated=True, dCalibration=pixel_um, dObjectiveNA=na, dObjectiveMag=20.0, wsObjectiveName="20x")
        + f'<sPicturePlanes runtype="CLxListVariant">{numbers(uiCount=channels)}'
        + f'<sPlaneNew runtype="CLxListVariant">{planes}</sPlaneNew></sPicturePlanes>'
    )
    inner = numbers(eType=4) + (
        '<uLoopPars runtype="CLxListVariant">'
        + numbers(uiCount=depth, dZLow=0.0, dZHigh=step_um * (depth - 1), dZStep=step_um, dZHome=0.0, iType=2)
        + "</uLoopPars>"
    )
    points = listed(*[numbers(dPosX=float(x), dPosY=float(y), dPosZ=0.0) for y, x in stage_um])
    experiment = (
        numbers(eType=2)
        + f'<uLoopPars runtype="CLxListVariant">{numbers(uiCount=positions)}'
        + f'<Points runtype="CLxListVariant">{points}</Points></uLoopPars>'
        + f'<ppNextLevelEx runtype="CLxListVariant">{listed(inner)}</ppNextLevelEx>'
    )
    chunks = {
        b"ImageAttributes!": xml(attributes),
        b"ImageMetadataSeq|0!": xml(metadata),
        b"ImageMetadata!": xml(experiment),
    }
    interleaved = np.moveaxis(frames.reshape(-1, channels, height, width), 1, -1).astype("<u2")
    for number, frame in enumerate(interleaved):
        chunks[f"ImageDataSeq|{number}!".encode()] = struct.pack("<d", number) + frame.tobytes()

    content = bytearray()

    def chunk(name: bytes, data: bytes, room: int = 0) -> int:
        start = len(content)
        name = name.ljust(room, b"\0")
        content.extend(struct.pack("<IIQ", 0x0ABECEDA, len(name), len(data)) + name + data)
        return start

    chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0"))
    table = b""
    for name, data in chunks.items():
        # Pixels begin 4096 bytes after their chunk: 16 of its head, the name with its padding, 8 of a time.
        table += name + struct.pack("<QQ", chunk(name, data, 4072), len(data))
    signature = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    at = len(content)
    chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", table + signature + struct.pack("<Q", at))
    path.write_bytes(content)
