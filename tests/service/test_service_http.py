"""The service over HTTP, in this process; a stand-in network keeps it fast, and its answer is the step's own."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from dlm_fiji.errors import ConfigurationError, DlmWarning
from dlm_fiji.micrograph import from_array, is_rgb, open_image, pixel_size_um, save_image
from dlm_fiji.service import OPERATIONS, create_app, operations
from dlm_fiji.service.jobs import Job, JobQueue, QueueFull

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(5)
TOKEN = "a token"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small untrained network as a model folder."""
    import torch

    from dlm_fiji.inference import ModelCard, save_model
    from dlm_fiji.networks import BrightfieldNet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_model(folder, BrightfieldNet(scale=2.5, channels=3, blocks=1), ModelCard.of(name="tiny"))


@pytest.fixture
def shared(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
def client(shared):
    app = create_app(TOKEN, [shared], queue_limit=3)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(timeout=20)
    app.state.service.jobs.close()
    listener.close()


@pytest.fixture
def image():
    return from_array(RNG.integers(0, 255, (40, 56, 3), dtype=np.uint8), 0.6)


def sent(client, image, tmp_path):
    path = tmp_path / "sent.tif"
    save_image(image, path)
    answer = client.post("/images", content=path.read_bytes())
    assert answer.status_code == 200, answer.text
    return answer.json()["image"]


def finished(client, **job):
    answer = client.post("/jobs", json=job)
    assert answer.status_code == 200, answer.text
    identity = answer.json()["id"]
    for _ in range(3000):
        job = client.get(f"/jobs/{identity}").json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def fetched(client, job, name, tmp_path):
    answer = client.get(f"/jobs/{job['id']}/results/{name}")
    assert answer.status_code == 200
    path = tmp_path / f"{name}.tif"
    path.write_bytes(answer.content)
    return open_image(path)


def test_enhance_is_the_step_bit_for_bit(client, image, model, tmp_path):
    from dlm_fiji.steps import enhance

    settings = {"model": str(model), "backend": "torch"}
    job = finished(client, operation="enhance", images={"image": sent(client, image, tmp_path)}, settings=settings)
    assert job["state"] == "done", job
    result = fetched(client, job, "enhanced", tmp_path)
    expected = enhance(image, str(model), backend="torch")
    np.testing.assert_array_equal(result.values, expected.values)
    assert pixel_size_um(result) == pytest.approx((0.24, 0.24), rel=1e-6)
    assert is_rgb(result)


def test_paths_in_and_out_only_in_allowed_folders(client, image, model, shared, tmp_path):
    save_image(image, shared / "a tile.tif")
    outside = tmp_path / "outside.tif"
    save_image(image, outside)
    (shared / "link.tif").symlink_to(outside)
    settings = {"model": str(model)}
    for path in (outside, shared / ".." / "outside.tif", shared / "link.tif", "/etc/passwd"):
        answer = client.post(
            "/jobs", json={"operation": "enhance", "images": {"image": str(path)}, "settings": settings}
        )
        assert answer.status_code == 400
        assert "may not use" in answer.json()["error"]
    wanted = {"operation": "enhance", "images": {"image": str(shared / "a tile.tif")}, "settings": settings}
    assert client.post("/jobs", json={**wanted, "output": str(tmp_path / "out")}).status_code == 400
    job = finished(client, **wanted, output=str(shared / "out"))
    assert job["state"] == "done", job
    assert open_image(shared / "out" / "enhanced.tif").sizes["x"] == 140


def test_the_token_and_the_host_are_asked_for(client):
    assert client.get("/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.post("/images", content=b"x", headers={"Authorization": ""}).status_code == 401
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403
    health = client.get("/health", headers={"Authorization": ""}).json()
    assert health["service"] == "dlm_fiji"
    assert client.get("/openapi.json").json()["info"]["title"] == "dlm_fiji"


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"operation": "enhanse"}, "did you mean 'enhance'"),
        ({"operation": "enhance"}, "needs the image 'image'"),
        ({"operation": "enhance", "images": {"image": "gone"}}, "no uploaded image"),
        ({"operation": "enhance", "images": {"picture": "x"}}, "'picture' is not a"),
        ({"operation": "enhance", "settings": {"passes": 9}}, "passes"),
        ({"operation": "enhance", "settings": {"modell": "x"}}, "did you mean 'model'"),
        ({"operation": "stitch", "settings": {"folder": "/"}}, "may not use"),
    ],
)
def test_refusals_are_sentences(client, job, said):
    answer = client.post("/jobs", json=job)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_bad_images_and_models(client, image, tmp_path):
    assert "no image" in client.post("/images", content=b"").json()["error"]
    assert client.post("/images", content=b"not a tiff").status_code == 400
    job = finished(
        client, operation="enhance", images={"image": sent(client, image, tmp_path)}, settings={"model": "bright"}
    )
    assert job["state"] == "failed"
    assert job["error_kind"] == "InputError"
    assert "bright" in job["error"]
    assert client.get(f"/jobs/{job['id']}/results/enhanced").status_code == 404
    assert client.get("/jobs/none").status_code == 404


def test_deconvolve_sharpens_and_needs_a_pixel_size(client, tmp_path):
    from scipy.ndimage import gaussian_filter

    points = np.zeros((64, 72), np.float32)
    points[20, 30] = points[40, 50] = 4000
    blurred = from_array((gaussian_filter(points, 2) + 10).astype(np.uint16), 0.16)
    settings = {"na": 0.4, "iterations": 30}
    job = finished(client, operation="deconvolve", images={"image": sent(client, blurred, tmp_path)}, settings=settings)
    assert job["state"] == "done", job
    result = fetched(client, job, "deconvolved", tmp_path)
    assert result.dtype == np.uint16
    assert result.values.max() > 2 * blurred.values.max()
    assert pixel_size_um(result) == pytest.approx((0.16, 0.16), rel=1e-5)
    job = finished(client, operation="deconvolve", images={"image": sent(client, from_array(points), tmp_path)})
    assert "no pixel size" in job["error"]


def test_compare_gives_three_images_of_one_size(client, image, model, tmp_path):
    settings = {"model": str(model), "iterations": 2}
    job = finished(client, operation="compare", images={"image": sent(client, image, tmp_path)}, settings=settings)
    assert job["state"] == "done", job
    shapes = {fetched(client, job, name, tmp_path).shape for name in ("network", "richardson_lucy", "bicubic")}
    assert shapes == {(3, 100, 140)}


def test_error_map_and_register(client, tmp_path):
    from skimage import data
    from skimage.transform import resize

    fine = data.camera()[100:260, 100:260].astype(np.float32)
    coarse = resize(fine, (80, 80), anti_aliasing=True, preserve_range=True).astype(np.float32)
    wrong = fine.copy()
    wrong[60:80, 60:80] = 250
    names = {
        "image": sent(client, from_array(wrong), tmp_path),
        "reference": sent(client, from_array(coarse), tmp_path),
    }
    job = finished(client, operation="error_map", images=names)
    assert job["state"] == "done", job
    found = fetched(client, job, "error_map", tmp_path).values
    assert found[62:78, 62:78].mean() > 3 * found[100:, :].mean()
    assert 0.5 < client.get(f"/jobs/{job['id']}/results/figures").json()["rsp"] <= 1
    moved = from_array(np.roll(fine, (3, -2), (0, 1)))
    names = {"image": sent(client, moved, tmp_path), "reference": sent(client, from_array(fine), tmp_path)}
    job = finished(client, operation="register", images=names)
    assert job["state"] == "done", job
    aligned = fetched(client, job, "registered", tmp_path).values
    before = np.abs(moved.values - fine)[12:-12, 12:-12].mean()
    assert np.abs(aligned - fine)[12:-12, 12:-12].mean() < 0.3 * before


def test_queue_is_bounded_and_jobs_are_cancelled():
    jobs = JobQueue(limit=2)
    release = threading.Event()

    def slow(job: Job):
        for step in range(10_000):
            job.progress(step, 10_000)
            if release.wait(0.01):
                break
        return {}

    first = jobs.submit("slow", slow)
    while first.state == "queued":
        time.sleep(0.01)
    waiting = [jobs.submit("slow", slow) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 jobs wait already"):
        jobs.submit("slow", slow)
    jobs.forget(waiting[0].id)
    jobs.forget(first.id)
    while first.state == "running":
        time.sleep(0.01)
    assert (first.state, waiting[0].state) == ("cancelled", "cancelled")
    release.set()
    while waiting[1].state in ("queued", "running"):
        time.sleep(0.01)
    assert waiting[1].state == "done"
    jobs.close()


def test_a_fault_of_ours_is_a_sentence_too_and_warnings_are_notes(capsys):
    import warnings

    jobs = JobQueue()

    def broken(job):
        raise ZeroDivisionError("oops")

    def warns(job):
        warnings.warn("look closer", DlmWarning, stacklevel=1)
        return {}

    failed, noted = jobs.submit("x", broken), jobs.submit("y", warns)
    while noted.state != "done":
        time.sleep(0.01)
    assert "ZeroDivisionError" in failed.error
    assert noted.notes == ["look closer"]
    jobs.close()


def test_every_operation_has_settings_with_descriptions():
    for name, operation in OPERATIONS.items():
        for field in operation.settings.model_fields.values():
            assert field.description, name
    with pytest.raises(ConfigurationError, match="iterations"):
        operations.DeconvolveSettings.of(iterations=0)


@pytest.fixture
def service(tmp_path):
    """The real service in a process of its own."""
    state = tmp_path / "state"
    command = [sys.executable, "-c", "from dlm_fiji.service import serve; serve(idle_minutes=0.05)"]
    environment = {**os.environ, "DLM_FIJI_STATE": str(state), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert "http://127.0.0.1:" in line
    yield process, state / "service.json", line
    process.kill()
    process.stdout.close()
    process.wait()


def test_the_process_tells_where_it_is_and_stops_when_idle(service):
    process, path, line = service
    told = json.loads(path.read_text())
    assert told["pid"] == process.pid
    assert f":{told['port']}/#{told['token']}" in line
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    address = f"http://127.0.0.1:{told['port']}"
    assert httpx.get(address + "/health").json()["pid"] == process.pid
    assert "Drop an image" in httpx.get(address + "/").text
    assert process.wait(timeout=60) == 0
    assert not path.exists()
