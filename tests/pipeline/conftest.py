from __future__ import annotations

from pathlib import Path

import pytest

from dlm_fiji.pipeline.configuration import DeconvolveSettings, PipelineSettings, preset
from dlm_fiji.pipeline.demo import acquire
from dlm_fiji.training import TrainingSettings


def short_demo(**changes: object) -> PipelineSettings:
    """The demo with a training of a few steps and a short search."""
    demo = preset("demo")
    train = TrainingSettings.of(demo.train, steps=4, batch=2, validate_every=2)
    return PipelineSettings.of(
        demo, train=train, deconvolve=DeconvolveSettings.of(demo.deconvolve, iterations=6), **changes
    )


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's tiles and labels as files, as a user would have them."""
    folder = tmp_path_factory.mktemp("scan")
    settings = preset("demo").acquire
    assert settings is not None
    acquire(settings, 1, folder)
    return folder
