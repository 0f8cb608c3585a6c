"""The bright-field network of "Deep learning microscopy" and "Deep learning enhanced mobile-phone microscopy".

Rivenson et al. 2017, Optica 4, 1437 (doi:10.1364/OPTICA.4.001437, supplement section 1, eqs. S1-S3);
Rivenson et al. 2018, ACS Photonics 5, 2354 (doi:10.1021/acsphotonics.8b00146, eqs. 1-3).
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from dlm_fiji.errors import ConfigurationError

__all__ = ["BrightfieldNet", "block_widths"]


def block_widths(blocks: int = 5, alpha: float = 10.0, first: int = 32) -> list[int]:
    """Channels before the first and after each residual block (eq. S3): 32, 34, 38, 44, 52, 62 at the default.

    A_k = A_{k-1} + floor(alpha * k / K + 0.5), k = 1 … K.
    """
    widths = [first]
    for k in range(1, blocks + 1):
        widths.append(widths[-1] + math.floor(alpha * k / blocks + 0.5))
    return widths


class WideningBlock(nn.Module):
    """X_{k+1} = X_k + ReLU(conv2(ReLU(conv1(X_k)))) with X_k zero-padded in channels to the new width (eq. S1).

    The first convolution keeps the width, the second widens.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_in, 3, padding=1)
        self.conv2 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.widening = width_out - width_in

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return functional.pad(x, (0, 0, 0, 0, 0, self.widening)) + y


class BrightfieldNet(nn.Module):
    """Residual network that enlarges by ``scale`` = p/q: depth-to-space p, then a convolution of stride q.

    3→32→32→34→34→38→38→44→44→52→52→62→62→75→3→3 channels and 203,787 parameters at the default. All kernels
    are 3×3 with zero padding. An image of P×Q pixels becomes ⌈P·scale⌉×⌈Q·scale⌉ pixels.

    Parameters
    ----------
    scale
        Enlargement L; any ratio of small whole numbers (2, 2.5, 4, 5, …).
    channels
        Colour channels of input and output: 3 for RGB, 1 for grey.
    blocks, alpha
        Number K of residual blocks, and the channels they add in all (eq. S3).

    Raises
    ------
    ConfigurationError
        No such ratio, or no channel or block.

    Notes
    -----
    Input and output are (N, channels, H, W) tensors with values 0 … 1 (8-bit sRGB / 255). The weights start
    as in the papers: truncated normal, standard deviation 0.05, cut at two of them; biases 0.
    """

    def __init__(self, scale: float = 2.5, channels: int = 3, blocks: int = 5, alpha: float = 10.0) -> None:
        super().__init__()
        ratio = Fraction(scale).limit_denominator(16) if math.isfinite(scale) else Fraction(0)
        if ratio <= 0 or abs(float(ratio) - scale) > 1e-6:
            raise ConfigurationError(
                f"scale must be a ratio of small whole numbers such as 2, 2.5 or 4, not {scale:g}."
            )
        if channels < 1 or blocks < 1 or alpha < 0:
            raise ConfigurationError(
                f"A network has at least one channel and one block, and no negative alpha (given: channels {channels}, "
                f"blocks {blocks}, alpha {alpha:g})."
            )
        self.scale = float(ratio)
        self.channels = channels
        self.blocks_count = blocks
        self.alpha = alpha
        self.up, self.stride = ratio.numerator, ratio.denominator
        widths = block_widths(blocks, alpha)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*(WideningBlock(a, b) for a, b in pairwise(widths)))
        self.expand = nn.Conv2d(widths[-1], channels * self.up**2, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1, stride=self.stride)
        self.reset_parameters()

    @property
    def config(self) -> dict[str, float | int]:
        """The arguments that build this network again."""
        return {
            "scale": self.scale,
            "channels": self.channels,
            "blocks": self.blocks_count,
            "alpha": self.alpha,
        }

    @property
    def receptive_radius(self) -> int:
        """Input pixels on each side that one output pixel depends on, beyond its own."""
        return 2 * self.blocks_count + 3

    @property
    def grid(self) -> int:
        """Tiles must start at multiples of this many input pixels: the stride then meets the same phase."""
        return self.stride

    def reset_parameters(self) -> None:
        """Truncated normal weights of standard deviation 0.05, cut at ±2 of them; biases 0 (supplement 3)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.05, a=-0.1, b=0.1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, P, Q) → (N, C, ⌈P·L⌉, ⌈Q·L⌉), both with values 0 … 1 (not clipped)."""
        x = self.blocks(self.first(x))
        x = functional.pixel_shuffle(self.expand(x), self.up)
        return self.last(x)
