"""A displacement field: how one image must be bent to lie on another."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dlm_fiji.errors import DlmWarning, InputError
from dlm_fiji.micrograph import atomic_write
from dlm_fiji.registration.sampling import resample, sample

__all__ = ["Warp", "WarpCheck"]


@dataclass(frozen=True)
class WarpCheck:
    """Whether a warp folds: ``smallest_jacobian`` and where (y, x), ``folded`` the share of pixels at or
    below 0.
    """

    smallest_jacobian: float
    where: tuple[int, int]
    folded: float

    @property
    def ok(self) -> bool:
        """True when the Jacobian is above zero everywhere: the warp can be inverted."""
        return self.smallest_jacobian > 0


@dataclass(frozen=True)
class Warp:
    """A warp with aligned(p) = moving(p + displacement(p)).

    Attributes
    ----------
    displacement
        (2, H, W) float32: dy, dx in px of the moving image.
    engine
        What found it.
    record
        Plain numbers about how (iterations, correlation before and after, seconds).
    """

    displacement: np.ndarray
    engine: str = "native"
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        d = np.asarray(self.displacement, dtype=np.float32)
        if d.ndim != 3 or d.shape[0] != 2:
            raise InputError(f"A displacement field has shape (2, H, W), not {d.shape}.")
        if not np.isfinite(d).all():
            raise InputError("A displacement field must be finite everywhere.")
        object.__setattr__(self, "displacement", d)

    @classmethod
    def identity(cls, shape: tuple[int, ...]) -> Warp:
        """The warp that moves nothing, on an image (H, W[, C])."""
        return cls(np.zeros((2, *shape[:2]), np.float32), engine="identity")

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, shape: tuple[int, ...], engine: str = "native") -> Warp:
        """The warp of an affine map or homography.

        ``matrix`` (2, 3) or (3, 3) takes (y, x, 1) of the aligned image to y, x of the moving one.
        """
        matrix = np.asarray(matrix, dtype=float)
        rows, cols = np.mgrid[: shape[0], : shape[1]].astype(float)
        there = np.tensordot(matrix, np.stack([rows, cols, np.ones_like(rows)]), axes=1)
        if len(matrix) == 3:
            there = there[:2] / there[2]
        return cls((there - [rows, cols]).astype(np.float32), engine=engine)

    @property
    def shape(self) -> tuple[int, int]:
        """Size (H, W) of the aligned image."""
        return self.displacement.shape[1], self.displacement.shape[2]

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each aligned pixel is read in the moving image: rows and columns, (H, W) float32 each."""
        height, width = self.shape
        rows = self.displacement[0] + np.arange(height, dtype=np.float32)[:, None]
        cols = self.displacement[1] + np.arange(width, dtype=np.float32)[None, :]
        return rows, cols

    def apply(self, image: np.ndarray, order: int = 3, same_size: bool = True) -> np.ndarray:
        """The image (H, W[, C]) aligned, by one interpolation (B-spline of ``order``); the type is kept.

        ``same_size=False`` allows a moving image of another size than the aligned one, as after a global alignment.

        Raises
        ------
        InputError
            The image is not of the warp's size.
        """
        image = np.asarray(image)
        if same_size and image.shape[:2] != self.shape:
            raise InputError(
                f"The warp is for {self.shape[0]} x {self.shape[1]} px, the image has {image.shape[0]} x "
                f"{image.shape[1]}; use scaled() for another pixel size."
            )
        aligned = sample(image, *self.coordinates(), order=order)
        if image.dtype.kind in "ui":
            limits = np.iinfo(image.dtype)
            return np.clip(np.rint(aligned), limits.min, limits.max).astype(image.dtype)
        return aligned.astype(image.dtype)

    def compose(self, after: Warp) -> Warp:
        """One warp for this one followed by ``after``: after.apply(self.apply(image)) without the second
        interpolation.
        """
        if after.shape != self.shape:
            raise InputError(f"Warps of {self.shape} and {after.shape} px cannot be composed.")
        return Warp(composed(self.displacement, after.displacement), engine=self.engine, record=self.record)

    def inverse(self, iterations: int = 50) -> Warp:
        """The warp that undoes this one, by fixed-point iteration to 0.001 px.

        What leaves the image cannot come back: near the edges the field is continued, not known.
        """
        height, width = self.shape
        pad = int(np.ceil(np.abs(self.displacement).max())) + 8
        wide = (
            np.pad(self.displacement, ((0, 0), (pad, pad), (pad, pad)), mode="reflect", reflect_type="odd")
            if (min(height, width) > pad + 1)
            else np.pad(self.displacement, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
        )
        back = -wide
        for _ in range(iterations):
            new = -_read(wide, back)
            change = float(np.abs(new - back).max())
            back = new
            if change < 1e-3:
                break
        return Warp(back[:, pad:-pad, pad:-pad], engine=self.engine, record={"inverse": True})

    def scaled(self, factor: float) -> Warp:
        """The same warp for an image of ``factor`` times as many pixels a side."""
        if factor == 1:
            return self
        grid = np.moveaxis(resample(np.moveaxis(self.displacement, 0, -1), factor, "linear"), -1, 0)
        return Warp(grid * np.float32(factor), engine=self.engine, record=self.record)

    @classmethod
    def mean(cls, warps: Sequence[Warp]) -> Warp:
        """The mean displacement of a series: the fixed distortion of an instrument (004, Supplementary Fig.
        3).
        """
        if not warps:
            raise InputError("The mean of no warps was asked for.")
        if len({warp.shape for warp in warps}) != 1:
            raise InputError(f"Warps of different size cannot be averaged: {sorted({w.shape for w in warps})}.")
        stack = np.stack([warp.displacement for warp in warps])
        scatter = np.sqrt(((stack - stack.mean(axis=0)) ** 2).sum(axis=1).mean())
        record = {"averaged": len(warps), "scatter_px": float(scatter)}
        return cls(stack.mean(axis=0), engine=warps[0].engine, record=record)

    def check(self, warn: bool = True) -> WarpCheck:
        """The Jacobian determinant of p → p + displacement(p): at or below zero the warp folds over itself."""
        (yy, yx), (xy, xx) = (np.gradient(layer) for layer in self.displacement)
        jacobian = (1 + yy) * (1 + xx) - yx * xy
        y, x = np.unravel_index(int(np.argmin(jacobian)), jacobian.shape)
        result = WarpCheck(float(jacobian[y, x]), (int(y), int(x)), float((jacobian <= 0).mean()))
        if warn and not result.ok:
            warnings.warn(
                f"The warp folds over itself at y {y}, x {x} (Jacobian {result.smallest_jacobian:.2f}, "
                f"{100 * result.folded:.2g} % of the area): the pair may not be the same field.",
                DlmWarning,
                stacklevel=2,
            )
        return result

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the warp as a compressed ``.npz``; whole or not at all."""
        path = Path(path).with_suffix(".npz")
        with atomic_write(path) as part, open(part, "wb") as file:
            np.savez_compressed(
                file, displacement=self.displacement, engine=self.engine, record=json.dumps(self.record)
            )
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Warp:
        """Read a warp that :meth:`save` wrote.

        Raises
        ------
        InputError
            The file is missing or holds no warp.
        """
        try:
            with np.load(path) as file:
                return cls(file["displacement"], str(file["engine"]), json.loads(str(file["record"])))
        except FileNotFoundError:
            raise InputError(f"Warp file {path} does not exist.") from None
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} is not a warp file: {error}.") from error


def composed(first: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Displacement (2, H, W) of ``first`` followed by ``after``: after(p) + first(p + after(p))."""
    return after + _read(first, after)


def _read(layers: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Each layer (2, H, W) at p + displacement(p), bilinear (a field is smooth), edges repeated."""
    height, width = displacement.shape[1:]
    rows = (displacement[0] + np.arange(height, dtype=np.float32)[:, None]).astype(np.float32)
    cols = (displacement[1] + np.arange(width, dtype=np.float32)[None, :]).astype(np.float32)
    return np.stack(
        [
            cv2.remap(
                np.ascontiguousarray(layer, np.float32),
                cols,
                rows,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for layer in layers
        ]
    )
