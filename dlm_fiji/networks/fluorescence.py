"""Generator and discriminator of "Deep learning achieves super-resolution in fluorescence microscopy".

Wang et al. 2019, Nature Methods 16, 103 (doi:10.1038/s41592-018-0239-0), eqs. 3-7 and fig. 6. Between the
equations the paper follows Rivenson et al. 2019, doi:10.1038/s41551-019-0362-y; what neither says is chosen
here and said so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlm_fiji.errors import ConfigurationError

__all__ = ["Discriminator", "FluorescenceGenerator"]

SLOPE = 0.1
"""α of the leaky rectifier (eq. 4)."""
WIDTHS = (32, 64, 128, 256)
PEDESTAL = 10.0
"""Of 0 … 255: where the output is as dark as this or darker, lacking light is spread almost evenly."""
MEAN_STEPS = 2
"""Steps towards the input's means: one leaves up to 3.4 % in a region of 32 camera pixels, two leave 2 %."""


def initialise(network: nn.Module) -> None:
    """Truncated normal weights of standard deviation 0.05 (cut at ±2 of them), biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.05, a=-0.1, b=0.1)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class ThreeConvolutions(nn.Module):
    """LReLU(Conv) three times: the body of a down-sampling (eq. 3) and an up-sampling block (eq. 5)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.conv3 = nn.Conv2d(width_out, width_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = functional.leaky_relu(conv(x), SLOPE)
        return x


class FluorescenceGenerator(nn.Module):
    """U-net with residual blocks on the way down; a grey image to a grey image of ``scale`` times its size.

    ``scale`` times bilinear interpolation; then at each level x_k = pad(x_{k-1}) + three convolutions (eq. 3)
    and average pooling; one convolution at the bottom; on the way up bilinear ×2 (``align_corners=False``),
    concatenation with x of that level and three convolutions (eq. 5); a last convolution to one channel.
    3,744,737 parameters at the default.

    Parameters
    ----------
    scale
        Enlargement before the network: 2 for 10×/0.4 to 20×/0.75 (002), 1 for confocal to STED.
    widths
        Channels of the levels, from the top; none has fewer than the one above.
    channels
        Channels in and out.
    keep_means
        Side (odd, input pixels) of the window in which the output gets the input's mean back: what it lacks is
        shared out in proportion to the output, so that dark gaps stay dark. 0: off, as in 002. It keeps
        intensities quantitative, which no loss term does.

    Notes
    -----
    (N, channels, H, W) tensors with values 0 … 255; H·scale and W·scale must be multiples of 2 to the number
    of levels. The first of three convolutions changes the number of channels, an up-sampling block of a level
    ends with the channels of the level above. These two and the missing activation at the bottom are our
    reading.
    """

    def __init__(self, scale: int = 2, widths: Sequence[int] = WIDTHS, channels: int = 1, keep_means: int = 0) -> None:
        super().__init__()
        if scale not in (1, 2, 3, 4):
            raise ConfigurationError(f"scale must be 1, 2, 3 or 4, not {scale}.")
        if not widths or channels < 1 or any(b < a for a, b in pairwise((channels, *widths))):
            # the residual sums pad with zero channels; fewer would drop channels without a word
            raise ConfigurationError(
                f"widths must not fall from level to level, nor below the channels: {list(widths)}."
            )
        if keep_means < 0 or (keep_means and keep_means % 2 == 0):
            raise ConfigurationError(f"keep_means must be odd, or 0 for off, not {keep_means}.")
        self.scale = scale
        self.keep_means = keep_means
        self.widths = tuple(int(width) for width in widths)
        self.channels = channels
        self.down = nn.ModuleList(ThreeConvolutions(a, b) for a, b in pairwise((channels, *self.widths)))
        self.bottom = nn.Conv2d(self.widths[-1], self.widths[-1], 3, padding=1)
        above = (self.widths[0], *self.widths[:-1])
        below = self.widths[-1]
        ups = []
        for width, out in zip(reversed(self.widths), reversed(above), strict=True):
            ups.append(ThreeConvolutions(width + below, out))
            below = out
        self.up = nn.ModuleList(ups)
        self.last = nn.Conv2d(self.widths[0], channels, 3, padding=1)
        initialise(self)

    @property
    def config(self) -> dict[str, object]:
        """The arguments that build this network again."""
        config: dict[str, object] = {"scale": self.scale, "widths": list(self.widths), "channels": self.channels}
        return config | ({"keep_means": self.keep_means} if self.keep_means else {})

    @property
    def size_multiple(self) -> int:
        """Input pixels of which rows and columns must be multiples."""
        whole = 2 ** len(self.widths)
        return whole // math.gcd(whole, self.scale)

    @property
    def grid(self) -> int:
        """Tiles must start at multiples of this many input pixels: the poolings meet the same phases."""
        return self.size_multiple

    @property
    def receptive_radius(self) -> int:
        """Input pixels on each side that one output pixel depends on, the worst over all phases."""
        levels = len(self.widths)
        radius = 0
        for phase in range(self.scale * 2**levels):
            low = high = phase
            low, high = low - 1, high + 1  # last convolution
            for _ in range(levels):  # up: three convolutions, then bilinear from the level below
                low, high = (low - 3 - 1) // 2, (high + 3 - 1) // 2 + 1
            low, high = low - 1, high + 1  # bottom
            for _ in range(levels):  # down: pooling, three convolutions
                low, high = 2 * low - 3, 2 * high + 1 + 3
            if self.scale > 1:
                low, high = low // self.scale - 1, high // self.scale + 1
            here = phase // self.scale
            radius = max(radius, here - low, high - here)
        # a step reaches over two windows, and a pixel of the bilinear enlargement of what they hold
        return radius + (MEAN_STEPS * (2 * (self.keep_means // 2) + 1) if self.keep_means else 0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, channels, H·scale, W·scale)."""
        image = x
        if self.scale > 1:
            x = functional.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        passed = []
        for block in self.down:
            y = block(x)
            x = functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1])) + y
            passed.append(x)
            x = functional.avg_pool2d(x, 2)
        x = self.bottom(x)
        for block, beside in zip(self.up, reversed(passed), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([beside, x], 1))
        output = self.last(x)
        return self._with_means_of(image, output) if self.keep_means else output

    def _with_means_of(self, image: Tensor, output: Tensor) -> Tensor:
        """``output`` with the local means of ``image``: Richardson-Lucy steps whose blur is a square window.

        It is ``keep_means`` camera pixels wide. Unlike there, noise may make values negative: the shares are those
        of the positive part over a pedestal.
        """
        for _ in range(MEAN_STEPS):
            share = functional.relu(output) + PEDESTAL
            lacking = self._in_windows(image - self._camera_pixels(output))
            lacking = self._in_windows(lacking / self._in_windows(self._camera_pixels(share)))
            if self.scale > 1:
                lacking = functional.interpolate(lacking, scale_factor=self.scale, mode="bilinear", align_corners=False)
            output = output + share * lacking
        return output

    def _camera_pixels(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, self.scale) if self.scale > 1 else x

    def _in_windows(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, self.keep_means, 1, self.keep_means // 2, count_include_pad=False)

    @torch.no_grad()
    def start_from_interpolation(self) -> FluorescenceGenerator:
        """Weights with which the untrained network returns its interpolated input (for values ≥ 0).

        The image runs unchanged along the first channel: through the residual sum of the first level, the
        concatenation beside the bottom, and the last block. The other random weights are shrunk, so that they
        neither drown it nor explode with depth (their gain at 512 channels is 3 a convolution).
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight.shape[1] * 9
                module.weight *= min(1.0, (2 / (1 + SLOPE**2) / fan_in) ** 0.5 / 0.044)
        first: Any = self.down[0]
        top: Any = self.up[-1]
        first.conv3.weight[: self.channels] *= 0.01
        for conv in (top.conv1, top.conv2, top.conv3, self.last):
            conv.weight[: self.channels] *= 0.01
            for c in range(self.channels):
                conv.weight[c, c, 1, 1] = 1
        return self


class Discriminator(nn.Module):
    """One convolution, five blocks of two (eq. 6), mean over the patch, two fully connected layers; logits out.

    The probability of eq. 7 is the sigmoid of the output, which the losses take in (``softplus`` is exact
    where the logarithm of a sigmoid is not).

    Parameters
    ----------
    width
        Channels of the first convolution; the second convolution of each block doubles them.
    blocks
        Number of blocks.
    channels
        Channels of the image.
    stride
        1: as in 002. 2: the second convolution of each block halves the image, as in the paper that 002
        follows; about 20 times faster.
    """

    def __init__(self, width: int = 32, blocks: int = 5, channels: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.width, self.blocks_count, self.channels, self.stride = width, blocks, channels, stride
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        layers = []
        for k in range(blocks):
            a = width * 2**k
            layers.append(nn.ModuleList([nn.Conv2d(a, a, 3, padding=1), nn.Conv2d(a, 2 * a, 3, stride, 1)]))
        self.blocks = nn.ModuleList(layers)
        last = width * 2**blocks
        self.full1 = nn.Linear(last, last)
        self.full2 = nn.Linear(last, 1)
        initialise(self)

    @property
    def config(self) -> dict[str, int]:
        """The arguments that build this network again."""
        return {
            "width": self.width,
            "blocks": self.blocks_count,
            "channels": self.channels,
            "stride": self.stride,
        }

    def forward(self, image: Tensor) -> Tensor:
        """(N, channels, H, W) with values 0 … 255 → (N,) logits of "this is a label"."""
        z = functional.leaky_relu(self.first(image), SLOPE)
        pair: Any
        for pair in self.blocks:
            conv1, conv2 = pair
            z = functional.leaky_relu(conv2(functional.leaky_relu(conv1(z), SLOPE)), SLOPE)
        z = functional.leaky_relu(self.full1(z.mean((2, 3))), SLOPE)
        return self.full2(z)[:, 0]
