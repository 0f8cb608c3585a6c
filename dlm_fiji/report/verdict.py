"""The answer to the run's question in plain words, with its numbers; the loser is never left out."""

from __future__ import annotations

from typing import Any

from dlm_fiji.report.run_record import IMAGES, METHODS

__all__ = ["answer", "area_words", "ranking"]

#: Differences below these cannot be seen and are called level.
LEVEL_SSIM, LEVEL_DB = 0.002, 0.05


def ranking(test_area: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(image name, figures) of the competitors, best SSIM first."""
    found = [
        (name, test_area[key])
        for name, key in METHODS.items()
        if isinstance(test_area.get(key), dict) and test_area[key].get("ssim") is not None
    ]
    return sorted(found, key=lambda entry: -entry[1]["ssim"])


def answer(test_area: dict[str, Any], area: str) -> tuple[str, str]:
    """The answer and what supports it.

    Parameters
    ----------
    test_area
        ``metrics.json``'s part of this name.
    area
        What was judged, see :func:`area_words`.

    Returns
    -------
    (headline, support)
        One sentence each; the support is empty where nothing could be measured.
    """
    order = [entry for entry in ranking(test_area) if entry[0] != "network_before"]
    figures = dict(order)
    if not order:
        return "No figures: the run has no label to compare with, or was not evaluated.", ""
    best, top = order[0]
    if len(order) == 1:
        return f"{_name(best, top)} reaches SSIM {top['ssim']:.3f} on {area}.", ""

    rivals = [entry for entry in order if entry[0] != "network"]
    if "network" in figures and rivals:
        rival, other = rivals[0]
        gain = figures["network"]["ssim"] - other["ssim"]
        if abs(gain) < LEVEL_SSIM:
            headline = f"The network and {_name(rival, other, False)} are level on {area}"
            # A tie in SSIM must not hide a clear difference in PSNR.
            headline += f": SSIM {figures['network']['ssim']:.3f} against {other['ssim']:.3f}"
        elif gain > 0:
            headline = (
                f"The network is closest to the label: SSIM {figures['network']['ssim']:.3f} against "
                f"{other['ssim']:.3f} for {_name(rival, other, False)}, on {area}"
            )
        else:
            headline = (
                f"{_name(rival, other)} is closest to the label: SSIM {other['ssim']:.3f} against "
                f"{figures['network']['ssim']:.3f} for the network, on {area}"
            )
        headline += "."
    else:
        rival, other = order[1]
        headline = (
            f"{_name(best, top)} is closest to the label: SSIM {top['ssim']:.3f} against {other['ssim']:.3f} "
            f"for {_name(rival, other, False)}, on {area}."
        )
    return headline, _support(order)


def area_words(height: int, width: int, pixel_um: tuple[float, float] | None, held_out: bool = True) -> str:
    """The judged area in words: pixels, and µm where the pixel size is known."""
    kind = "a held-out area" if held_out else "an area"
    size = f"{width} × {height} px"
    if pixel_um is not None:
        size += f" ({width * pixel_um[1]:.0f} × {height * pixel_um[0]:.0f} µm)"
    return f"{kind} of {size}"


def _support(order: list[tuple[str, dict[str, Any]]]) -> str:
    """All competitors' PSNR, and a word where it ranks them otherwise than SSIM."""
    with_psnr = [(name, f) for name, f in order if f.get("psnr_db") is not None]
    if not with_psnr:
        return ""
    by_psnr = sorted(with_psnr, key=lambda entry: -entry[1]["psnr_db"])
    listed = ", ".join(f"{f['psnr_db']:.2f} dB for {_name(name, f, False)}" for name, f in by_psnr)
    sentence = f"PSNR: {listed}."
    agree = by_psnr[0][0] == order[0][0]
    if not agree and by_psnr[0][1]["psnr_db"] - dict(with_psnr)[order[0][0]]["psnr_db"] >= LEVEL_DB:
        sentence += f" The two measures disagree: by PSNR {_name(by_psnr[0][0], by_psnr[0][1], False)} is ahead."
    plain = "unprocessed" if "unprocessed" in dict(order) else "bicubic"
    bicubic, network = dict(order).get(plain), dict(order).get("network")
    if bicubic and network:
        change = network["ssim"] - bicubic["ssim"]
        words = "plain bicubic enlargement" if plain == "bicubic" else "the input as it is"
        sentence += f" The network's gain on {words} is {change:+.3f} SSIM"
        if bicubic.get("psnr_db") is not None and network.get("psnr_db") is not None:
            sentence += f" and {network['psnr_db'] - bicubic['psnr_db']:+.2f} dB"
        sentence += "."
    return sentence.replace("+-", "−").replace(" -", " −")


def _name(name: str, figures: dict[str, Any], capital: bool = True) -> str:
    if name == "network":
        return "The network" if capital else "the network"
    if name == "unprocessed":
        return "The input as it is" if capital else "the input as it is"
    if name == "bicubic":
        return "Bicubic enlargement" if capital else "bicubic enlargement"
    if name == "richardson_lucy" and figures.get("iterations"):
        if figures.get("iterations_tried") == figures["iterations"]:
            return f"Richardson–Lucy ({figures['iterations']} iterations, as many as were tried)"
        return f"Richardson–Lucy at its best ({figures['iterations']} iterations)"
    return IMAGES.get(name, name)
