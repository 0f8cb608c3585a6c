"""The networks and losses against a NumPy transcription of the papers' equations, with the same weights."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_ssim

from dlm_fiji.errors import ConfigurationError, InputError
from dlm_fiji.networks import (
    BrightfieldNet,
    Discriminator,
    FluorescenceGenerator,
    brightfield_loss,
    calibrated_weights,
    discriminator_loss,
    generator_loss,
    structural_similarity,
)

# ---------------------------------------------------------------- the equations, in NumPy


def convolve(x, weight, bias=None, stride=1):
    """(C, H, W) with zero padding of 1: sum over c, i, j of w[o, c, i, j] x[c, y + i - 1, x + j - 1]."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    h, w = x.shape[1:]
    out = np.zeros((len(weight), h, w))
    for i in range(3):
        for j in range(3):
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + h, j : j + w])
    if bias is not None:
        out += bias[:, None, None]
    return out[:, ::stride, ::stride]


def relu(x):
    return np.maximum(x, 0)


def leaky(x):
    return np.maximum(0, x) - 0.1 * np.maximum(0, -x)


def widened(x, width):
    return np.concatenate([x, np.zeros((width - len(x), *x.shape[1:]))])


def upsample(x):
    """Bilinear ×2, areas aligned, edges repeated, by the definition: value at (i + ½)/2 - ½."""
    for axis in (1, 2):
        n = x.shape[axis]
        at = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        t = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        x = (1 - t) * np.take(x, low, axis) + t * np.take(x, np.minimum(low + 1, n - 1), axis)
    return x


def pool(x):
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))


def weights_of(network):
    return {name: value.detach().double().numpy() for name, value in network.state_dict().items()}


def brightfield_numpy(w, x, blocks, up, stride):
    x = convolve(x, w["first.weight"], w["first.bias"])
    for k in range(blocks):
        y = relu(convolve(x, w[f"blocks.{k}.conv1.weight"], w[f"blocks.{k}.conv1.bias"]))
        y = relu(convolve(y, w[f"blocks.{k}.conv2.weight"], w[f"blocks.{k}.conv2.bias"]))
        x = widened(x, len(y)) + y
    x = convolve(x, w["expand.weight"], w["expand.bias"])
    channels, h, wd = len(x) // up**2, *x.shape[1:]
    x = x.reshape(channels, up, up, h, wd).transpose(0, 3, 1, 4, 2).reshape(channels, h * up, wd * up)
    return convolve(x, w["last.weight"], w["last.bias"], stride)


def three(w, name, x):
    for k in (1, 2, 3):
        x = leaky(convolve(x, w[f"{name}.conv{k}.weight"], w[f"{name}.conv{k}.bias"]))
    return x


def generator_numpy(w, x, levels):
    x = upsample(x)
    beside = []
    for k in range(levels):
        y = three(w, f"down.{k}", x)
        x = widened(x, len(y)) + y
        beside.append(x)
        x = pool(x)
    x = convolve(x, w["bottom.weight"], w["bottom.bias"])
    for k in range(levels):
        x = three(w, f"up.{k}", np.concatenate([beside[-1 - k], upsample(x)]))
    return convolve(x, w["last.weight"], w["last.bias"])


def discriminator_numpy(w, x, blocks, stride):
    z = leaky(convolve(x, w["first.weight"], w["first.bias"]))
    for k in range(blocks):
        z = leaky(convolve(z, w[f"blocks.{k}.0.weight"], w[f"blocks.{k}.0.bias"]))
        z = leaky(convolve(z, w[f"blocks.{k}.1.weight"], w[f"blocks.{k}.1.bias"], stride))
    z = leaky(w["full1.weight"] @ z.mean((1, 2)) + w["full1.bias"])
    return (w["full2.weight"] @ z + w["full2.bias"])[0]


# ---------------------------------------------------------------- the networks


def randomised(network, seed=0):
    """Biases too, or a wrong sign of theirs would not be seen."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1)
    return network.double().eval()


@pytest.mark.parametrize(("scale", "up", "stride"), [(2.5, 5, 2), (2, 2, 1), (1.5, 3, 2)])
def test_brightfield_is_the_equations(scale, up, stride):
    network = randomised(BrightfieldNet(scale, 3, blocks=2))
    x = np.random.default_rng(0).random((3, 9, 8))
    with torch.no_grad():
        ours = network(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(ours, brightfield_numpy(weights_of(network), x, 2, up, stride), atol=1e-10)


def test_brightfield_has_the_papers_size():
    network = BrightfieldNet()
    assert sum(p.numel() for p in network.parameters()) == 203_787
    assert network.first.weight.shape == (32, 3, 3, 3)
    assert [b.conv2.out_channels for b in network.blocks] == [34, 38, 44, 52, 62]
    small = BrightfieldNet(blocks=1)
    with torch.no_grad():
        assert small(torch.zeros(1, 3, 55, 33)).shape == (1, 3, 138, 83)
    weights = torch.cat([p.flatten() for n, p in network.named_parameters() if n.endswith("weight")])
    assert weights.abs().max() <= 0.1
    # a normal cut at ±2 of its deviations has 0.88 of them
    assert float(weights.detach().std()) == pytest.approx(0.05 * 0.8796, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (BrightfieldNet, {"scale": 2.333}),
        (BrightfieldNet, {"scale": 0}),
        (BrightfieldNet, {"scale": float("nan")}),
        (BrightfieldNet, {"channels": 0}),
        (BrightfieldNet, {"blocks": 0}),
        (FluorescenceGenerator, {"scale": 5}),
        (FluorescenceGenerator, {"widths": ()}),
        (FluorescenceGenerator, {"widths": (8, 4)}),
        (FluorescenceGenerator, {"widths": (2, 4), "channels": 3}),
    ],
)
def test_networks_that_cannot_be_are_refused(kind, arguments):
    with pytest.raises(ConfigurationError):
        kind(**arguments)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_generator_takes_every_multiple_of_its_grid(scale, levels):
    network = FluorescenceGenerator(scale, widths=(1,) * levels)
    size = network.size_multiple
    with torch.no_grad():
        assert network(torch.zeros(1, 1, size, 2 * size)).shape == (1, 1, scale * size, scale * 2 * size)


def test_generator_is_the_equations():
    network = randomised(FluorescenceGenerator(2, widths=(3, 5)))
    x = 20 * np.random.default_rng(0).random((1, 8, 6))
    with torch.no_grad():
        ours = network(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(ours, generator_numpy(weights_of(network), x, 2), atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_discriminator_is_the_equations(stride):
    network = randomised(Discriminator(2, blocks=3, stride=stride))
    x = 20 * np.random.default_rng(0).random((1, 16, 16))
    with torch.no_grad():
        ours = float(network(torch.from_numpy(x)[None])[0])
    assert ours == pytest.approx(discriminator_numpy(weights_of(network), x, 3, stride), abs=1e-9)


def test_generator_has_the_stated_size_and_starts_from_interpolation():
    network = FluorescenceGenerator()
    assert sum(p.numel() for p in network.parameters()) == 3_744_737
    torch.manual_seed(0)
    small = FluorescenceGenerator(2, widths=(8, 16)).start_from_interpolation()
    x = 255 * torch.rand(1, 1, 16, 16)
    expected = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        assert (small(x) - expected).abs().mean() < 0.05 * 255


@pytest.mark.parametrize(
    "network",
    [
        BrightfieldNet(2.5, 1, blocks=2),
        BrightfieldNet(2, 1, blocks=1),
        FluorescenceGenerator(2, (2, 2)),
        FluorescenceGenerator(2, (2, 2), keep_means=5),
        FluorescenceGenerator(1, (2, 2, 2)),
        FluorescenceGenerator(3, (2, 2)),
        FluorescenceGenerator(4, (2, 2, 2)),
    ],
    ids=[
        "brightfield-2.5",
        "brightfield-2",
        "generator-2",
        "generator-2-means",
        "generator-1",
        "generator-3",
        "generator-4",
    ],
)
def test_receptive_radius_is_enough_and_not_twice_what_is_needed(network):
    """The gradient of single output pixels, with positive weights only, reaches all it can."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    multiple = getattr(network, "size_multiple", 1)
    radius, size = network.receptive_radius, -(-3 * network.receptive_radius // multiple) * multiple
    size = max(size, 2 * multiple + 2 * radius)
    x = torch.rand(1, 1, size, 4 * multiple, requires_grad=True, dtype=torch.float32)
    out = network(x)
    reach = 0
    middle = int(size // 2 * network.scale)
    for o in range(middle, middle + int(multiple * max(2, network.scale * 2))):
        (gradient,) = torch.autograd.grad(out[0, 0, o, 4], x, retain_graph=True)
        rows = torch.nonzero(gradient[0, 0].abs().sum(1))[:, 0]
        here = int(o // network.scale)
        reach = max(reach, here - int(rows.min()), int(rows.max()) - here)
    assert reach <= radius <= reach + max(2, multiple // 2)


# ---------------------------------------------------------------- the losses


def test_brightfield_loss_is_the_equation():
    rng = np.random.default_rng(1)
    output, label = rng.random((2, 3, 12, 10)), rng.random((2, 3, 12, 10))
    h = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float)
    energy = 0.0
    for image in output.reshape(-1, 1, 12, 10):
        gx, gy = convolve(image, h[None, None]), convolve(image, h.T[None, None])
        energy += (gx**2 + gy**2).sum()
    expected = ((output - label) ** 2).mean() + 0.001 * energy / output.size
    ours = float(brightfield_loss(torch.from_numpy(output), torch.from_numpy(label)))
    assert ours == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("shape", [(40, 33), (11, 12), (30, 700), (700, 30)])
@pytest.mark.parametrize("kind", ["noise", "white background"])
def test_structural_similarity_is_scikit_images(data_range, shape, kind):
    rng = np.random.default_rng(2)
    a = rng.random(shape) if kind == "noise" else 0.98 + rng.normal(0, 0.004, shape)
    b = a + rng.normal(0, 0.1 if kind == "noise" else 0.004, shape)
    a, b = (np.float32(image * data_range).astype(float) for image in (a, b))
    _, full = skimage_ssim(
        a, b, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    tensors = (torch.from_numpy(image.astype(np.float32))[None, None].requires_grad_() for image in (a, b))
    ours = structural_similarity(*tensors, data_range)
    assert float(ours.detach()) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-5)
    assert ours.requires_grad


def test_structural_similarity_wants_its_window():
    with pytest.raises(InputError, match="11 px"):
        structural_similarity(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20))


def test_adversarial_losses_are_the_equation():
    rng = np.random.default_rng(3)
    output, label = 255 * rng.random((2, 2, 1, 16, 16))
    real, fake = rng.normal(size=(2, 2))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    ssims = [
        skimage_ssim(o[0], t[0], data_range=255, gaussian_weights=True, use_sample_covariance=False, full=True)[1]
        for o, t in zip(output, label, strict=True)
    ]
    ssim = np.mean([s[5:-5, 5:-5].mean() for s in ssims])
    weights = calibrated_weights(torch.from_numpy(label + 3), torch.from_numpy(label))
    expected = (
        -np.log(sigmoid(fake)).mean()
        + weights.mse * ((output - label) ** 2).mean()
        - weights.ssim * np.log((1 + ssim) / 2)
    )
    tensors = [torch.from_numpy(a) for a in (fake, output, label)]
    loss, terms = generator_loss(*tensors, weights)
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    assert float(sum(terms.values())) == pytest.approx(expected, rel=1e-9)
    expected = -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()
    ours = float(discriminator_loss(torch.from_numpy(real), torch.from_numpy(fake)))
    assert ours == pytest.approx(expected, rel=1e-9)


def test_calibrated_terms_have_their_shares():
    rng = np.random.default_rng(4)
    label = torch.from_numpy(255 * rng.random((3, 1, 24, 24)))
    start = label + torch.from_numpy(rng.normal(0, 20, label.shape))
    for mse_share, ssim_share in [(0.01, 0.01), (0.01, 0.0), (0.45, 0.45)]:
        weights = calibrated_weights(start, label, mse_share, ssim_share)
        loss, terms = generator_loss(torch.zeros(3, dtype=torch.float64), start, label, weights)
        assert float(terms["mse"] / loss) == pytest.approx(mse_share, rel=1e-9)
        assert float(terms["ssim"] / loss) == pytest.approx(ssim_share, rel=1e-9)
    alone = calibrated_weights(start, label, 1.0, 0.0)
    loss, terms = generator_loss(None, start, label, alone)
    assert float(terms["adversarial"]) == 0
    assert float(loss) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1, 2])
def test_generator_that_keeps_means(scale):
    torch.manual_seed(3)
    plain = FluorescenceGenerator(scale, (4, 8))
    keeping = FluorescenceGenerator(scale, (4, 8), keep_means=5)
    keeping.load_state_dict(plain.state_dict())
    assert plain.config == {"scale": scale, "widths": [4, 8], "channels": 1}
    assert FluorescenceGenerator(**keeping.config).keep_means == 5
    assert keeping.receptive_radius == plain.receptive_radius + 2 * 5
    image = 100 * torch.rand(1, 1, 40, 48)
    with torch.no_grad():
        before, after = plain(image), keeping(image)

    def means(values, pixels):
        return torch.nn.functional.avg_pool2d(values, 15 * pixels, pixels)

    asked = means(image, 1)
    wrong = (means(before, scale) - asked).abs().max()
    assert (means(after, scale) - asked).abs().max() < 0.1 * wrong
    with pytest.raises(ValueError, match="odd"):
        FluorescenceGenerator(2, (4, 8), keep_means=4)


def test_lacking_light_is_shared_out_in_proportion():
    """A bright line in the dark that the network made too faint gets its light back; the dark stays dark."""
    network = FluorescenceGenerator(1, (4,), keep_means=9)
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20] = 100
    after = network._with_means_of(image, 0.6 * image)
    assert after[..., 10:30, 20].min() > 80  # 64 if it were spread evenly
    assert after[..., 10:30, 12:17].max() < 2
