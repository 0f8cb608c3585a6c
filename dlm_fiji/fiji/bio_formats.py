"""Fiji's Bio-Formats (Linkert et al. 2010, doi:10.1083/jcb.201004104): vendors' files that no Python reader takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from dlm_fiji.errors import InputError, SetupError
from dlm_fiji.fiji.macro import captured_output
from dlm_fiji.fiji.plugins import Availability, plugins_available, require
from dlm_fiji.fiji.runtime import java_class, running
from dlm_fiji.micrograph.metadata import Facts
from dlm_fiji.micrograph.tiff import ome_facts

__all__ = ["available", "read"]

#: Numbers of ``loci.formats.FormatTools``.
_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "u1")


def available() -> Availability:
    """Whether the Fiji (or the plugins folder) that is named has Bio-Formats, its version, and how to get it."""
    now = running()
    return plugins_available(None if now is None else now.settings)["bio_formats"]


def read(path: Path, series: int = 0) -> xr.DataArray:
    """The image ``series`` of any file that Bio-Formats reads.

    Parameters
    ----------
    path
        The file.
    series
        Bio-Formats' number of the image, from 0.

    Returns
    -------
    xarray.DataArray
        With pixel size, channels and optics from Bio-Formats' OME metadata.

    Raises
    ------
    SetupError
        There is no Bio-Formats, or the ImageJ that runs already has none.
    InputError
        It does not read the file, or there is no such series.
    """
    require("bio_formats")
    try:
        java_class("loci.common.DebugTools").setRootLevel("ERROR")
        factory = java_class("loci.common.services.ServiceFactory")()
        service = factory.getInstance(java_class("loci.formats.services.OMEXMLService"))
        # The separator gives red, green and blue as planes of their own.
        reader = java_class("loci.formats.ChannelSeparator")(java_class("loci.formats.ImageReader")())
    except SetupError as error:
        raise SetupError(f"{path} needs Bio-Formats, and the ImageJ that runs in this process has none.") from error
    store = service.createOMEXMLMetadata()
    reader.setMetadataStore(store)
    try:
        with captured_output():
            try:
                reader.setId(str(Path(path).absolute()))
            except Exception as error:
                reason = (str(error).splitlines() or [""])[0].rstrip(".")
                raise InputError(f"Bio-Formats does not read {path}: {reason}.") from error
        count = int(reader.getSeriesCount())
        if not 0 <= series < count:
            raise InputError(f"{path} holds {count} images; there is no number {series}.")
        reader.setSeries(series)
        array = _planes(reader)
        colour = array.shape[2] == 3 and int(reader.unwrap().getRGBChannelCount()) == 3
        facts = Facts()
        ome_facts(str(service.getOMEXML(store)), facts, series)
    finally:
        reader.close()
    if colour:
        facts.channels = ["red", "green", "blue"]
    kept = [axis for axis in range(5) if axis > 2 or array.shape[axis] > 1]
    return facts.image(array.reshape([array.shape[axis] for axis in kept]), tuple("tzcyx"[axis] for axis in kept))


def _planes(reader) -> np.ndarray:  # type: ignore[no-untyped-def]
    """All planes of the reader's series, (T, Z, C, H, W) in native byte order."""
    frames, depth, channels = (int(n) for n in (reader.getSizeT(), reader.getSizeZ(), reader.getSizeC()))
    height, width = int(reader.getSizeY()), int(reader.getSizeX())
    dtype = np.dtype(("<" if reader.isLittleEndian() else ">") + _TYPES[int(reader.getPixelType())])
    array = np.empty((frames, depth, channels, height, width), dtype.newbyteorder("="))
    for t, z, c in np.ndindex(frames, depth, channels):
        content = np.array(reader.openBytes(reader.getIndex(z, c, t)))
        array[t, z, c] = content.view(dtype).reshape(height, width)
    return array
