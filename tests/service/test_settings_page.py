"""The settings' page says what the classes say."""

from __future__ import annotations

from pathlib import Path

from dlm_fiji.service import OPERATIONS
from dlm_fiji.service.settings_page import page

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_in_docs_is_the_one_that_the_classes_make():
    assert DOCS.read_text(encoding="utf-8") == page(), "run 'python -m dlm_fiji.service.settings_page'"


def test_every_setting_is_described():
    text = page()
    for name, operation in OPERATIONS.items():
        for field, info in operation.settings.model_fields.items():
            assert f"| `{field}` |" in text, (name, field)
            assert info.description
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    undescribed = [row[0] for row in rows if not row[4].strip()]
    assert not undescribed


def test_folder_stitching_has_the_stitchings_own_defaults():
    from dlm_fiji.registration import StitchSettings

    own = OPERATIONS["stitch"].settings.model_fields
    for name in ("overlap", "order"):
        assert own[name].default == StitchSettings.model_fields[name].default
