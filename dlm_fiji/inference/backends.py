"""What computes the network: PyTorch on any device, OpenVINO or ONNX Runtime on the CPU.

``"auto"`` on a CPU takes OpenVINO where it is installed and agrees with PyTorch to 1e-4 of the value range on
a test tile (measured on the bright-field network: three times as fast as PyTorch eager), otherwise PyTorch
with channels last; ``choosing.py`` puts a measurement on this machine before that. What was chosen is written into
the record of the run.
"""

from __future__ import annotations

import copy
import importlib.metadata
import warnings
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dlm_fiji.errors import ConfigurationError, SetupError
from dlm_fiji.inference.model_files import Model

__all__ = ["Engine", "available_backends", "choose_engine", "choose_engines", "device_of", "make_engine"]

AGREEMENT = 1e-4
"""Largest difference between backends, as a part of the value range."""
COMPILED_SHAPES = 6
"""Shapes kept compiled: a large image has four, rows by columns of inner and last tiles."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """Computes (1, C, h, w) float32 → (1, C, h', w') float32, which the next call may overwrite."""

    description: dict[str, Any]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]: ...


class TorchEngine:
    """PyTorch, channels last. `full_precision` around the calls keeps fp32 what it says on a GPU."""

    def __init__(self, model: Model, device: str, precision: str, threads: int | None) -> None:
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        # channels last pays on the CPU and on tensor cores; weights are copied, the model stays as it is
        network = copy.deepcopy(model.network).eval().requires_grad_(False)
        self.network = network.to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self.threads = threads
        self.description = {
            "backend": "torch",
            "version": torch.__version__,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device),
            "precision": precision,
            "threads": threads or torch.get_num_threads(),
        }

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.threads and self.device.type == "cpu" and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        with torch.inference_mode():
            tensor = torch.from_numpy(x).to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
            return self.network(tensor).float().cpu().contiguous().numpy()


def full_precision() -> AbstractContextManager[None]:
    """cuDNN on, its reduced TF32 precision off: a state of the process, so set it once around all threads."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class OpenVinoEngine:
    """OpenVINO on the CPU in fp32, compiled for each shape of tile: 0.07 s each, faster than a free shape."""

    def __init__(self, model: Model, threads: int | None) -> None:
        import openvino as ov

        self.channels = model.card.channels
        network = copy.deepcopy(model.network).eval().requires_grad_(False)
        edge = 4 * int(getattr(network, "size_multiple", 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks; the result is compared with PyTorch's
            # Traced here and without its second run: a quarter of the time that OpenVINO's own tracing takes.
            traced = torch.jit.trace(network, torch.zeros(1, self.channels, edge, edge), check_trace=False)
            self.graph = ov.convert_model(traced, input=[ov.PartialShape([1, self.channels, -1, -1])])
        self.options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            self.options["INFERENCE_NUM_THREADS"] = threads
        self.core = ov.Core()
        self.requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.description = {
            "backend": "openvino",
            "version": importlib.metadata.version("openvino"),
            "device": "cpu",
            "precision": "fp32",
            "threads": threads or "default",
        }

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        request = self.requests.get(x.shape)
        if request is None:
            while len(self.requests) >= COMPILED_SHAPES:
                self.requests.popitem(last=False)
            self.graph.reshape(list(x.shape))
            request = self.core.compile_model(self.graph, "CPU", self.options).create_infer_request()
            self.requests[x.shape] = request
        return request.infer({0: x}, share_inputs=True, share_outputs=True)[0]


class OnnxEngine:
    """ONNX Runtime on the CPU in fp32."""

    def __init__(self, model: Model, threads: int | None) -> None:
        import onnxruntime

        from dlm_fiji.inference.exporting import onnx_bytes

        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(onnx_bytes(model), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.description = {
            "backend": "onnxruntime",
            "version": onnxruntime.__version__,
            "device": "cpu",
            "precision": "fp32",
            "threads": threads or "default",
        }

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.session.run(None, {self.input: x})[0]


def available_backends() -> list[str]:
    """Names of the backends that are installed."""
    found = ["torch"]
    for name in ("openvino", "onnxruntime"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def choose_engines(
    model: Model,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
) -> list[Engine]:
    """One engine for each device that ``device`` names, separated by commas; ``"cuda:all"`` names every GPU.

    Other arguments as :func:`choose_engine`. A device that is named twice gets two engines.
    """
    if device == "cuda:all":
        device = ",".join(f"cuda:{k}" for k in range(torch.cuda.device_count())) or "cuda"
    names = [name.strip() for name in device.split(",")]
    return [
        choose_engine(model, backend, name, precision, threads, names[:k].count(name)) for k, name in enumerate(names)
    ]


def choose_engine(
    model: Model,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    number: int = 0,
) -> Engine:
    """The engine for ``model``; made once and kept with the model.

    Parameters
    ----------
    backend
        ``"auto"``, ``"torch"``, ``"openvino"`` or ``"onnxruntime"``.
    device
        ``"auto"`` (CUDA, then MPS, then CPU) or a PyTorch device.
    precision
        ``"fp32"``, or ``"bf16"``, ``"fp16"`` with PyTorch on a GPU.
    threads
        CPU threads; None leaves the library's own choice.
    number
        Engines of another number share nothing: an engine computes one tile at a time.

    Raises
    ------
    SetupError
        The backend is not installed, the device does not exist, or the backend disagrees with PyTorch.
    """
    device = device_of(device, backend)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SetupError("No CUDA device can be used here; choose --device cpu.")
    key = (backend, device, precision, threads, number)
    if key not in model.engines:
        engine = make_engine(model, backend, device, precision, threads)
        # the same engine for the backend's own name
        model.engines[key] = model.engines.setdefault((engine.description["backend"], *key[1:]), engine)
    return model.engines[key]


def device_of(device: str, backend: str) -> str:
    """The device that ``"auto"`` means here; any other as it is."""
    if device != "auto":
        return device
    if backend in ("openvino", "onnxruntime"):
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def make_engine(model: Model, backend: str, device: str, precision: str, threads: int | None) -> Engine:
    """As :func:`choose_engine` for a device that is there, kept nowhere."""
    if backend == "torch" or (backend == "auto" and (device != "cpu" or precision != "fp32")):
        return TorchEngine(model, device, precision, threads)
    if precision != "fp32":
        raise ConfigurationError(f"Backend {backend!r} computes in fp32 only; {precision} needs backend 'torch'.")
    reference = TorchEngine(model, "cpu", "fp32", threads)
    names = ["openvino"] if backend == "auto" else [backend]
    for name in names:
        if name not in available_backends():
            if backend == "auto":
                continue
            raise SetupError(f"Backend {name!r} is not installed; install it or choose backend 'torch'.")
        engine: Engine = OpenVinoEngine(model, threads) if name == "openvino" else OnnxEngine(model, threads)
        difference = disagreement(model, engine, reference)
        engine.description["difference_to_torch"] = difference
        if difference <= AGREEMENT:
            return engine
        if backend != "auto":
            raise SetupError(
                f"Backend {name!r} differs from PyTorch by {difference:.1e} of the value range on this "
                "machine "
                f"(allowed: {AGREEMENT:.0e}); choose backend 'torch'."
            )
    return reference


def disagreement(model: Model, engine: Engine, reference: Engine) -> float:
    """Largest difference of two engines on a test tile, as a part of the value range."""
    low, high = model.card.intensity_range
    tile = np.random.default_rng(0).random((1, model.card.channels, 48, 64), np.float32)
    tile = (low + (high - low) * tile).astype(np.float32)
    difference = np.array(engine(tile)) - reference(tile)
    return float(np.abs(difference).max() / (high - low))
