"""What computes a training: Lightning Fabric or one plain processor; batches that shrink to fit memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dlm_fiji.errors import ConfigurationError, DlmWarning, SetupError
from dlm_fiji.training.plan import TrainingSettings

__all__ = ["SingleProcessor", "accumulate", "clip", "describe", "make_fabric", "out_of_memory"]

HALVINGS = 4


class SingleProcessor:
    """The few calls of Lightning Fabric that the loops use, for one CPU in fp32.

    Importing Lightning takes longer than a short fine-tune can spare (8 s of processor time, measured), and
    brings nothing here.
    """

    device = torch.device("cpu")
    world_size = 1
    global_rank = 0
    is_global_zero = True

    def setup(self, network: nn.Module, *optimisers: Any) -> Any:
        """As they are."""
        return (network, *optimisers)

    def to_device(self, tensors: Any) -> Any:
        """As they are."""
        return tensors

    def autocast(self) -> AbstractContextManager[None]:
        """Nothing: fp32 stays."""
        return nullcontext()

    def no_backward_sync(self, network: nn.Module, enabled: bool = True) -> AbstractContextManager[None]:
        """Nothing: there is nobody to synchronise with."""
        return nullcontext()

    def broadcast(self, value: Any) -> Any:
        """As it is."""
        return value

    def backward(self, loss: Tensor) -> None:
        """Gradients of ``loss``."""
        loss.backward()

    def clip_gradients(self, network: nn.Module, optimiser: Any, max_norm: float, **_: Any) -> None:
        """Scale the gradients to that norm where they are longer."""
        nn.utils.clip_grad_norm_(network.parameters(), max_norm)


def make_fabric(settings: TrainingSettings) -> Any:
    """Lightning Fabric for the device, the number of them and the number type of ``settings``.

    Raises
    ------
    SetupError
        The machine does not have them.
    ConfigurationError
        There are more devices than patches in a batch.
    """
    device = settings.device
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun, which has started one process a device
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if world > 1 else settings.devices
    alone = here == 1 and world == 1
    if device == "cpu" and alone and settings.precision == "fp32":
        return SingleProcessor()
    from lightning.fabric import Fabric

    precision: Any = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[settings.precision]
    try:
        fabric = Fabric(accelerator=device, devices=here, num_nodes=max(1, world // here), precision=precision)
    except (ValueError, RuntimeError) as error:  # it looks for the devices when it is made
        raise SetupError(
            f"This machine has no {here} × {device} for a training in {settings.precision} ({error}); "
            "set another device."
        ) from None
    if settings.batch < fabric.world_size:
        raise ConfigurationError(f"A batch of {settings.batch} cannot be shared by {fabric.world_size} devices.")
    if not alone:
        fabric.launch()
    return fabric


def describe(fabric: Any, settings: TrainingSettings) -> dict[str, Any]:
    """What computed, for the record of the run."""
    return {
        "torch": str(torch.__version__),
        "device": str(fabric.device),
        "devices": fabric.world_size,
        "threads": torch.get_num_threads(),
        "precision": settings.precision,
    }


def accumulate(
    fabric: Any,
    runner: nn.Module,
    optimiser: Any,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    lr: Tensor,
    hr: Tensor,
    micro: int,
) -> tuple[int, float]:
    """Gradients of a batch, in parts of ``micro`` patches; the parts are halved when memory runs out.

    Parts add up to the same mean, so the result does not depend on them but for rounding. ``loss_of`` takes parts
    of ``lr`` and ``hr`` and calls ``runner`` once; several devices add up their gradients in the last part only, so
    each may have parts of its own size.
    """
    smallest = max(1, len(lr) >> HALVINGS)
    while True:
        try:
            optimiser.zero_grad(set_to_none=True)
            loss = 0.0
            for start in range(0, len(lr), micro):
                part = slice(start, start + micro)
                share = len(lr[part]) / len(lr)
                with fabric.no_backward_sync(runner, enabled=start + micro < len(lr)):
                    value = loss_of(lr[part], hr[part]) * share
                    fabric.backward(value)
                loss += float(value.detach())
            return micro, loss
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if micro <= smallest:
                raise SetupError(
                    f"Memory does not hold {micro} patches at a time; choose smaller patches or another device."
                ) from error
            micro = max(smallest, micro // 2)
            text = f"Memory ran out; going on with {micro} patches at a time."
            warnings.warn(text, DlmWarning, stacklevel=3)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def clip(fabric: Any, runner: nn.Module, optimiser: Any, settings: TrainingSettings) -> None:
    """Shorten the gradient to ``clip_norm`` where that is set."""
    if settings.clip_norm > 0:
        fabric.clip_gradients(runner, optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False)


def out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out, on any device."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
