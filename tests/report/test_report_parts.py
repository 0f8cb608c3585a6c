"""Verdicts, regions, error maps and deep-zoom tiles on their own."""

import numpy as np
import pytest

from dlm_fiji.micrograph import PyramidWriter, open_image, save_image, to_array
from dlm_fiji.report import charts, write_deep_zoom
from dlm_fiji.report.pictures import bar_um, detail_regions, error_maps
from dlm_fiji.report.verdict import answer, area_words


def figures(bicubic, rival, network):
    def one(pair):
        return {"ssim": pair[0], "psnr_db": pair[1]}

    return {
        "bicubic": one(bicubic),
        "richardson_lucy": one(rival) | {"iterations": 9},
        "network": one(network),
    }


def test_verdicts():
    headline, support = answer(figures((0.7, 25.0), (0.8, 27.0), (0.85, 28.0)), "an area")
    assert headline.startswith("The network is closest to the label: SSIM 0.850 against 0.800")
    assert "+0.150 SSIM and +3.00 dB" in support
    headline, _ = answer(figures((0.7, 25), (0.8, 27), (0.79, 26)), "an area")
    assert headline.startswith("Richardson–Lucy at its best (9 iterations) is closest")
    assert "0.790 for the network" in headline
    cut_short = figures((0.7, 25), (0.8, 27), (0.79, 26))
    cut_short["richardson_lucy"]["iterations_tried"] = 9
    assert "9 iterations, as many as were tried" in answer(cut_short, "an area")[0]
    headline, _ = answer(figures((0.7, 25), (0.8, 27), (0.801, 26)), "an area")
    assert "are level" in headline
    _, support = answer(figures((0.7, 25), (0.8, 27), (0.85, 26.5)), "an area")
    assert "The two measures disagree: by PSNR Richardson–Lucy" in support
    headline, support = answer(figures((0.82, 25), (0.8, 27), (0.79, 26)), "an area")
    assert headline.startswith("Bicubic enlargement is closest")
    assert "−0.030 SSIM" in support
    assert "No figures" in answer({}, "an area")[0]
    assert "0.700" in answer({"bicubic": {"ssim": 0.7}}, "an area")[0]


def test_area_in_words():
    assert area_words(40, 60, (0.5, 0.25)) == "a held-out area of 60 × 40 px (15 × 20 µm)"
    assert area_words(40, 60, None, held_out=False) == "an area of 60 × 40 px"


def test_regions_are_where_the_detail_is():
    label = np.full((300, 400), 120, np.uint8)
    rng = np.random.default_rng(0)
    label[60:120, 250:330] = rng.integers(0, 255, (60, 80))
    regions = detail_regions(label)
    best = max(regions, key=lambda r: label[r.y : r.y + r.side, r.x : r.x + r.side].std())
    assert abs(best.y + best.side / 2 - 90) < 40
    assert abs(best.x + best.side / 2 - 290) < 40
    for r in regions:
        assert 20 <= r.y <= 300 - 20 - r.side
        assert 20 <= r.x <= 400 - 20 - r.side
        apart = [max(abs(r.y - o.y), abs(r.x - o.x)) >= r.side for o in regions if o is not r]
        assert all(apart)


def test_error_maps_share_one_scale():
    label = np.full((50, 50), 100, np.uint8)
    off = label.copy()
    off[10:20, 10:20] = 150
    maps, top = error_maps({"bicubic": off, "network": label + 10, "label": label}, label)
    assert set(maps) == {"bicubic", "network"}
    assert top == pytest.approx(50, abs=1)
    assert maps["bicubic"][15, 15].astype(int).sum() > maps["network"][15, 15].astype(int).sum()
    assert maps["bicubic"][0, 0].astype(int).sum() < maps["network"][0, 0].astype(int).sum()


@pytest.mark.parametrize(("width", "bar"), [(75, 20), (30, 10), (2.9, 0.5), (1000, 200)])
def test_scale_bars_are_round(width, bar):
    assert bar_um(width) == pytest.approx(bar)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin(y / 37), 128 + 100 * np.cos(x / 53), 128 + 90 * np.sin((x + y) / 71)]
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(700, 1150), (257, 256), (40, 30), (256, 512)])
def test_tiles_make_the_image_again(tmp_path, height, width):
    values = smooth(height, width)
    path = save_image(values, tmp_path / "mosaic.tif")
    facts = write_deep_zoom(path, tmp_path / "tiles", tile=256, quality=95)
    assert (facts["width"], facts["height"]) == (width, height)
    for level in range(facts["levels"]):
        factor = 2 ** (facts["levels"] - 1 - level)
        rows, columns = -(-height // factor), -(-width // factor)
        whole = np.zeros((rows, columns, 3))
        files = list((tmp_path / "tiles" / str(level)).glob("*.jpg"))
        assert len(files) == -(-rows // 256) * -(-columns // 256)
        for file in files:
            column, row = (int(n) for n in file.stem.split("_"))
            part = to_array(open_image(file))
            y, x = row * 256, column * 256
            whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        if min(rows, columns) >= 16:
            expected = values[: rows * factor : factor, : columns * factor : factor]
            assert np.abs(whole[: len(expected)] - expected).mean() < 2 + 3 * factor
    assert f'Width="{width}" Height="{height}"' in (tmp_path / "tiles.dzi").read_text()


def test_tiles_of_a_streamed_grey_image(tmp_path):
    values = (smooth(600, 900)[..., 0].astype(np.uint16)) * 200
    with PyramidWriter(tmp_path / "a.ome.tif", values.shape, values.dtype, tile=256) as writer:
        writer.write(0, 0, values)
    facts = write_deep_zoom(tmp_path / "a.ome.tif", tmp_path / "tiles", tile=256)
    top = to_array(open_image(tmp_path / "tiles" / str(facts["levels"] - 1) / "0_0.jpg"))
    assert top.shape == (256, 256)
    assert np.corrcoef(top.ravel(), values[:256, :256].ravel())[0, 1] > 0.99


def test_charts_say_what_they_show(tmp_path):
    rows = [{"step": float(s), "loss": 1.0 / s, "val_loss": 2.0 / s, "val_ssim": 0.5, "lr": 0.1} for s in range(1, 9)]
    assert "step 8" in charts.training_chart(rows, tmp_path / "a.svg")
    assert "still falling" in charts.training_chart(rows, tmp_path / "a.svg")
    search = [{"iterations": float(n), "ssim": 0.8 - (n - 5) ** 2 / 100} for n in range(1, 11)]
    assert charts.search_chart(search, tmp_path / "b.svg").startswith("Best at 5 of 10 iterations")
    assert "ended at its last iteration" in charts.search_chart(search[:5], tmp_path / "b.svg")
    links = [
        {"i": 0, "j": 1, "residual": 0.3, "used": True},
        {"i": 1, "j": 2, "residual": 4.0, "used": False},
    ]
    layout = {"positions": [[0, 0], [0, 80], [0, 160]], "tile_shape": [100, 100], "links": links,
              "placed_by_stage": [False, False, True]}  # fmt: skip
    text = charts.stitch_chart(layout, tmp_path / "c.svg")
    assert "3 tiles, 1 of 2 links used" in text
    assert "0.30 px RMS" in text
    assert "1 tile without a usable link" in text
    for name in "abc":
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()[:1000]


def test_charts_of_nothing(tmp_path):
    assert charts.training_chart([], tmp_path / "a.svg") is None
    assert charts.search_chart([], tmp_path / "a.svg") is None
    assert charts.stitch_chart({}, tmp_path / "a.svg") is None
    assert not charts.curves_chart([], "x", ("x", "y"), tmp_path / "a.svg")
    assert not charts.histogram_chart({}, "x", tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []
