"""One JVM for all of these tests: a process can start Java only once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlm_fiji.errors import SetupError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def imagej():
    """The ImageJ of this process: the Fiji of DLM_FIJI_HOME where it is set, otherwise the embedded one."""
    from dlm_fiji.fiji import start

    try:
        return start()
    except SetupError as error:
        if "Maven Central" in str(error):
            pytest.skip(f"no ImageJ here: {error}")
        raise


@pytest.fixture
def python():
    """Run Python code in a process of its own; returns the finished process."""

    def run(code: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DLM_FIJI_")}
        kept |= {"PYTHONPATH": str(ROOT), **environment}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env=kept, check=False
        )

    return run


def pytest_collection_modifyitems(items):
    """Tests of a Fiji or of plugin jars run where they are, and say elsewhere why not."""
    for marker, variable, what in (
        ("fiji", "DLM_FIJI_HOME", "a Fiji folder"),
        ("plugins", "DLM_FIJI_PLUGINS", "a folder of plugin jars"),
    ):
        if not os.environ.get(variable):
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"{variable} does not name {what}"))


@pytest.fixture(scope="session")
def golden():
    """Folder of reference outputs beside the checkout; a file that is also kept in tests/golden is found there."""
    beside = ROOT.parent / "shared" / "golden"

    def find(name: str) -> Path:
        for folder in (ROOT / "tests" / "golden", beside):
            if (folder / name).exists():
                return folder / name
        pytest.skip(f"the reference output {name} is not here")

    return find
