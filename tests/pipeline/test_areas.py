from __future__ import annotations

import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.pipeline.assemble import assign_roles, covered
from dlm_fiji.pipeline.learn import clear_part


def test_roles_never_leave_an_area_out() -> None:
    for count in (3, 4, 19, 40):
        roles = assign_roles(count)
        assert len(roles) == count
        assert {"train", "validate", "test"} == set(roles)
    assert assign_roles(40).count("test") == 4


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(InputError, match="at least 3"):
        assign_roles(2)


def test_no_held_pixel_remains_in_a_training_area() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        rectangle = _random(rng)
        taken = [_random(rng) for _ in range(rng.integers(4))]
        y0, x0, y1, x1 = clear_part(rectangle, taken, 2)
        assert rectangle[0] <= y0 <= y1 <= max(rectangle[2], y0)
        assert rectangle[1] <= x0 <= x1 <= max(rectangle[3], x0)
        assert y0 % 2 == 0
        assert x0 % 2 == 0
        inside = np.zeros((140, 140), bool)
        inside[y0:y1, x0:x1] = True
        for ty0, tx0, ty1, tx1 in taken:
            assert not inside[ty0:ty1, tx0:tx1].any()


def test_the_larger_side_is_kept() -> None:
    assert clear_part((0, 0, 100, 100), [(80, 0, 120, 100)], 2) == (0, 0, 80, 100)


def _random(rng: np.random.Generator) -> tuple[int, int, int, int]:
    y, x = (int(v) for v in 2 * rng.integers(0, 40, 2))
    h, w = (int(v) for v in 2 * rng.integers(4, 30, 2))
    return y, x, y + h, x + w


def test_the_ragged_edge_is_cut_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    nominal = np.array([(60.0 * r, 60.0 * c) for r in range(3) for c in range(3)])
    positions = nominal + rng.uniform(-1.5, 1.5, nominal.shape)
    positions -= positions.min(0)
    shape = tuple(int(n) for n in np.ceil(positions.max(0)) + 80)
    rows, columns = covered(positions, (80, 80), shape)
    seen = np.zeros(shape, bool)
    for y, x in positions:
        seen[int(np.ceil(y)) : int(np.floor(y)) + 80, int(np.ceil(x)) : int(np.floor(x)) + 80] = True
    assert seen[rows, columns].all()
    assert seen[rows, columns].size > 0.93 * seen.size


def test_a_missing_corner_tile_cuts_nothing_away() -> None:
    positions = np.array([(0.0, 60.0), (60.0, 0.0), (60.0, 60.0), (20.0, 0.0)])
    rows, columns = covered(positions, (80, 80), (140, 140))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (0, 140, 0, 140)
