"""Which ImageJ plugins are there, known before any Java starts, and what to do about those that are not."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dlm_fiji.errors import SetupError
from dlm_fiji.fiji.runtime import ImageJSettings, check_fiji

__all__ = ["PLUGINS", "Availability", "Plugin", "plugins_available", "require"]


@dataclass(frozen=True)
class Plugin:
    """A plugin this package calls: how to recognise its jar, what wants it, how it is installed."""

    key: str
    name: str
    #: A class inside its jar.
    marker: str
    #: What its jar is called, so that not every jar of a Fiji must be opened.
    jar: str
    step: str
    native: str
    how_to_install: str
    #: Whether it works as a loose jar under ImageJ 1.54p alone.
    needs_fiji: bool = False


@dataclass(frozen=True)
class Availability:
    """Whether one plugin can be called."""

    name: str
    present: bool
    version: str | None
    jar: Path | None
    #: The steps that call it, and what serves instead.
    step: str
    native: str
    how_to_install: str

    def __bool__(self) -> bool:
        return self.present


_JAR_FOLDER = "put {jar} into a folder and name it with --plugins or DLM_FIJI_PLUGINS, or into Fiji's 'plugins' folder"

PLUGINS: tuple[Plugin, ...] = (
    Plugin(
        "stitching",
        "Grid/Collection stitching",
        "plugin/Stitching_Grid.class",
        r"Stitching_",
        "stitch",
        "the native stitching (dlm_fiji.registration.stitch)",
        "use a Fiji folder (--fiji or DLM_FIJI_HOME): it is part of every Fiji; https://fiji.sc",
        needs_fiji=True,
    ),
    Plugin(
        "nanoj",
        "NanoJ-Core",
        "nanoj/core/java/image/registration/CrossCorrelationElastic.class",
        r"nanoj.?core",
        "register",
        "the native elastic registration (dlm_fiji.registration.register_elastic)",
        "in Fiji: Help > Update... > Manage update sites > NanoJ-Core; without Fiji: "
        + _JAR_FOLDER.format(jar="NanoJ-Core_.jar (https://github.com/HenriquesLab/NanoJ-Core)"),
    ),
    Plugin(
        "psf_generator",
        "PSF Generator",
        "psf/bornwolf/BornWolfPSF.class",
        r"psf.?generator",
        "psf",
        "the native Born & Wolf model (dlm_fiji.microscope.born_wolf)",
        _JAR_FOLDER.format(jar="PSF_Generator.jar (https://bigwww.epfl.ch/algorithms/psfgenerator)"),
    ),
    Plugin(
        "deconvolutionlab2",
        "DeconvolutionLab2",
        "deconvolution/Deconvolution.class",
        r"deconvolution.?lab",
        "deconvolve",
        "the native Richardson-Lucy (dlm_fiji.deconvolution.richardson_lucy)",
        "in Fiji: the update site BIG-EPFL; without Fiji: "
        + _JAR_FOLDER.format(jar="DeconvolutionLab_2.jar (https://bigwww.epfl.ch/deconvolution/deconvolutionlab2)"),
    ),
    Plugin(
        "ops",
        "imagej-ops",
        "net/imagej/ops/OpService.class",
        r"imagej-ops",
        "deconvolve",
        "the native Richardson-Lucy (dlm_fiji.deconvolution.richardson_lucy)",
        "use a Fiji folder (--fiji or DLM_FIJI_HOME): it is part of every Fiji; https://fiji.sc",
        needs_fiji=True,
    ),
    Plugin(
        "squirrel",
        "NanoJ-SQUIRREL",
        "nanoj/squirrel/java/gui/ErrorMap_.class",
        r"nanoj.?squirrel",
        "error map",
        "the native error map (dlm_fiji.measures.error_map)",
        "in Fiji: the update site NanoJ-SQUIRREL; without Fiji: "
        + _JAR_FOLDER.format(
            jar="NanoJ-SQUIRREL_.jar and NanoJ-Core_.jar (https://github.com/superresolusian/NanoJ-SQUIRREL)"
        ),
    ),
    Plugin(
        "edf",
        "Extended Depth of Field",
        "edfgui/ExtendedDepthOfField.class",
        r"extended.?depth|edf",
        "focus fusion",
        "the native focus fusion (dlm_fiji.microscope.fuse_focus)",
        "not part of Fiji; " + _JAR_FOLDER.format(jar="Extended_Depth_Field.jar (https://bigwww.epfl.ch/demo/edf)"),
    ),
    Plugin(
        "bio_formats",
        "Bio-Formats",
        "loci/formats/ImageReader.class",
        r"formats-api|bioformats_package|loci_tools",
        "open vendor files",
        "the native readers (python -m pip install 'dlm_fiji[formats]')",
        "use a Fiji folder (--fiji or DLM_FIJI_HOME): it is part of every Fiji; https://fiji.sc",
    ),
)


def plugins_available(settings: ImageJSettings | None = None) -> dict[str, Availability]:
    """Every plugin this package knows, by key, with what ``settings`` would give it; no Java is started.

    Parameters
    ----------
    settings
        As for ``start``. A Fiji folder that is not one counts as none: ``start`` says what is wrong with it.
    """
    wanted = ImageJSettings.of(settings).with_environment()
    jars: list[Path] = []
    fiji: Path | None = None
    if wanted.plugins is not None:
        jars += sorted(wanted.plugins.expanduser().absolute().rglob("*.jar"))
    if wanted.fiji is not None:
        try:
            fiji = check_fiji(wanted.fiji)
        except SetupError:
            fiji = None
        else:
            jars += sorted((fiji / "plugins").rglob("*.jar")) + sorted((fiji / "jars").rglob("*.jar"))
    found = {}
    for plugin in PLUGINS:
        jar = _holder(plugin, jars, fiji)
        found[plugin.key] = Availability(
            plugin.name,
            jar is not None and (fiji is not None or not plugin.needs_fiji),
            None if jar is None else _version(jar),
            jar,
            plugin.step,
            plugin.native,
            plugin.how_to_install,
        )
    return found


def require(key: str, settings: ImageJSettings | None = None) -> Availability:
    """The plugin ``key``, known to be there.

    Raises
    ------
    SetupError
        It is missing; the sentence says what serves instead and how it is installed.
    """
    from dlm_fiji.fiji.runtime import running

    now = running()
    there = plugins_available(settings if settings is not None or now is None else now.settings)[key]
    if not there.present:
        raise SetupError(
            f"The ImageJ plugin {there.name} is not installed; engine='native' uses {there.native}. "
            f"To install the plugin: {there.how_to_install}."
        )
    return there


def _holder(plugin: Plugin, jars: list[Path], fiji: Path | None) -> Path | None:
    """The jar that holds the plugin; only those in Fiji's crowded ``jars`` folder are chosen by name."""
    named = re.compile(plugin.jar, re.IGNORECASE)
    for jar in jars:
        crowded = fiji is not None and jar.is_relative_to(fiji / "jars")
        if (not crowded or named.search(jar.name)) and plugin.marker in _content(jar):
            return jar
    return None


@lru_cache(maxsize=2048)
def _content(jar: Path) -> frozenset[str]:
    try:
        with zipfile.ZipFile(jar) as archive:
            return frozenset(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return frozenset()


@lru_cache(maxsize=256)
def _version(jar: Path) -> str | None:
    """Version of a jar: its Maven name, its manifest, or nothing."""
    match = re.search(r"-(\d[\w.\-]*?)\.jar$", jar.name)
    if match:
        return match.group(1)
    try:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.startswith("META-INF/maven/") and name.endswith("pom.properties"):
                    found = re.search(r"^version=(.+)$", archive.read(name).decode(errors="replace"), re.M)
                    if found:
                        return found.group(1).strip()
            manifest = archive.read("META-INF/MANIFEST.MF").decode(errors="replace")
    except (OSError, KeyError, zipfile.BadZipFile):
        return None
    found = re.search(r"^Implementation-Version: *(\S+)", manifest, re.M)
    return found.group(1) if found else None
