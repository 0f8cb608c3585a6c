"""The Appose script with the real worker process of the ``appose`` package."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

appose = pytest.importorskip("appose", reason="the appose package is not installed")

# Appose leaves its worker's pipes to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::UserWarning"
)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "fiji_scripts" / "appose" / "enhance.py"


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    from appose.service import Service

    service = Service(str(ROOT), {}, sys.executable, "-c", "import appose.python_worker; appose.python_worker.main()")
    yield service
    service.close()


def test_enhance_by_appose(worker):
    from dlm_fiji.steps import enhance

    image = np.random.default_rng(4).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    shared = appose.NDArray("uint8", image.shape)
    shared.ndarray()[:] = image
    reports = []
    task = worker.task(SCRIPT.read_text(), {"image": shared, "pixel_um": 0.6})
    task.listen(lambda event: reports.append(str(event.response_type)))
    task.wait_for()
    assert str(task.status).endswith("COMPLETE"), task.error
    result = task.outputs["enhanced"].ndarray()
    assert result.shape == (100, 125, 3)
    assert task.outputs["pixel_um"] == pytest.approx(0.24)
    from dlm_fiji.micrograph import from_array, to_array

    expected = to_array(enhance(from_array(image, 0.6), "brightfield-x2.5"))
    np.testing.assert_array_equal(result, expected)
    assert any("UPDATE" in report for report in reports)


def test_a_refusal_is_a_sentence(worker):
    shared = appose.NDArray("uint8", (20, 20, 3))
    shared.ndarray()[:] = 7
    task = worker.task(SCRIPT.read_text(), {"image": shared, "model": "brightfeild"})
    with contextlib.suppress(Exception):
        task.wait_for()
    assert "brightfield-x2.5" in str(task.error)
    assert "Traceback" not in str(task.error)
