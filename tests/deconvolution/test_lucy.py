"""Richardson-Lucy against the plugins' own answers, plain numpy, and what the method must obey."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data

from dlm_fiji.deconvolution import RichardsonLucy, richardson_lucy
from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.measures import ssim
from dlm_fiji.microscope import born_wolf, gaussian_psf

GOLDEN = Path(__file__).parents[1] / "golden" / "richardson_lucy_small.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def blurred(image, psf):
    """Circular convolution by numpy, independent of what is tested."""
    grid = np.zeros(image.shape)
    grid[tuple(slice(0, n) for n in psf.shape)] = psf
    grid = np.roll(grid, [-(n // 2) for n in psf.shape], tuple(range(psf.ndim)))
    return np.fft.ifftn(np.fft.fftn(image) * np.fft.fftn(grid)).real


@pytest.mark.parametrize("count", [10, 50])
def test_plain_circular_equals_golden(golden, count):
    result = richardson_lucy(golden["image"], golden["psf"], count, boundary="circular")
    expected = golden[f"numpy_circular_{count}"]
    assert np.abs(result - expected).max() < 2e-6 * expected.max()
    np.testing.assert_allclose(result, expected, rtol=2e-4)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("dl2_rl_10_psf34", {"boundary": "circular"}, 2e-6),
        ("ops_10", {}, 5e-5),
        ("ops_50", {}, 1e-4),
        ("ops_noncirc_10", {"boundary": "weights", "initial": "constant"}, 1e-5),
        ("ops_tv0.002_10", {"tv": 0.002}, 5e-5),
    ],
)
def test_plugins_agree_in_the_interior(golden, name, options, tolerance):
    """DeconvolutionLab2 is circular; imagej-ops mirrors without the edge pixel, so edges differ."""
    count = int(name.removesuffix("_psf34").rsplit("_", 1)[1])
    result = richardson_lucy(golden["image"], golden["psf"], count, **options)
    inner = (slice(16, -16), slice(16, -16))
    assert np.abs(result - golden[name])[inner].max() < tolerance * golden[name].max()


def test_an_even_centred_psf_is_the_odd_one(golden):
    odd = golden["psf"]
    even = np.zeros((34, 34), np.float32)
    even[1:, 1:] = odd
    a = richardson_lucy(golden["image"], odd, 5, boundary="circular")
    b = richardson_lucy(golden["image"], even, 5, boundary="circular")
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_an_even_psf_from_the_optics_moves_nothing():
    """born_wolf's even sizes are centred between pixels; a result must not walk by half a pixel."""
    truth = np.zeros((64, 64), np.float32)
    truth[30, 33] = 1000
    image = np.maximum(gaussian_filter(truth, 2), 0) + 1
    result = richardson_lucy(image, gaussian_psf(0.47, 0.1, (20, 20)), 30) - 1
    y, x = np.mgrid[:64, :64]
    assert (result * y).sum() / result.sum() == pytest.approx(30, abs=0.05)
    assert (result * x).sum() / result.sum() == pytest.approx(33, abs=0.05)


def white(image, psf, count, threshold, accelerate=False):
    """Damped Richardson-Lucy written down from White 1994 and Biggs & Andrews 1997 in float64."""
    adjoint = psf[::-1, ::-1]
    previous, now, g = None, image.copy(), []
    for _ in range(count):
        point = now
        if accelerate and len(g) == 2:
            alpha = np.clip((g[0] * g[1]).sum() / (g[1] ** 2).sum(), 0, 1)
            point = np.maximum(now + alpha * (now - previous), 0)
        model = blurred(point, psf)
        ratio = image / model
        if threshold:
            with np.errstate(divide="ignore", invalid="ignore"):
                u = -2 / threshold**2 * (image * np.log(model / image) - model + image)
            u = np.minimum(u, 1)
            ratio = 1 + u**9 * (10 - 9 * u) * (image / model - 1)
        previous, now = now, np.maximum(point * blurred(ratio, adjoint), 0)
        g = [now - point, *g[:1]]
    return now


@pytest.mark.parametrize("damping", [0, 0.002, 0.02])
@pytest.mark.parametrize("acceleration", [None, "biggs-andrews"])
def test_damping_and_acceleration_are_the_papers_formulas(golden, damping, acceleration):
    image, psf = golden["image"].astype(float), golden["psf"].astype(float)
    expected = white(image, psf / psf.sum(), 12, damping * image.max(), acceleration is not None)
    result = richardson_lucy(
        torch.from_numpy(image), psf, 12, damping=damping, acceleration=acceleration, boundary="circular"
    )
    assert np.abs(result.numpy() - expected).max() < 1e-4 * expected.max()


def test_deconvlucy_is_accelerated_and_circular(golden):
    settings = RichardsonLucy.deconvlucy(iterations=8)
    assert (settings.acceleration, settings.boundary) == ("biggs-andrews", "circular")
    image, psf = golden["image"].astype(float), golden["psf"].astype(float)
    result = richardson_lucy(torch.from_numpy(image), psf, **settings.model_dump())
    expected = white(image, psf / psf.sum(), 8, 0, accelerate=True)
    assert np.abs(result.numpy() - expected).max() < 1e-4 * expected.max()


@pytest.mark.parametrize("boundary", ["circular", "reflect", "weights"])
@pytest.mark.parametrize("shape", [(61, 80), (9, 40, 33)])
def test_flux_sign_and_type(boundary, shape):
    rng = np.random.default_rng(0)
    image = rng.poisson(gaussian_filter(rng.random(shape) * 200, 1)).astype(np.uint16)
    psf = gaussian_psf(0.3, 0.1, (5,) * len(shape), fwhm_z_um=0.3, z_step_um=0.1)
    result = richardson_lucy(image, psf, 15, boundary=boundary)
    assert result.dtype == np.float32
    assert result.shape == shape
    assert result.min() >= 0
    # what lies beyond the edge may trade light with the image, on a thin frame only
    assert result.sum() / image.sum() == pytest.approx(1, abs=1e-5 if boundary == "circular" else 0.02)


@pytest.mark.parametrize(("boundary", "worst"), [("reflect", 1.2), ("weights", 2.0)])
def test_no_ringing_frame(boundary, worst):
    """A scene cut out of a larger one: the frame must not be worse than a few times the interior."""
    scene = data.camera().astype(np.float32)[60:460, 60:460] + 10
    psf = born_wolf(0.4, 0.532, 0.2, (25, 25))
    image = blurred(scene, psf)[100:300, 100:300].clip(0)
    truth = scene[100:300, 100:300]
    error = np.abs(richardson_lucy(image, psf, 30, boundary=boundary) - truth)
    circular = np.abs(richardson_lucy(image, psf, 30, boundary="circular") - truth)
    frame = np.ones(truth.shape, bool)
    frame[8:-8, 8:-8] = False
    assert error[frame].mean() < worst * error[~frame].mean()
    assert circular[frame].mean() > 1.8 * error[frame].mean()


def test_background_and_counts_scale():
    truth = np.zeros((60, 60), np.float32)
    truth[20:40, 25:28] = 100
    psf = gaussian_psf(0.4, 0.1, (13, 13))
    image = blurred(truth, psf).clip(0) + 50
    with_background = richardson_lucy(image, psf, 40, background=50)
    without = richardson_lucy(image, psf, 40)
    assert with_background[5:15].max() < 0.5
    assert without[5:15].max() > 30
    scaled = richardson_lucy(image * 1000, psf, 40, background=50_000)
    np.testing.assert_allclose(scaled / 1000, with_background, rtol=1e-3, atol=1e-3)


def test_dark_pixels_stay_finite():
    image = np.zeros((40, 40), np.float32)
    image[20, 20] = 60_000
    result = richardson_lucy(image, gaussian_psf(0.4, 0.1, (15, 15)), 100)
    assert np.isfinite(result).all()
    assert result.min() >= 0


def test_callback_sees_each_step_and_can_stop(golden):
    seen = []

    def look(number, estimate):
        seen.append((number, float(estimate.max()), tuple(estimate.shape)))
        return number == 4

    stopped = richardson_lucy(golden["image"], golden["psf"], 20, callback=look)
    assert [s[0] for s in seen] == [1, 2, 3, 4]
    assert seen[0][2] == (128, 128)
    np.testing.assert_array_equal(stopped, richardson_lucy(golden["image"], golden["psf"], 4))


def similarities(truth, image, psf, count, acceleration=None):
    """SSIM after each iteration."""
    span, values = float(np.percentile(truth, 99.9)), []

    def judge(_, estimate):
        values.append(ssim(estimate.numpy(), truth, span, border=16))

    richardson_lucy(image, psf, count, boundary="circular", acceleration=acceleration, callback=judge)
    return values


def test_biggs_andrews_needs_a_third_of_the_iterations(golden):
    args = golden["object"], golden["image"], golden["psf"]
    plain = similarities(*args, 50)
    fast = similarities(*args, 17, "biggs-andrews")
    assert fast[11] > plain[11]
    assert max(fast) >= plain[49] - 0.001


@pytest.mark.parametrize("name", ["golden", "camera", "coins", "immunohistochemistry"])
def test_twelve_wiener_iterations_reach_the_similarity_of_fifty_plain_ones(golden, name):
    if name == "golden":
        truth, image, psf = golden["object"], golden["image"], golden["psf"]
    else:
        picture = getattr(data, name)()
        truth = (picture if picture.ndim == 2 else picture[..., 1])[100:228, 100:228] * np.float32(250) + 5000
        psf = born_wolf(0.4, 0.532, 0.2, (25, 25))
        image = np.random.default_rng(0).poisson(blurred(truth, psf).clip(0)).astype(np.float32)
    plain = similarities(truth, image, psf, 50)
    fast = similarities(truth, image, psf, 12, "wiener")
    # Where noise is the limit already, the way there matters a little.
    assert max(fast) >= plain[49] - 0.001
    assert max(plain[:12]) < plain[49] - 0.001


@pytest.mark.parametrize("background", [0, 5])
def test_wiener_raises_the_likelihood_and_keeps_the_light(golden, background):
    image, psf = golden["image"] + np.float32(background), golden["psf"]

    def divergence(count, acceleration):
        """Kullback-Leibler divergence of the data from the model, and the estimate's light."""
        estimate = richardson_lucy(
            image, psf, count, boundary="circular", acceleration=acceleration, background=background
        )
        d, r = image.astype(float), blurred(estimate.astype(float), psf / psf.sum()) + background
        return (d * np.log(np.maximum(d, 1e-9) / r) - d + r).sum(), estimate.sum()

    fast, light = divergence(12, "wiener")
    slow, usual = divergence(12, None)
    assert fast < slow
    assert light == pytest.approx(usual, rel=1e-5 if background == 0 else 0.01)


def test_wiener_is_refused_with_weights(golden):
    with pytest.raises(ConfigurationError, match="reflect"):
        richardson_lucy(golden["image"], golden["psf"], 5, boundary="weights", acceleration="wiener")


@pytest.mark.parametrize(
    ("boundary", "acceleration"),
    [(b, a) for b in ("circular", "reflect", "weights") for a in (None, "biggs-andrews", "wiener")][:-1],
)
@pytest.mark.parametrize("damping", [0, 0.01])
def test_wide_kernels_beside_bright_points_stay_finite(golden, boundary, damping, acceleration):
    image = golden["image"][:124, :124].copy()
    image[60, 60] = 1e6
    psf = gaussian_psf(0.5, 0.1, (41, 41))
    result = richardson_lucy(image, psf, 20, boundary=boundary, damping=damping, acceleration=acceleration)
    assert np.isfinite(result).all()
    assert result.min() >= 0


def test_total_variation_smooths(golden):
    plain = richardson_lucy(golden["image"], golden["psf"], 30)
    smooth = richardson_lucy(golden["image"], golden["psf"], 30, tv=0.02)

    def variation(x):
        return np.abs(np.diff(x, axis=0)).sum() + np.abs(np.diff(x, axis=1)).sum()

    assert variation(smooth) < 0.95 * variation(plain)


PSF = np.ones((5, 5))
IMAGE = np.ones((20, 20))


@pytest.mark.parametrize(
    ("image", "psf", "options", "sentence"),
    [
        (IMAGE, np.ones((21, 5)), {}, "larger than the image"),
        (IMAGE, np.zeros((5, 5)), {}, "zero everywhere"),
        (np.zeros((20, 20)), PSF, {}, "nothing to deconvolve"),
        (IMAGE - 2, PSF, {}, "negative"),
        (IMAGE, PSF - 2, {}, "negative"),
        (np.full((20, 20), np.nan), PSF, {}, "NaN"),
        (IMAGE, np.ones((3, 5, 5)), {}, "axes"),
        (np.ones(20), np.ones(5), {}, "one by one"),
        (IMAGE + 1j, PSF, {}, "real numbers"),
        (IMAGE, PSF, {"pixel_um": 0.325, "psf_pixel_um": 0.1625}, "0.1625"),
        (IMAGE, PSF, {"initial": np.ones((3, 3))}, "first guess"),
        (IMAGE, PSF, {"initial": -IMAGE}, "first guess"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(image, psf, options, sentence):
    with pytest.raises(InputError, match=sentence):
        richardson_lucy(image, psf, 2, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 0},
        {"damping": -0.1},
        {"boundary": "mirror"},
        {"acceleration": "yes"},
        {"tv": 2},
        {"background": -1},
        {"initial": "random"},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(ConfigurationError):
        richardson_lucy(IMAGE, PSF, **options)
