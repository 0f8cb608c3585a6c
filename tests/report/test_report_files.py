"""What the report writes: figures that anyone can recompute, data of every chart, what is missing."""

import csv
import json
import re
import shutil
import tomllib
from html.parser import HTMLParser

import numpy as np
import pytest

from dlm_fiji.errors import InputError
from dlm_fiji.measures import luminance, psnr, ssim
from dlm_fiji.micrograph import from_array, open_image, save_image, to_array
from dlm_fiji.report import write_report, write_summary


class Page(HTMLParser):
    """Addresses and visible text of a page."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.words, self.hidden = [], [], False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("href", "src")]
        self.hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)


def page_of(run):
    return Page(run / "report" / "index.html")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_answer_comes_first_with_its_numbers(finished_run):
    text = page_of(finished_run).text
    figures = json.loads((finished_run / "report" / "metrics.json").read_text())["test_area"]
    answer = text.index("The network is closest to the label")
    assert answer < text.index("Image against image")
    sentence = text[answer : answer + 200]
    assert f"{figures['network']['ssim']:.3f}" in sentence
    assert f"{figures['richardson_lucy']['ssim']:.3f}" in sentence
    assert "held-out area of 300 × 300 px (75 × 75 µm)" in sentence
    assert f"{figures['network']['psnr_db']:.2f} dB" in text
    assert "Research use only, not for diagnosis" in text
    assert "Simulated instrument" in text


def test_metrics_can_be_recomputed_from_the_images(finished_run):
    metrics = json.loads((finished_run / "report" / "metrics.json").read_text())
    label = luminance(to_array(open_image(finished_run / "evaluate" / "label.tif")))
    for name in ("bicubic", "richardson_lucy", "network"):
        image = luminance(to_array(open_image(finished_run / "evaluate" / f"{name}.tif")))
        assert metrics["test_area"][name]["ssim"] == pytest.approx(ssim(image, label, 255.0, border=20), abs=1e-9)
        assert metrics["test_area"][name]["psnr_db"] == pytest.approx(psnr(image, label, 255.0, border=20), abs=1e-9)
    assert metrics["test_area"]["richardson_lucy"]["iterations"] == 14
    assert metrics["engines"]["illumination"] == "ImageJ 1.54p"
    assert metrics["seconds"]["train"] == pytest.approx(9.7)


def test_without_metrics_the_report_measures(new_run):
    given = json.loads((new_run / "evaluate" / "metrics.json").read_text())["test_area"]
    (new_run / "evaluate" / "metrics.json").unlink()
    write_report(new_run)
    measured = json.loads((new_run / "report" / "metrics.json").read_text())["test_area"]
    for name in ("bicubic", "network"):
        assert measured[name]["ssim"] == pytest.approx(given[name]["ssim"], abs=1e-9)


def test_a_loser_is_called_one(run_maker, tmp_path):
    run = run_maker(tmp_path / "lost", network_weight=0.02)
    write_report(run)
    text = page_of(run).text
    assert "Richardson–Lucy at its best (14 iterations) is closest to the label" in text
    assert "The network is closest" not in text


def test_every_address_leads_to_a_file_and_none_to_the_network(measured_run):
    page = page_of(measured_run)
    folder = measured_run / "report"
    for address in page.addresses:
        assert not re.match(r"(?i)(https?:)?//", address)
        if not address.startswith(("#", "data:")):
            assert (folder / address).is_file(), address
    for name in ("viewer.js", "style.css"):
        assert "http" not in (folder / "assets" / name).read_text()
    shown = json.loads(re.search(r'id="area-viewer">(.*?)</script>', (folder / "index.html").read_text(), re.S)[1])
    assert [image["name"] for image in shown["images"]][-1] == "label"
    assert all((folder / image["src"]).is_file() for image in shown["images"])


def test_pictures_are_the_pixels(finished_run):
    for name in ("input", "network", "label"):
        shown = open_image(finished_run / "report" / "images" / f"{name}.png")
        np.testing.assert_array_equal(shown.values, open_image(finished_run / "evaluate" / f"{name}.tif").values)


def test_data_of_every_chart(measured_run):
    data = measured_run / "report" / "data"
    for name in ("figures", "timings", "profile", "links", "history", "search", "fwhm", "mtf", "roc",
                 "depth_of_field", "cross_matrix", "table_S1", "table_S3", "table_S4", "table_2",
                 "table_3"):  # fmt: skip
        assert len(rows_of(data / f"{name}.csv")) >= 1, name
    profile = rows_of(data / "profile.csv")
    label = luminance(to_array(open_image(measured_run / "evaluate" / "label.tif")))
    values = np.array([float(row["label"]) for row in profile])
    assert any(
        np.abs(row[k : k + len(values)] - values).max() < 0.01 for row in label for k in range(300 - len(values))
    )


def test_every_optional_part_has_its_place(measured_run):
    text = page_of(measured_run).text
    for words in (
        "Bead widths", "0.481 µm (95 %: 0.470 to 0.492)", "Contrast transfer", "Depth of field",
        "Models and specimens", "3.0% of 400 regions", "Faults found against false alarms",
        "Best of 120 settings: 10 iterations with damping 0.1 %", "Table S4", "Steps, engines and times",
    ):  # fmt: skip
        assert words in text, words


def test_paper_tables_stand_beside_ours(measured_run):
    data = measured_run / "report" / "data"
    s1 = rows_of(data / "table_S1.csv")
    assert s1[1]["Paper: Deep neural network SSIM"] == "0.806"
    ours = next(row for row in s1 if row["Specimen"] == "IHC-stained colon")
    network = json.loads((measured_run / "report" / "metrics.json").read_text())["test_area"]["network"]["ssim"]
    assert ours["Simulated instrument (this run): Network SSIM"] == f"{network:.3f}"
    assert ours["Paper: Deep neural network SSIM"] == "–"
    s3 = rows_of(data / "table_S3.csv")
    assert [row["This run (s): Network output"] for row in s3] == ["20.500", "–", "0.120", "1.300"]
    s4 = rows_of(data / "table_S4.csv")
    assert len(s4) == 24
    assert s4[0]["Simulated instrument (this run): Network contrast"] == f"{0.9 - 256 / 2600:.3f}"
    assert len(rows_of(data / "table_3.csv")) == 5


def test_settings_are_toml_that_reads_back(finished_run):
    page = (finished_run / "report" / "index.html").read_text()
    import html

    text = html.unescape(re.search(r"Settings \(TOML\)</summary><pre>(.*?)</pre>", page, re.S)[1])
    assert tomllib.loads(text) == {
        "scale": 2.5,
        "seed": 1,
        "input": {"grid": [3, 3]},
        "train": {"steps": 400, "optimizer": {"rate": 1e-4}},
    }
    assert "python -m dlm_fiji pipeline demo" in page


@pytest.mark.parametrize(
    "missing",
    [
        ("evaluate/label.tif", "train", "illumination"),
        ("evaluate/metrics.json", "stitch", "deconvolve"),
        ("run.json", "predict"),
    ],
)
def test_any_part_may_be_missing(new_run, missing):
    for name in missing:
        path = new_run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_report(new_run)
    assert page_of(new_run).text


def test_missing_images_are_said(new_run):
    (new_run / "evaluate" / "network.tif").unlink()
    (new_run / "evaluate" / "richardson_lucy.tif").write_bytes(b"II*\0")
    write_report(new_run)
    text = page_of(new_run).text
    assert "Left out: the image 'Network', as evaluate/network.tif is not in the run folder." in text
    assert "Left out: the image 'Richardson–Lucy'" in text


def test_real_instruments_are_not_called_simulated(run_maker, tmp_path):
    run = run_maker(tmp_path / "real", simulated=False)
    write_report(run, paper=True)
    text = page_of(run).text
    assert "imulated instrument" not in text
    assert "This run" in text


def test_texts_of_the_run_cannot_break_the_page(new_run):
    run = json.loads((new_run / "run.json").read_text())
    run["question"] = "<script>alert(1)</script>"
    run["stages"]["train"]["note"] = "</table><img src=x onerror=alert(1)>"
    (new_run / "run.json").write_text(json.dumps(run))
    write_report(new_run)
    page = page_of(new_run)
    assert "<script>alert(1)</script>" in page.text
    assert "x" not in page.addresses


def test_sixteen_bit_grey_images(new_run):
    for path in (new_run / "evaluate").glob("*.tif"):
        grey = to_array(open_image(path)).astype(np.uint16)[..., 1] * 150
        save_image(from_array(grey, 0.25 if path.stem != "input" else 0.625), path)
    (new_run / "evaluate" / "metrics.json").unlink()
    write_report(new_run)
    assert "one display window" in page_of(new_run).text
    network = json.loads((new_run / "report" / "metrics.json").read_text())["test_area"]["network"]
    assert 0.5 < network["ssim"] < 1


def test_images_of_different_areas_are_refused(new_run):
    save_image(np.ones((50, 60, 3), np.uint8), new_run / "evaluate" / "network.tif")
    with pytest.raises(InputError, match="same area"):
        write_report(new_run)
    assert not (new_run / "report").exists()


def test_a_failed_report_leaves_the_old_one(new_run):
    write_report(new_run)
    before = (new_run / "report" / "index.html").read_bytes()
    save_image(np.ones((50, 60, 3), np.uint8), new_run / "evaluate" / "network.tif")
    with pytest.raises(InputError):
        write_report(new_run)
    assert (new_run / "report" / "index.html").read_bytes() == before
    assert not [path for path in new_run.iterdir() if path.name.startswith(".part")]


def test_the_same_run_gives_the_same_report(new_run):
    write_report(new_run)
    first = {p.relative_to(new_run): p.read_bytes() for p in (new_run / "report").rglob("*") if p.is_file()}
    write_report(new_run)
    assert first == {p.relative_to(new_run): p.read_bytes() for p in (new_run / "report").rglob("*") if p.is_file()}


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        write_report(tmp_path / "nothing")
    with pytest.raises(InputError, match="no run folder"):
        write_report(tmp_path)


def test_summary_of_several_specimens(run_maker, tmp_path):
    good = run_maker(tmp_path / "good")
    bad = run_maker(tmp_path / "bad", network_weight=0.02, simulated=False)
    for run, specimen in ((good, "colon"), (bad, "blood")):
        (run / "measures").mkdir()
        rows = f"model,specimen,ssim\nbicubic,{specimen},0.7\none,{specimen},0.8\n"
        (run / "measures" / "cross_matrix.csv").write_text(rows, encoding="utf-8")
    page = write_summary([good, bad], tmp_path / "summary")
    parsed = Page(page)
    assert "of 2 specimens" in parsed.text
    assert "Network on 1" in parsed.text
    assert "Richardson–Lucy on 1" in parsed.text
    assert "in 1 of 2" in parsed.text
    links = [address for address in parsed.addresses if address.endswith("report/index.html")]
    assert len(links) == 2
    assert all((page.parent / link).is_file() for link in links)
    assert len(rows_of(page.parent / "summary.csv")) == 2
    assert "colon" in parsed.text
    assert "Bicubic" in parsed.text
    assert [row["specimen"] for row in rows_of(page.parent / "cross_matrix.csv")] == [
        "colon",
        "colon",
        "blood",
        "blood",
    ]
    assert write_summary([good], tmp_path / "summary.html") == tmp_path / "summary" / "index.html"
    with pytest.raises(InputError, match="something else"):
        write_summary([good], good)
