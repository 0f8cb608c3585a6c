"""The run folder: one folder a stage, and ``run.json``, the record of what was done with what.

A stage carries a key: the hash of its settings, of its input files and of the keys of the stages it builds on. A
stage whose key is unchanged and whose output is there is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from dlm_fiji import __version__
from dlm_fiji.errors import ConfigurationError
from dlm_fiji.micrograph.writing import plain, write_json

__all__ = ["RunFolder", "fingerprint"]

RECORD = "run.json"
VERSIONS = (
    "numpy",
    "scipy",
    "scikit-image",
    "torch",
    "lightning",
    "openvino",
    "tifffile",
    "xarray",
    "scyjava",
)


def fingerprint(content: Any, files: Iterable[Path] = ()) -> str:
    """SHA-256 (first 16 digits) of JSON-able content and of the bytes of files."""
    digest = hashlib.sha256(json.dumps(plain(content), sort_keys=True, default=str).encode())
    for path in files:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path
        New, empty, or the folder of an earlier run.

    Raises
    ------
    ConfigurationError
        The folder holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise ConfigurationError(f"The output {path} is a file; give a folder with --out.")
        record = path / RECORD
        if record.is_file():
            try:
                self.record: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
            except json.JSONDecodeError:
                raise ConfigurationError(
                    f"{record} is not readable as the record of a run; delete it or choose another folder with --out."
                ) from None
        elif path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise ConfigurationError(
                f"The output folder {path} holds something else; choose a new or empty folder with --out."
            )
        else:
            self.record = {"stages": {}}

    def begin(self, **facts: Any) -> None:
        """Write down what this run is, before the first stage."""
        versions = {"dlm_fiji": __version__, "python": platform.python_version()}
        for name in VERSIONS:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        self.record.update(facts)
        self.record.update(
            versions=versions,
            machine={"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )
        self.record.setdefault("stages", {})
        self.save()

    def save(self) -> None:
        """``run.json``, whole."""
        write_json(self.path / RECORD, self.record)

    def folder(self, stage: str) -> Path:
        """The folder of a stage."""
        folder = self.path / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def key(self, stage: str) -> str:
        """The key of a finished stage; empty for one that was not run."""
        return str(self.record["stages"].get(stage, {}).get("key", ""))

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the stage was finished with this key and nothing it wrote has been removed."""
        entry = self.record["stages"].get(stage)
        if not entry or entry.get("status") != "done" or entry.get("key") != key:
            return False
        return all((self.path / name).is_file() for name in entry.get("files", []))

    def start(self, stage: str, key: str) -> None:
        """Record that a stage runs; what an earlier run left under another key is removed, not built upon."""
        if self.record["stages"].get(stage, {}).get("key") != key:
            shutil.rmtree(self.path / stage, ignore_errors=True)
        self.record["stages"][stage] = {"status": "running", "key": key}
        self.save()

    def finish(self, stage: str, key: str, seconds: float, facts: dict[str, Any]) -> None:
        """Record a finished stage."""
        files = sorted(p for p in self.folder(stage).rglob("*") if p.is_file() and "checkpoint" not in p.name)
        self.record["stages"][stage] = {
            "status": "done",
            "key": key,
            "seconds": round(seconds, 3),
            "files": [p.relative_to(self.path).as_posix() for p in files],
            **facts,
        }
        self.save()
