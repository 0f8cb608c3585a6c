from __future__ import annotations

from pathlib import Path

import pytest

from dlm_fiji.inference.measured_speed import speed_file
from dlm_fiji.service.running import service_file
from dlm_fiji.user_state import state_folder


def test_the_variable_names_the_folder_of_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLM_FIJI_STATE", str(tmp_path))
    assert {state_folder(), speed_file().parent, service_file().parent} == {tmp_path}
    monkeypatch.setenv("DLM_FIJI_STATE", "")
    assert state_folder() == Path.home() / ".dlm_fiji"
