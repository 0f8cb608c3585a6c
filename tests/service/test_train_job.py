"""The train job: stages as its message, steps as its progress, cancelled between two steps, continued by the next."""

from __future__ import annotations

import time

import pytest

from dlm_fiji.service import OPERATIONS
from dlm_fiji.service.jobs import JobQueue


@pytest.fixture
def jobs():
    queue = JobQueue()
    yield queue
    queue.close()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration that nothing reads: the run is a stand-in that tells what a run tells."""
    monkeypatch.setattr("dlm_fiji.pipeline.load_settings", lambda path: path)
    (tmp_path / "my scan.toml").write_text("")
    return {"config": str(tmp_path / "my scan.toml"), "output": str(tmp_path / "run")}


def submitted(jobs, settings):
    operation = OPERATIONS["train"]
    return jobs.submit("train", lambda job: operation.run(job, {}, operation.settings.of(**settings)))


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_progress_and_cancel(jobs, config, monkeypatch):
    left = []

    def run(settings, out, *, name, console):
        assert name == "my scan"
        try:
            with console.stage("train"):
                for step in range(10_000):
                    console.progress(step, 10_000, {"loss": 1.0})
                    time.sleep(0.005)
        finally:
            left.append(step)

    monkeypatch.setattr("dlm_fiji.pipeline.run_pipeline", run)
    job = submitted(jobs, config)
    until(lambda: job.public()["progress"] > 0)
    assert job.public()["message"] == "train"
    jobs.forget(job.id)
    until(lambda: job.state == "cancelled")
    assert 0 < left[0] < 9_999


def test_the_report_comes_back(jobs, config, monkeypatch, tmp_path):
    monkeypatch.setattr("dlm_fiji.pipeline.run_pipeline", lambda s, out, **_: out / "report" / "index.html")
    job = submitted(jobs, config)
    until(lambda: job.state == "done")
    assert job.results == {"figures": {"report": str(tmp_path / "run" / "report" / "index.html")}}


def test_without_files_it_is_refused(jobs):
    job = submitted(jobs, {})
    until(lambda: job.state == "failed")
    assert "needs 'config'" in job.error


@pytest.mark.slow
def test_a_real_run_is_cancelled_and_continued(jobs, tmp_path):
    """The demo with a few steps: cancelled in its training, then finished by a second job."""
    import json

    config = tmp_path / "small.toml"
    config.write_text(
        'preset = "demo"\n[train]\nsteps = 12\nbatch = 1\nvalidate_every = 4\n[deconvolve]\niterations = 4\n'
    )
    settings = {"config": str(config), "output": str(tmp_path / "run")}
    job = submitted(jobs, settings)
    until(lambda: job.finished or (job.message == "train" and job.done), 600)
    jobs.forget(job.id)
    until(lambda: job.finished, 600)
    assert job.state == "cancelled", job.error
    assert (tmp_path / "run" / "stitch").is_dir()
    again = submitted(jobs, settings)
    until(lambda: again.finished, 600)
    assert again.state == "done", again.error
    assert json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
