"""Charts of the page as SVG files: training, search, stitching, profiles, resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlm_fiji.report.run_record import IMAGES

__all__ = [
    "COLOURS",
    "curves_chart",
    "histogram_chart",
    "profile_chart",
    "search_chart",
    "shift_chart",
    "stitch_chart",
    "training_chart",
]

#: One colour a method everywhere on the page (Okabe and Ito's, told apart by colour-blind readers too).
COLOURS = {
    "input": "#666666",
    "unprocessed": "#999999",
    "bicubic": "#999999",
    "richardson_lucy": "#D55E00",
    "network_before": "#56B4E9",
    "network": "#0072B2",
    "label": "#009E73",
}
_STYLES = {"bicubic": ":", "unprocessed": ":", "richardson_lucy": "--", "network_before": "-.", "input": ":"}


@contextmanager
def _chart(path: Path, width: float = 6.4, height: float = 3.4) -> Iterator[Any]:
    """Axes of a new chart that is saved as SVG; the same data give the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    look: Any = {
        "svg.hashsalt": "dlm_fiji",
        "svg.fonttype": "path",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "axes.edgecolor": "#555555",
        "axes.labelcolor": "#333333",
        "xtick.color": "#444444",
        "ytick.color": "#444444",
        "legend.frameon": False,
    }
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")


def _column(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row[x], row[y]) for row in rows if isinstance(row.get(x), float) and isinstance(row.get(y), float)]
    return tuple(np.array(pairs, dtype=float).reshape(-1, 2).T)  # type: ignore[return-value]


def training_chart(rows: Sequence[Mapping[str, Any]], path: Path) -> str | None:
    """Training loss (and its running median) and validation loss against steps; its sentence, or None."""
    step, loss = _column(rows, "step", "loss")
    check, val = _column(rows, "step", "val_loss")
    if step.size + check.size < 2:
        return None
    with _chart(path) as axes:
        if step.size:
            many = step.size > 60
            axes.plot(step, loss, color="#b9cbe0" if many else COLOURS["network"], lw=0.8 if many else 1.5,
                      label="training loss" if not many else "training loss, each entry")  # fmt: skip
            if many:
                reach = max(3, step.size // 40) | 1
                padded = np.pad(loss, reach // 2, mode="edge")
                smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, reach), axis=1)
                axes.plot(step, smooth, color=COLOURS["network"], lw=1.8, label=f"its median over {reach}")
        if val.size:
            best = int(np.argmin(val))
            axes.plot(check, val, "o-", color="#CC3311", ms=4, lw=1.5, label="validation loss")
            axes.plot(check[best], val[best], "o", ms=11, mfc="none", mec="#CC3311", mew=1.6, label="model kept")
        # The first steps from a random start would press everything else to the floor.
        values = np.concatenate([loss, val])
        if values.min() > 0 and values.max() > 20 * np.median(values):
            axes.set_yscale("log")
        axes.set(xlabel="training step (batches)", ylabel="loss")
        axes.legend(fontsize=9)
    if not val.size:
        return f"Training loss over {int(step.max())} steps; no validation loss was recorded."
    best = int(np.argmin(val))
    sentence = f"The model with the lowest validation loss ({val[best]:.4g}, step {int(check[best])}) was kept."
    check_ssim, ssim = _column(rows, "step", "val_ssim")
    if ssim.size:
        near = int(np.argmin(np.abs(check_ssim - check[best])))
        sentence += f" Its SSIM on the validation area is {ssim[near]:.3f}"
        sentence += f" ({ssim[0]:.3f} at step {int(check_ssim[0])})."
    if best == val.size - 1 and val.size > 2:
        sentence += " It was still falling at the end: longer training may help."
    return sentence


def search_chart(rows: Sequence[Mapping[str, Any]], path: Path) -> str | None:
    """SSIM of Richardson-Lucy against iterations, or over iterations and dampings; its sentence, or None."""
    measure = next((name for name in ("ssim", "score") if any(isinstance(r.get(name), float) for r in rows)), None)
    if measure is None or len(rows) < 2:
        return None
    title = "SSIM to the label" if measure == "ssim" else "score"
    dampings = sorted({row["damping"] for row in rows if isinstance(row.get("damping"), float)})
    best = max((row for row in rows if isinstance(row.get(measure), float)), key=lambda row: row[measure])
    if len(dampings) > 1:
        steps = sorted({row["iterations"] for row in rows})
        surface = np.full((len(dampings), len(steps)), np.nan)
        for row in rows:
            if isinstance(row.get(measure), float):
                surface[dampings.index(row["damping"]), steps.index(row["iterations"])] = row[measure]
        with _chart(path, height=3.2) as axes:
            axes.grid(False)
            # A few bad settings must not take all colours.
            low = float(np.nanquantile(surface, 0.25))
            edges = np.arange(len(steps) + 1), np.arange(len(dampings) + 1)
            shown = axes.pcolormesh(*edges, surface, cmap="cividis", vmin=low, rasterized=True)
            axes.figure.colorbar(shown, ax=axes, label=title)
            marks = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 8)).astype(int))
            axes.set_xticks(marks + 0.5, [f"{steps[i]:.0f}" for i in marks])
            axes.set_yticks(np.arange(len(dampings)) + 0.5, [f"{100 * d:g} %" for d in dampings])
            place = steps.index(best["iterations"]) + 0.5, dampings.index(best["damping"]) + 0.5
            axes.plot(*place, "o", ms=10, mfc="none", mec="white", mew=2)
            axes.set(xlabel="iterations", ylabel="damping")
        return (
            f"Best of {len(rows)} settings: {best['iterations']:.0f} iterations with damping "
            f"{100 * best['damping']:g} %, {title} {best[measure]:.3f} (ring)."
        )
    x, y = _column(rows, "iterations", measure)
    order = np.argsort(x)
    with _chart(path) as axes:
        axes.plot(x[order], y[order], "-", color=COLOURS["richardson_lucy"], lw=1.8)
        axes.plot(best["iterations"], best[measure], "o", ms=9, color=COLOURS["richardson_lucy"])
        text, place = (
            f"{best['iterations']:.0f} iterations, {best[measure]:.3f}",
            (best["iterations"], best[measure]),
        )
        axes.annotate(text, place, textcoords="offset points", xytext=(8, -16), color="#333333")
        axes.set(xlabel="iterations", ylabel=title)
        axes.margins(y=0.15)
    at_end = best["iterations"] == x.max()
    return (
        f"Best at {best['iterations']:.0f} of {int(x.max())} iterations tried, {title} {best[measure]:.3f}. The "
        "choice is made with the label of the test area itself, which favours Richardson–Lucy."
        + (" The search ended at its last iteration: more may be better still." if at_end else "")
    )


def stitch_chart(layout: Mapping[str, Any], path: Path) -> str | None:
    """Tiles where they were placed and their links coloured by residual; its sentence, or None."""
    positions = np.asarray(layout.get("positions") or [], dtype=float)
    shape = layout.get("tile_shape") or []
    if positions.ndim != 2 or len(positions) < 2 or len(shape) < 2:
        return None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    height, width = float(shape[0]), float(shape[1])
    links = [link for link in layout.get("links") or [] if "i" in link and "j" in link]
    used = [link for link in links if link.get("used") and link.get("residual") is not None]
    residuals = [float(link["residual"]) for link in used]
    top = max(0.5, max(residuals, default=0.0))
    span = positions.max(0) - positions.min(0) + (height, width)
    with _chart(path, 6.4, float(np.clip(6.0 * span[0] / span[1], 2.6, 6.4))) as axes:
        axes.grid(False)
        staged = layout.get("placed_by_stage") or [False] * len(positions)
        for (y, x), stage in zip(positions[:, :2], staged, strict=False):
            look = {"fc": "#f6c7c2", "hatch": "//"} if stage else {"fc": "#4477aa10"}
            axes.add_patch(Rectangle((x, y), width, height, ec="#8899aa", lw=0.8, **look))  # type: ignore[arg-type]
        scale = Normalize(0, top)
        import matplotlib

        colours = matplotlib.colormaps["viridis"]
        centres = positions[:, :2] + (height / 2, width / 2)
        # Many tiles make short links; the pen follows.
        pen = float(np.clip(40 / np.sqrt(len(positions)), 1.5, 7))
        for link in links:
            (y0, x0), (y1, x1) = centres[int(link["i"])], centres[int(link["j"])]
            if link.get("used") and link.get("residual") is not None:
                axes.plot(
                    [x0, x1],
                    [y0, y1],
                    color=colours(scale(float(link["residual"]))),
                    lw=pen,
                    solid_capstyle="butt",
                )
            else:
                axes.plot([x0, x1], [y0, y1], color="#CC3311", lw=1.2, ls=(0, (4, 3)))
        axes.plot(centres[:, 1], centres[:, 0], "o", color="#333333", ms=min(4.0, pen))
        bar = ScalarMappable(norm=scale, cmap=colours)
        axes.figure.colorbar(bar, ax=axes, label="residual of the link (px)", shrink=0.8)
        axes.set_xlim(positions[:, 1].min() - 0.03 * span[1], positions[:, 1].max() + width + 0.03 * span[1])
        axes.set_ylim(positions[:, 0].max() + height + 0.03 * span[0], positions[:, 0].min() - 0.03 * span[0])
        axes.set_aspect("equal")
        axes.set(xlabel="x (px)", ylabel="y (px)")
    sentence = f"{len(positions)} tiles, {len(used)} of {len(links)} links used"
    if residuals:
        sentence += f"; they disagree with the final places by {np.sqrt(np.mean(np.square(residuals))):.2f} px RMS"
        sentence += f", {max(residuals):.2f} px at most"
    doubtful = len(links) - len(used)
    by_stage = sum(bool(s) for s in staged)
    sentence += f". Dashed: {doubtful} rejected link{'s' if doubtful > 1 else ''}." if doubtful else "."
    if by_stage:
        tiles = "tiles" if by_stage > 1 else "tile"
        sentence += f" Hatched: {by_stage} {tiles} without a usable link, placed by the stage."
    return sentence


def profile_chart(
    profiles: Mapping[str, np.ndarray], step: float, unit: str, path: Path, axis: str = "luminance Y (grey levels)"
) -> None:
    """Grey level along one line through the images."""
    with _chart(path) as axes:
        for name, values in profiles.items():
            x = np.arange(len(values)) * step
            axes.plot(
                x,
                values,
                _STYLES.get(name, "-"),
                color=COLOURS.get(name),
                lw=1.6,
                label=IMAGES.get(name, name),
            )
        axes.set(xlabel=f"distance along the line ({unit})", ylabel=axis)
        axes.legend(fontsize=9)


def shift_chart(shifts: np.ndarray, shape: tuple[int, ...], path: Path) -> None:
    """One arrow a block, (rows, columns, 2) in px, in the middle of its block."""
    rows, columns = shifts.shape[:2]
    y, x = np.meshgrid(
        (np.arange(rows) + 0.5) * shape[0] / rows, (np.arange(columns) + 0.5) * shape[1] / columns, indexing="ij"
    )
    longest = max(float(np.hypot(shifts[..., 0], shifts[..., 1]).max()), 1e-6)
    with _chart(path, 6.4, 5.0) as axes:
        arrows = axes.quiver(x, y, shifts[..., 1], shifts[..., 0], angles="xy", scale=8 * longest, color="#0072B2")
        axes.quiverkey(arrows, 1.12, 0.95, longest, f"{longest:.2f} px", labelpos="S")
        axes.set(xlim=(0, shape[1]), ylim=(shape[0], 0), xlabel="x (px)", ylabel="y (px)", aspect="equal")


def curves_chart(
    rows: Sequence[Mapping[str, Any]], x: str, labels: tuple[str, str], path: Path, log: bool = False
) -> bool:
    """Every numeric column against column ``x``; whether there was anything to draw."""
    names = [n for n in (rows[0] if rows else {}) if n != x and any(isinstance(r.get(n), float) for r in rows)]
    if not names or len(rows) < 2:
        return False
    with _chart(path) as axes:
        for name in names:
            place, values = _column(rows, x, name)
            label = IMAGES.get(name, name.replace("_", " "))
            style, colour = _STYLES.get(name, "-"), COLOURS.get(name)
            axes.plot(place, values, style, marker="o", ms=3.5, lw=1.6, color=colour, label=label)
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(xlabel=labels[0], ylabel=labels[1])
        if len(names) > 1:
            axes.legend(fontsize=9)
    return True


def histogram_chart(groups: Mapping[str, Sequence[float]], label: str, path: Path) -> bool:
    """Histograms of several groups with common bins; whether there was anything to draw."""
    values = np.concatenate([np.asarray(v, float) for v in groups.values()]) if groups else np.zeros(0)
    if values.size < 2:
        return False
    edges = np.linspace(values.min(), values.max() + 1e-9, int(np.clip(np.sqrt(values.size) * 1.5, 8, 40)))
    with _chart(path) as axes:
        for name, group in groups.items():
            colour = COLOURS.get(name)
            axes.hist(group, edges, histtype="stepfilled", alpha=0.25, color=colour)
            axes.hist(
                group,
                edges,
                histtype="step",
                color=colour,
                lw=1.6,
                label=f"{IMAGES.get(name, name)} ({len(group)})",
            )
        axes.set(xlabel=label, ylabel="beads")
        axes.legend(fontsize=9)
    return True
