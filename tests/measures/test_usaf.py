"""Modulation transfer: targets drawn with known modulation, a real target, and a slanted edge."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dlm_fiji.errors import InputError
from dlm_fiji.measures import slanted_edge_mtf, usaf_mtf, usaf_target
from dlm_fiji.measures.usaf import PAPER_TABLE
from dlm_fiji.measures.usaf_geometry import element_of, find_triplets, line_pairs_per_mm

REAL = Path(__file__).parents[3] / "shared" / "data" / "usaf" / "usaf_319x312.npy"
ELEMENTS = [(8, 1), (8, 3), (8, 5), (9, 1), (9, 3), (9, 5)]


def test_geometry_and_the_papers_table():
    assert line_pairs_per_mm(11, 4) == pytest.approx(1000 / 0.345, rel=2e-3)
    assert element_of(0.345) == (11, 4)
    assert len(PAPER_TABLE) == 24
    for row, (frequency, *_) in enumerate(PAPER_TABLE):
        assert frequency == pytest.approx(line_pairs_per_mm(8 + row // 6, row % 6 + 1), rel=1e-6)


def test_every_drawn_element_is_found():
    image, drawn = usaf_target(ELEMENTS, 0.2, bright=200, dark=20)
    found = find_triplets(image)
    assert len(found) == len(drawn)
    for triplet in drawn:
        near = [t for t in found if abs(t.row - triplet.row) + abs(t.column - triplet.column) < 1.5]
        assert len(near) == 1
        assert near[0].lines == triplet.lines
        assert near[0].period == pytest.approx(triplet.period, rel=0.04)


@pytest.mark.parametrize("bright_lines", [False, True])
def test_contrast_of_a_sharp_target_is_michelsons(bright_lines):
    image, _ = usaf_target(ELEMENTS, 0.1, bright=50 if bright_lines else 150, dark=150 if bright_lines else 50)
    for row in usaf_mtf(image, 0.1):
        assert row.contrast == pytest.approx(0.5, abs=0.02)


def test_blur_lowers_fine_elements_more_and_those_lost_are_zero():
    image, _ = usaf_target(ELEMENTS, 0.1, bright=150, dark=50)
    rows = usaf_mtf(gaussian_filter(image, 9), 0.1, label=image)
    contrasts = [r.contrast for r in rows if r.lines == "vertical"]
    assert [(r.group, r.element) for r in rows if r.lines == "vertical"] == ELEMENTS
    assert contrasts[0] > 0.15
    assert contrasts == sorted(contrasts, reverse=True)
    assert contrasts[-1] == 0


def test_contrast_of_the_middle_line_of_a_blurred_triplet():
    """Against an integral of the blurred lines done apart from the code."""
    image, drawn = usaf_target([(8, 1)], 0.1, bright=100, dark=20)
    sigma, period = 8.0, drawn[0].period
    rows = usaf_mtf(gaussian_filter(image, sigma, truncate=6), 0.1, triplets=drawn[:1], length=0.2)
    x = np.arange(-6 * period, 6 * period, 0.05)
    bars = sum(np.abs(x - k * period) < period / 4 for k in (-1, 0, 1))
    kernel = np.exp(-(np.arange(-60, 60.01, 0.05) ** 2) / 2 / sigma**2)
    seen = 100 - 80 * np.convolve(bars, kernel / kernel.sum(), "same")
    low = seen[np.abs(x) < 1.1 * period].min()
    high = seen[np.abs(np.abs(x) - period / 2) < period / 4].max()
    assert rows[0].contrast == pytest.approx((high - low) / (high + low), abs=0.02)


def test_a_phase_reversed_element_counts_as_lost():
    """Lines where the gaps should be: contrast there is spurious."""
    image, drawn = usaf_target([(9, 1)], 0.1, bright=100, dark=20)
    half = round(drawn[0].period / 2)
    assert usaf_mtf(image, 0.1, triplets=drawn[:1])[0].contrast > 0.6
    assert usaf_mtf(np.roll(image, half, 1), 0.1, label=image, triplets=drawn[:1])[0].contrast == 0


@pytest.mark.skipif(not REAL.exists(), reason="the real target is not on this machine")
def test_real_target():
    image = np.load(REAL)
    # on this target group 0 and 1 elements fill the picture: the large 1 is about 17.5 pixels a period
    rows = usaf_mtf(image, 1.0)
    periods = sorted({round(r.triplet.period, 1) for r in rows}, reverse=True)
    assert len(rows) >= 14
    assert all(0 < r.contrast <= 1 for r in rows[:8])
    # neighbouring elements differ by the sixth root of two
    ratios = np.log2(np.array(periods) / periods[0]) * 6
    assert np.abs(ratios - np.round(ratios)).max() < 0.35


def test_slanted_edge_of_a_gaussian_lens():
    y, x = np.mgrid[:100, :80].astype(float)
    fine = 16
    sub = (np.arange(fine) + 0.5) / fine - 0.5
    edge = np.mean([(x + s - 0.09 * y - 35) > 0 for s in sub], axis=0) * 150 + 30
    for sigma in (1.0, 1.8):
        result = slanted_edge_mtf(gaussian_filter(edge, sigma, truncate=6), pixel_um=0.5)
        pixels = result.frequency * 0.5
        keep = pixels < 0.35
        expected = np.exp(-2 * (np.pi * sigma * pixels) ** 2) * np.sinc(pixels * np.cos(np.arctan(0.09)))
        np.testing.assert_allclose(result.mtf[keep], expected[keep], atol=0.02)
        assert result.angle == pytest.approx(np.degrees(np.arctan(0.09)), abs=0.1)
        transposed = slanted_edge_mtf(gaussian_filter(edge, sigma, truncate=6).T, pixel_um=0.5)
        assert transposed.mtf50 == pytest.approx(result.mtf50, rel=1e-6)


def test_bad_targets_get_a_sentence():
    with pytest.raises(InputError, match="No element"):
        usaf_mtf(np.random.default_rng(0).random((80, 80)), 0.1)
    with pytest.raises(InputError, match="No element"):
        usaf_mtf(np.ones((80, 80)), 0.1)
    with pytest.raises(InputError, match="grey"):
        usaf_mtf(np.ones((80, 80, 3)), 0.1)
    with pytest.raises(InputError, match="not negative"):
        usaf_mtf(-np.ones((80, 80)), 0.1)
    with pytest.raises(InputError, match="flat"):
        slanted_edge_mtf(np.ones((40, 40)))
    x = np.arange(40) + np.zeros((40, 1))
    with pytest.raises(InputError, match="pixel columns"):
        slanted_edge_mtf((x > 20).astype(float))
