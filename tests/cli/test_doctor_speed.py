"""What ``doctor`` says about the fastest backend, and how it is measured again."""

from __future__ import annotations

import json

import pytest

from dlm_fiji.cli import doctor, main
from dlm_fiji.inference import choosing
from dlm_fiji.inference.measured_speed import Measurement, conditions, remember, speed_file


@pytest.fixture
def only_speed(tmp_path, monkeypatch):
    monkeypatch.setenv("DLM_FIJI_STATE", str(tmp_path))
    monkeypatch.setattr(doctor, "collect", doctor._speed)


def measured(model, threads=None):
    place = conditions(model, threads)
    found = Measurement(conditions=place, backend="torch", tile=256, seconds={"torch 256": 1.25}, date="2026-01-01")
    remember(model, found)


def test_nothing_measured_is_no_line(only_speed, capsys):
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_measure_is_remembered_and_shown(only_speed, monkeypatch, capsys):
    monkeypatch.setattr(choosing, "measure", measured)
    assert main(["doctor", "--measure", "brightfield-x2.5", "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["text"].startswith("torch, tiles of 256 px, for BrightfieldNet")
    assert finding["details"]["file"] == str(speed_file())
    assert main(["doctor"]) == 0
    assert "torch 256 1.25" in capsys.readouterr().out


def test_measure_needs_a_model_that_is_there(only_speed, capsys):
    assert main(["doctor", "--measure", "brightfeld-x2.5"]) == 2
    assert "brightfield-x2.5" in capsys.readouterr().err
