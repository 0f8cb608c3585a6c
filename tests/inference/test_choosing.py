"""Backend and tile by measurement: what is remembered, what overrules it, what must never be chosen."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dlm_fiji.errors import DlmWarning
from dlm_fiji.inference import InferenceSettings, Model, ModelCard, backends, choosing, predict, predict_batch
from dlm_fiji.inference.choosing import WORTH, choose, measure
from dlm_fiji.inference.measured_speed import measurements, remember, speed_file
from dlm_fiji.inference.tile_sizes import default_tile, tile_bytes, useful_part
from dlm_fiji.micrograph import from_array, save_image
from dlm_fiji.networks import BrightfieldNet, FluorescenceGenerator

CPU = InferenceSettings(device="cpu")


def make_model(blocks: int = 1) -> Model:
    torch.manual_seed(0)
    network = BrightfieldNet(2, 3, blocks=blocks)
    return Model(network, ModelCard.of(None, name="small", config=network.config, scale=2))


class Stand:
    """A backend that is PyTorch under another name, off by ``error``."""

    def __init__(self, model: Model, name: str, error: float = 0.0) -> None:
        self.torch = backends.TorchEngine(model, "cpu", "fp32", None)
        self.description = self.torch.description | {"backend": name}
        self.error = error

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.torch(x) + np.float32(self.error)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Seconds a pixel by (backend, window) as the test sets them; every timing is noted in ``clock.asked``."""

    class Clock(dict):
        def __init__(self):
            self.asked: list[tuple[str, int]] = []

    seconds = Clock()

    def timed(engine, window):
        name, edge = engine.description["backend"], window.shape[2]
        seconds.asked.append((name, edge))
        value = seconds.get((name, edge), seconds.get(name, 1.0))
        value = value.pop(0) if isinstance(value, list) else value
        if isinstance(value, Exception):
            raise value
        return value * edge**2

    monkeypatch.setenv("DLM_FIJI_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(choosing, "_seconds", timed)
    monkeypatch.setattr(choosing, "_window", lambda model, edge: np.empty((1, 1, edge, edge), np.float32))
    monkeypatch.setattr(backends, "available_backends", lambda: ["torch", "openvino", "onnxruntime"])
    monkeypatch.setattr(choosing, "available_backends", backends.available_backends)
    monkeypatch.setattr("dlm_fiji.inference.measured_speed.importlib.metadata.version", lambda name: "1")
    monkeypatch.setattr("dlm_fiji.inference.measured_speed.available_backends", backends.available_backends)
    monkeypatch.setattr(backends, "OpenVinoEngine", lambda model, threads: Stand(model, "openvino"))
    monkeypatch.setattr(backends, "OnnxEngine", lambda model, threads: Stand(model, "onnxruntime"))
    return seconds


def test_the_fastest_is_measured_once_and_remembered(clock):
    clock["onnxruntime"] = 0.5
    first = choose(make_model(), CPU, WORTH)
    assert (first.backend, first.source) == ("onnxruntime", "measured now")
    asked = len(clock.asked)
    for pixels in (1, WORTH):
        later = choose(make_model(), CPU, pixels)  # another process would make its model anew too
        assert (later.backend, later.tile, later.source) == ("onnxruntime", first.tile, "remembered")
    assert len(clock.asked) == asked
    assert choose(make_model(blocks=2), CPU, 1).source == "default", "another architecture"
    assert choose(make_model(), InferenceSettings.of(CPU, threads=7), 1).source == "default", "other threads"


def test_measuring_again_replaces_what_was_remembered(clock):
    clock["onnxruntime"] = 0.5
    measure(make_model())
    clock["onnxruntime"] = 2.0
    measure(make_model())
    measure(make_model(blocks=2))
    assert [found.backend for found in measurements()] == ["openvino", "openvino"]


def test_little_work_is_not_measured_and_says_so(clock):
    record: dict = {}
    predict(make_model(), np.zeros((40, 40, 3), np.uint8), settings=CPU, record=record)
    assert (record["backend"], record["chosen_by"]) == ("openvino", "default")
    assert not clock.asked
    assert not speed_file().exists()


def test_the_files_of_a_batch_count_together(clock, tmp_path, monkeypatch):
    for k in range(4):
        save_image(from_array(np.zeros((30, 30, 3), np.uint8)), tmp_path / "in" / f"{k}.tif")
    monkeypatch.setattr(choosing, "WORTH", 3 * 900)
    clock["torch"] = 0.5
    model = make_model()
    predict(model, np.zeros((30, 30, 3), np.uint8), settings=CPU)
    assert not clock.asked
    items = predict_batch(model, [tmp_path / "in"], tmp_path / "out", CPU)
    assert [item.state for item in items] == ["done"] * 4
    assert len(measurements()) == 1


@pytest.mark.parametrize("explicit", [{"backend": "torch"}, {"backend": "torch", "tile": 64}, {"tile": 64}])
def test_what_the_user_names_is_never_overruled(clock, explicit):
    clock["onnxruntime"] = 0.5
    clock["onnxruntime", 256] = 0.1
    assert measure(make_model()).tile == 256
    choice = choose(make_model(), InferenceSettings.of(CPU, **explicit), WORTH)
    expected = {"backend": "onnxruntime", "tile": "auto"} | explicit
    assert (choice.backend, choice.tile) == (expected["backend"], expected["tile"])
    partly = "default" if "backend" in explicit else "remembered"
    assert choice.source == ("settings" if len(explicit) == 2 else partly)


def test_a_backend_named_by_the_user_is_not_a_reason_to_measure(clock):
    assert choose(make_model(), InferenceSettings.of(CPU, backend="torch"), 10 * WORTH).source == "default"
    assert not clock.asked


@pytest.mark.parametrize(
    "seconds",
    [
        0.95,  # not clearly
        [0.5, 0.5, 0.95, 0.5],  # not in every turn: another program ran meanwhile
        [9.0, 0.1, 0.1, 0.1],  # hopeless in the warm-up, not asked again
        [0.5, MemoryError(), 0.5, 0.5],
    ],
)
def test_an_alternative_must_win_every_turn_clearly(clock, seconds):
    clock["torch"] = seconds
    assert measure(make_model()).backend == "openvino"


@pytest.mark.parametrize("remembered", [False, True])
def test_a_backend_that_disagrees_is_never_chosen(clock, monkeypatch, remembered):
    clock["onnxruntime"] = 0.01
    if remembered:
        assert measure(make_model()).backend == "onnxruntime"
    monkeypatch.setattr(backends, "OnnxEngine", lambda model, threads: Stand(model, "onnxruntime", error=1e-3))
    choice = choose(make_model(), CPU, WORTH)
    assert choice.backend in ("auto", "openvino")
    record: dict = {}
    predict(make_model(), np.zeros((40, 40, 3), np.uint8), settings=CPU, record=record)
    assert record["backend"] == "openvino"


def test_tiles_are_measured_by_what_is_no_overlap(clock):
    model = make_model()
    clock["openvino", 256] = useful_part(model, 256) / useful_part(model, 512) * 0.95
    assert measure(model).tile == 512
    clock["openvino", 256] *= 0.9
    assert measure(model).tile == 256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"format": 2, "measurements": []}',
        b'{"format": 1, "measurements": [{"backend": "gpu"}]}',
        None,  # a folder is in the way
    ],
)
def test_a_file_that_is_broken_or_of_another_format_counts_as_none(clock, content):
    speed_file().parent.mkdir()
    if content is None:
        speed_file().mkdir()
    else:
        speed_file().write_bytes(content)
    clock["torch"] = 0.5
    model = make_model()
    assert choose(model, CPU, 1).source == "default"
    assert choose(model, CPU, WORTH).source == "measured now"
    assert choose(model, CPU, WORTH).source == "remembered"
    assert (len(measurements()) == 1) == (content is not None)


def test_a_folder_that_cannot_be_written_does_not_measure_twice(clock, tmp_path):
    (tmp_path / "state").write_text("a file, not a folder")
    clock["torch"] = 0.5
    model = make_model()
    assert choose(model, CPU, WORTH).source == "measured now"
    assert choose(model, CPU, WORTH).source == "remembered"
    assert measurements() == []


def test_no_part_file_stays(clock):
    measure(make_model())
    assert [path.name for path in speed_file().parent.iterdir()] == ["speed.json"]
    assert json.loads(speed_file().read_text())["measurements"][0]["conditions"]["architecture"] == "BrightfieldNet"


def test_writers_at_the_same_time_leave_a_whole_file(clock):
    found = measure(make_model())

    def write(k: int) -> int:
        remember(make_model(), found.model_copy(update={"conditions": {"number": str(k)}}))
        return len(measurements())

    with ThreadPoolExecutor(4) as pool:
        assert min(pool.map(write, range(24))) >= 1  # a file that is cut off would count as none


def test_a_remembered_tile_is_halved_when_memory_runs_out(clock, memory_for_rows):
    model = make_model()
    clock["torch"] = 0.1
    found = measure(model)
    speed_file().write_text(speed_file().read_text().replace(f'"tile": {found.tile}', '"tile": 140'))
    image = np.random.default_rng(0).random((150, 150, 3), np.float32)
    whole = predict(make_model(), image, tile="whole", backend="torch", device="cpu")
    memory_for_rows(70)
    record: dict = {}
    with pytest.warns(DlmWarning, match="going on with tiles"):
        result = predict(make_model(), image, settings=CPU, record=record)
    assert (record["backend"], record["chosen_by"]) == ("torch", "remembered")
    assert record["tile"] < 70
    assert np.abs(result - whole).max() <= 1e-5


def test_a_remembered_tile_that_no_longer_fits_is_not_taken(clock, monkeypatch):
    clock["torch"] = 0.5
    measure(make_model())
    monkeypatch.setattr("dlm_fiji.inference.tile_sizes.CPU_BYTES", 1.0)
    choice = choose(make_model(), CPU, 1)
    assert (choice.backend, choice.tile, choice.source) == ("torch", "auto", "remembered")


def test_tiles_grow_with_what_a_network_sees_and_shrink_to_the_memory(monkeypatch):
    def model_of(network):
        card = ModelCard.of(None, name="n", architecture=type(network).__name__, channels=1)
        return Model(network, card)

    near, far = model_of(BrightfieldNet(2, 1, blocks=5)), model_of(FluorescenceGenerator(2, (4, 8, 16, 32)))
    engines = [backends.TorchEngine(model, "cpu", "fp32", None) for model in (near, far)]
    assert useful_part(near, 512) > 0.8
    assert useful_part(far, 512) < 0.6
    assert [default_tile(*pair) for pair in zip((near, far), engines, strict=True)] == [512, 1024]
    monkeypatch.setattr("dlm_fiji.inference.tile_sizes.CPU_BYTES", tile_bytes(far, 1000, "torch"))
    assert default_tile(far, engines[1]) == 512


@pytest.mark.parametrize("free_gib", [2, 8, 80])
def test_on_a_gpu_the_tile_takes_at_most_half_of_the_free_memory(monkeypatch, free_gib):
    model = make_model(blocks=5)
    engine = backends.TorchEngine(model, "cpu", "fp32", None)
    engine.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_gib * 2**30, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    edge = default_tile(model, engine)
    assert tile_bytes(model, edge, "torch") <= free_gib * 2**29
    assert edge == 2048 or tile_bytes(model, 2 * edge, "torch") > free_gib * 2**29
