"""Where things are kept between runs for this user: the service's address, measured speed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["state_folder"]


def state_folder() -> Path:
    """``~/.dlm_fiji``, or what ``DLM_FIJI_STATE`` names; an empty value counts as none, as in Fiji's scripts.

    Raises
    ------
    RuntimeError
        The user has no home and the variable is not set.
    """
    return Path(os.environ.get("DLM_FIJI_STATE") or Path.home() / ".dlm_fiji")
