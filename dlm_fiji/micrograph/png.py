"""PNG, 8 and 16 bit, grey and RGB, with pixel size (``pHYs``) and our record (``iTXt``)."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import xarray as xr

from dlm_fiji.errors import DlmWarning, InputError
from dlm_fiji.micrograph.calibrated import pixel_size_um, to_array
from dlm_fiji.micrograph.metadata import Facts, record

__all__ = ["facts_of", "read", "write"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"dlm_fiji"


def read(path: Path) -> xr.DataArray:
    """The image of a PNG file; alpha is left out."""
    data = path.read_bytes()
    facts = facts_of(data, path)
    try:
        array = imagecodecs.png_decode(data)
    except Exception as error:
        raise InputError(f"{path} is not a readable PNG file, or is damaged; write it again.") from error
    if array.ndim == 3 and array.shape[2] in (2, 4):
        alpha = array[..., -1]
        if (alpha != np.iinfo(alpha.dtype).max).any():
            warnings.warn(f"{path} is partly transparent; transparency is ignored.", DlmWarning, stacklevel=3)
        array = array[..., 0] if array.shape[2] == 2 else array[..., :3]
    if array.ndim == 2:
        return facts.image(array, ("y", "x"))
    facts.channels = facts.channels or ["red", "green", "blue"]
    return facts.image(array, ("y", "x", "c"))


def facts_of(data: bytes, path: Path) -> Facts:
    """Pixel size and our record from the chunks of a PNG file."""
    facts = Facts()
    ended = False
    for kind, content in _chunks(data):
        if kind == b"pHYs" and facts.pixel_um is None:
            x, y, unit = struct.unpack(">IIB", content)
            if unit == 1 and x and y:
                facts.trust_resolution(1e6 / y, 1e6 / x)
        elif kind == b"iTXt" and content.startswith(_KEYWORD + b"\0"):
            facts.read_record(content[content.rfind(b"\0") + 1 :].decode("utf-8", "replace"))
        elif kind == b"IEND":
            ended = True
    if not ended:
        raise InputError(f"{path} is truncated: the PNG file has no end; copy or write it again.")
    return facts


def write(image: xr.DataArray, path: Path, provenance: dict[str, Any] | None, compression: int | None) -> None:
    """Write ``image`` to ``path``; ``compression`` is the zlib level 0–9."""
    array = to_array(image)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype.name not in ("uint8", "uint16"):
        raise InputError(f"PNG holds 8 and 16 bits, not {array.dtype}; save as .tif.")
    if array.ndim not in (2, 3) or {"t", "z"} & set(image.dims) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        sizes = " × ".join(f"{dim} {size}" for dim, size in image.sizes.items())
        raise InputError(f"PNG holds one grey or RGB image, not {sizes}; save as .tif.")
    data = imagecodecs.png_encode(np.ascontiguousarray(np.squeeze(array)), level=compression)
    head = len(_SIGNATURE) + 25  # IHDR is always first and 25 bytes long
    extra = b""
    pixel = pixel_size_um(image)
    if pixel is not None:
        per_metre = [min(round(1e6 / size), 2**31 - 1) for size in pixel]
        extra += _chunk(b"pHYs", struct.pack(">IIB", per_metre[1], per_metre[0], 1))
    extra += _chunk(b"iTXt", _KEYWORD + b"\0\0\0\0\0" + record(image, provenance).encode())
    path.write_bytes(data[:head] + extra + data[head:])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if position + 12 + length > len(data):
            return
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
