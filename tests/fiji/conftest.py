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
