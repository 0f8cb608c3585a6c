"""Files, streams, batches, exports, recommendations."""

import hashlib
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from dlm_fiji.errors import ConfigurationError, DlmWarning, InputError
from dlm_fiji.inference import (
    InferenceSettings,
    Model,
    ModelCard,
    expand_inputs,
    export_model,
    load_model,
    predict,
    predict_batch,
    predict_file,
    recommend,
    save_model,
    stream_file,
)
from dlm_fiji.micrograph import PyramidWriter, from_array, open_image, provenance, pyramids, save_image, to_array
from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator

SETTINGS = InferenceSettings(backend="torch", device="cpu")


def brightfield():
    torch.manual_seed(0)
    network = BrightfieldNet(2.5, 3, blocks=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.5)
    return Model(network, ModelCard(name="small-brightfield", config=network.config))


def fluorescence():
    torch.manual_seed(0)
    network = FluorescenceGenerator(2, widths=(2, 3)).start_from_interpolation()
    return Model(
        network,
        ModelCard(
            name="small-fluorescence",
            modality="fluorescence",
            scale=2,
            channels=1,
            normalisation="percentile",
            intensity_range=(0, 255),
            config=network.config,
            architecture="FluorescenceGenerator",
        ),
    )


def picture(seed=0, shape=(90, 110, 3)):
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_streamed_is_the_image_in_memory(tmp_path, ending):
    model, image = brightfield(), from_array(picture(), 0.5)
    save_image(image, tmp_path / f"in.{ending}")
    settings = InferenceSettings.of(SETTINGS, tile=40)
    record = stream_file(model, tmp_path / f"in.{ending}", tmp_path / f"out.{ending}", settings)
    result = open_image(tmp_path / f"out.{ending}")
    expected = predict(model, image, tile="whole", settings=SETTINGS)
    assert np.abs(to_array(result).astype(int) - to_array(expected).astype(int)).max() <= 1
    assert float(result.x[1] - result.x[0]) == pytest.approx(0.2)
    assert provenance(tmp_path / f"out.{ending}")["model_sha256"] == model.sha256 == record["model_sha256"]


def test_memory_of_a_stream_does_not_grow_with_the_height(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramids, "BLOCK", 2**20)  # so that both fill the writer's buffers
    model, peaks = brightfield(), []
    for height in (1920, 5760):  # 4,800 and 14,400 rows come out: more than the tiles that the writer holds
        source = tmp_path / f"{height}.ome.tif"
        with PyramidWriter(source, (height, 90, 3), np.uint8, tile=64) as writer:
            for top in range(0, height, 64):
                writer.write(top, 0, picture(top, (64, 90, 3)))
        settings = InferenceSettings.of(SETTINGS, tile=128)
        tracemalloc.start()
        stream_file(model, source, tmp_path / f"{height}_out.ome.tif", settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_streamed_fluorescence_is_scaled_once_an_image(tmp_path):
    model = fluorescence()
    dark = np.random.default_rng(0).gamma(2, 200, (96, 130)).astype(np.uint16)
    dark[:40] //= 20  # a tile of its own would be scaled otherwise
    save_image(from_array(dark), tmp_path / "in.tif")
    settings = InferenceSettings.of(SETTINGS, tile=64)
    stream_file(model, tmp_path / "in.tif", tmp_path / "out.ome.tif", settings)
    whole = predict(model, dark, tile="whole", settings=SETTINGS)
    streamed = to_array(open_image(tmp_path / "out.ome.tif"))
    assert np.abs(streamed.astype(int) - whole.astype(int)).max() <= 1
    with pytest.raises(ConfigurationError, match="one pass"):
        stream_file(model, tmp_path / "in.tif", tmp_path / "o.ome.tif", InferenceSettings(passes=2))


def test_batch_goes_on_after_a_failure_and_skips_what_is_finished(tmp_path):
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    save_image(from_array(picture(1, (30, 30, 3))), folder / "a.tif")
    save_image(from_array(picture(2, (30, 30, 3))), folder.parent / "b.png")
    (folder / "broken.tif").write_bytes(b"II*\0 nothing more")
    save_image(from_array(picture(3, (30, 30, 4))), folder / "four channels.tif")
    seen = []
    items = predict_batch(
        brightfield(),
        [tmp_path / "in"],
        tmp_path / "out",
        SETTINGS,
        report=lambda item, n, total: seen.append((item.source.name, n, total)),
    )
    states = {item.source.name: item.state for item in items}
    assert states == {"b.png": "done", "a.tif": "done", "broken.tif": "failed", "four channels.tif": "failed"}
    assert [n for _, n, _ in seen] == [1, 2, 3, 4]
    assert "takes 3 channels" in next(i.reason for i in items if i.source.name.startswith("four"))
    written = tmp_path / "out" / "deeper" / "a_enhanced.tif"
    assert open_image(written).sizes["y"] == 75
    before = written.stat().st_mtime_ns
    again = {
        i.source.name: i.state for i in predict_batch(brightfield(), [tmp_path / "in"], tmp_path / "out", SETTINGS)
    }
    assert again["a.tif"] == again["b.png"] == "skipped"
    assert written.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="No image was found"):
        expand_inputs([tmp_path / "nothing*.tif"])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("make", [brightfield, fluorescence])
def test_torchscript_and_onnx_compute_the_same(tmp_path, make):
    model = make()
    x = np.random.default_rng(0).random((1, model.card.channels, 40, 56), np.float32)
    with torch.no_grad():
        expected = model.network(torch.from_numpy(x)).numpy()
    path = export_model(model, tmp_path / "m.pt", "torchscript")
    np.testing.assert_allclose(torch.jit.load(path)(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-4)
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = export_model(model, tmp_path / "m.onnx", "onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x})[0], expected, atol=1e-4)


@pytest.mark.parametrize("make", [brightfield, fluorescence])
def test_package_is_described_as_it_computes(tmp_path, make):
    model = make()
    path = export_model(model, tmp_path / "m.zip", "bioimageio")
    with zipfile.ZipFile(path) as package:
        files = {name: package.read(name) for name in package.namelist()}
    assert files["rdf.yaml"] == files["bioimageio.yaml"]
    rdf = yaml.safe_load(files["rdf.yaml"])
    for entry in (
        rdf["weights"]["torchscript"],
        rdf["inputs"][0]["test_tensor"],
        rdf["outputs"][0]["test_tensor"],
    ):
        assert hashlib.sha256(files[entry["source"]]).hexdigest() == entry["sha256"]
    given, expected = (np.load(__import__("io").BytesIO(files[f"test_{n}.npy"])) for n in ("input", "output"))
    axis, out = rdf["inputs"][0]["axes"][2], rdf["outputs"][0]["axes"][2]
    assert axis["scale"] / out["scale"] == pytest.approx(model.scale)  # what the format says
    assert out["scale"] == pytest.approx(model.scale)  # what deepImageJ's reader takes for the enlargement
    assert expected.shape[2] == given.shape[2] * model.scale
    assert (given.shape[2] - axis["size"]["min"]) % axis["size"]["step"] == 0
    assert rdf["config"]["bioimageio"]["nickname"]
    # how deepImageJ's reader (JDLL 0.6) cuts tiles: input halo = output halo / output scale, kept as a whole number;
    # tiles are multiples of the step, and min + n steps; numbers are Java's Integer or Double, axes have an id or type
    assert out["halo"] / out["scale"] == int(out["halo"] / out["scale"])
    assert axis["size"]["min"] % axis["size"]["step"] == 0
    assert axis["size"]["step"] * out["scale"] % 1 == 0
    assert out["size"] == {"tensor_id": "input", "axis_id": "y", "offset": 0}
    assert [a["type"] for a in rdf["inputs"][0]["axes"]] == ["batch", "channel", "space", "space"]
    assert len(rdf["inputs"][0]["axes"][1]["channel_names"]) == model.card.channels
    for step in rdf["inputs"][0].get("preprocessing", []) + rdf["outputs"][0].get("postprocessing", []):
        numbers = [value for key, value in step["kwargs"].items() if key != "axes"]
        assert all(isinstance(value, float) for value in numbers), step
    assert "+" not in rdf["weights"]["torchscript"]["pytorch_version"]
    # a tile of the smallest size, its halo cut off, is the same part of the whole
    network, smallest, halo = model.network, axis["size"]["min"], out["halo"]
    big = torch.rand(1, model.card.channels, 3 * smallest, 3 * smallest)
    with torch.no_grad():
        whole = network(big)[..., int(smallest * model.scale) :, int(smallest * model.scale) :]
        tile = network(big[..., smallest : 2 * smallest, smallest : 2 * smallest])
    inner = slice(halo, int(smallest * model.scale) - halo)
    assert (tile[..., inner, inner] - whole[..., inner, inner]).abs().max() < 1e-5
    # the format's own reference reader
    core = pytest.importorskip("bioimageio.spec")
    names = {
        step["id"]
        for tensor in ("inputs", "outputs")
        for t in rdf[tensor]
        for step in t.get("preprocessing", t.get("postprocessing", []))
    }
    assert names <= {"scale_range", "scale_linear", "zero_mean_unit_variance", "clip"}
    assert core is not None


def test_recommendation_by_modality_and_pixel_size(tmp_path):
    folders = []
    for model, pixel in ((brightfield(), (0.5, 0.7)), (fluorescence(), (0.2, 0.4))):
        card = ModelCard.of(model.card, pixel_um=pixel)
        folders.append(str(save_model(tmp_path / model.name, model.network, card)))
    first, second = recommend(from_array(picture(), 0.6), folders)
    assert (first.model.name, first.suits, second.suits) == ("small-brightfield", True, False)
    dark = from_array(np.random.default_rng(0).gamma(0.5, 20, (50, 50)).astype(np.float32), 0.3)
    assert recommend(dark, folders)[0].model.name == "small-fluorescence"
    coarse = recommend(from_array(picture(), 2.0), folders)
    assert not coarse[0].suits
    assert "2 µm" in coarse[0].reasons[-1]
    assert isinstance(dark, xr.DataArray)
    assert load_model(folders[0]).card.pixel_um == (0.5, 0.7)
    merged = np.zeros((60, 60, 3), np.uint8)
    merged[20:30, :, 1] = 200
    assert recommend(from_array(merged, 0.3), folders)[0].model.name == "small-fluorescence"


def test_a_model_for_another_kind_of_image_is_named(tmp_path):
    dark = np.random.default_rng(0).gamma(0.5, 20, (50, 50)).astype(np.float32)
    save_image(from_array(dark), tmp_path / "cells.tif")
    with pytest.warns(DlmWarning, match="fluorescence. Model 'small-brightfield' is for bright field"):
        predict_file(brightfield(), tmp_path / "cells.tif", tmp_path / "out.tif", SETTINGS)
    with pytest.warns(DlmWarning, match="is for bright field"):
        predict_batch(brightfield(), [tmp_path / "cells.tif"], tmp_path / "many", SETTINGS)
    predict_file(fluorescence(), tmp_path / "cells.tif", tmp_path / "right.tif", SETTINGS)
