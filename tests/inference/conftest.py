"""What several tests of inference need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlm_fiji.inference.backends import TorchEngine


@pytest.fixture
def memory_for_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Called with a number: from then on PyTorch has no memory for a window of more rows."""

    def limit(rows: int) -> None:
        original = TorchEngine.__call__

        def small_memory(self: TorchEngine, x: np.ndarray) -> np.ndarray:
            if x.shape[2] > rows:
                raise RuntimeError("could not allocate memory")
            return original(self, x)

        monkeypatch.setattr(TorchEngine, "__call__", small_memory)

    return limit
