from __future__ import annotations

import numpy as np
from skimage import data

from dlm_fiji.microscope.virtual import VirtualMicroscope, effective_na, record
from dlm_fiji.steps.brightfield_lucy import (
    AIRY_RADII,
    brightfield_psf,
    deconvolve_brightfield,
    psf_radius,
    search_brightfield,
)
from dlm_fiji.steps.comparison import apply_gains, area_measures, brightness_gains, enlarged_bicubic


def scene() -> tuple[np.ndarray, np.ndarray, list[np.ndarray], VirtualMicroscope]:
    microscope = VirtualMicroscope()
    label = np.ascontiguousarray(data.immunohistochemistry()[100:300, 100:300])
    psfs = [
        brightfield_psf(microscope.na, microscope.condenser_na, w, microscope.label_pixel_um, microscope.pixel_um)
        for w in microscope.wavelengths_um
    ]
    return label, record(label, microscope, np.random.default_rng(0)), psfs, microscope


def test_the_rival_with_true_optics_beats_bicubic_clearly() -> None:
    label, image, psfs, microscope = scene()
    bicubic = enlarged_bicubic(image, microscope.scale)
    rival = search_brightfield(image, psfs, microscope.scale, 40, lambda e: area_measures(e, label)["ssim"])
    assert area_measures(rival.image, label)["ssim"] > area_measures(bicubic, label)["ssim"] + 0.08
    assert len(rival.scores) == 40
    assert max(score for _, score in rival.scores) == dict(rival.scores)[rival.iterations]


def test_leaving_out_the_camera_pixel_weakens_the_rival() -> None:
    label, image, psfs, m = scene()
    without = [brightfield_psf(m.na, m.condenser_na, w, m.label_pixel_um, m.label_pixel_um) for w in m.wavelengths_um]

    def best(kernels: list[np.ndarray]) -> float:
        rival = search_brightfield(image, kernels, m.scale, 40, lambda e: area_measures(e, label)["ssim"])
        return dict(rival.scores)[rival.iterations]

    assert best(psfs) > best(without) + 0.003


def test_a_point_spread_function_larger_than_the_image_is_cut_to_it() -> None:
    _, image, psfs, microscope = scene()
    small = np.ascontiguousarray(image[:30, :23])
    assert psfs[0].shape[0] > 2.5 * 30
    *_, last = deconvolve_brightfield(small, psfs, microscope.scale, 3)
    assert last.shape == (75, 57, 3)
    assert last.std() > enlarged_bicubic(small, microscope.scale).std()


def test_the_point_spread_function_holds_what_the_rival_needs() -> None:
    """With a kernel of 4 Airy radii the rival is measurably weaker; one half as wide again adds next to nothing."""
    label, image, _, m = scene()

    def similarity(airy_radii: float) -> float:
        na = effective_na(m.na, m.condenser_na)
        radii = [psf_radius(na, w, m.label_pixel_um, m.pixel_um, airy_radii) for w in m.wavelengths_um]
        kernels = [
            brightfield_psf(m.na, m.condenser_na, w, m.label_pixel_um, m.pixel_um, radius)
            for w, radius in zip(m.wavelengths_um, radii, strict=True)
        ]
        *_, last = deconvolve_brightfield(image, kernels, m.scale, 25)
        return area_measures(last, label)["ssim"]

    usual = similarity(AIRY_RADII)
    assert usual > similarity(4) + 0.001
    assert usual > similarity(1.5 * AIRY_RADII) - 0.001


def test_light_is_conserved() -> None:
    label, image, psfs, microscope = scene()
    *_, last = deconvolve_brightfield(image, psfs, microscope.scale, 5)
    assert abs(float(last.mean()) - float(label.mean())) < 1.5


def test_gains_undo_a_known_exposure() -> None:
    label, _, _, _ = scene()
    darker = apply_gains(label, (0.7, 0.8, 0.9))
    gains = brightness_gains([(darker, label)])
    np.testing.assert_allclose(gains, (1 / 0.7, 1 / 0.8, 1 / 0.9), rtol=0.02)
    assert np.abs(apply_gains(darker, gains).astype(int) - label).mean() < 1.5
