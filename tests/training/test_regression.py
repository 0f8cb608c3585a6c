"""The regression loop: it learns, it is reproducible, it resumes bit for bit, it says what is wrong."""

import errno
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dlm_fiji.errors import ConfigurationError, DlmWarning, InputError, SetupError
from dlm_fiji.networks import BrightfieldNet
from dlm_fiji.training import (
    PatchPairs,
    TrainingSettings,
    extract_patches,
    start_from_interpolation,
    take_over_weights,
    train_regression,
)
from dlm_fiji.training import devices as devices_module
from dlm_fiji.training.history import plot_history, read_history
from dlm_fiji.training.patches import turned

TINY = TrainingSettings(
    steps=6, batch=3, patch=12, learning_rate=1e-3, validate_every=3, min_contrast=0.0, device="cpu", seed=5
)


def field(shape=(30, 40), scale=2, channels=1, seed=0):
    """A smooth label and its area mean."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0] * scale, : shape[1] * scale]
    label = np.stack([0.5 + 0.4 * np.sin(y / 3 + c + rng.random()) * np.cos(x / 4) for c in range(channels)], -1)
    label = np.rint(255 * label).astype(np.uint8)
    h, w = shape
    return np.rint(label.reshape(h, scale, w, scale, channels).mean((1, 3))).astype(np.uint8), label


def network(seed=0, channels=1):
    torch.manual_seed(seed)
    return BrightfieldNet(scale=2, channels=channels, blocks=1)


PAIRS_25, VALIDATION_25 = [[(np.zeros((24, 24), np.uint8), np.zeros((60, 60), np.uint8))]] * 2
PAIRS, VALIDATION = [field(seed=1), field(seed=2)], [field((24, 24), seed=3)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_keeps_the_best(tmp_path):
    seen = []
    result = train_regression(
        PAIRS,
        VALIDATION,
        TINY,
        tmp_path,
        start_from_interpolation(network()),
        progress=lambda step, total, metrics: seen.append((step, total, metrics["loss"])),
        steps=30,
    )
    assert [s for s, _, _ in seen] == list(range(1, 31))
    assert result.best_loss < 0.7 * result.history[0]["val_loss"]
    assert result.best_loss == min(row["val_loss"] for row in result.history)
    rows = read_history(tmp_path)
    assert [row["step"] for row in rows] == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert set(rows[0]) == {"step", "loss", "val_loss", "val_ssim", "lr", "seconds"}
    assert rows[-1]["val_ssim"] > rows[0]["val_ssim"]
    assert result.patches_per_second > 0
    plot_history(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_last_weights_can_be_kept_instead():
    """A rate that ruins the network: the best weights are the first, the last are others."""
    first = start_from_interpolation(network())
    ruin = TrainingSettings.of(TINY, learning_rate=0.3)
    assert same(train_regression(PAIRS, VALIDATION, ruin, network=first).network, first)
    last = train_regression(PAIRS, VALIDATION, ruin, network=first, keep="last")
    assert last.best_step == 0
    assert not same(last.network, first)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "schedule": "one-cycle", "ssim_weight": 0.1, "clip_norm": 1.0}])
def test_resume_is_bit_exact(tmp_path, changes):
    settings = TrainingSettings.of(TINY, **changes)
    whole = train_regression(PAIRS, VALIDATION, settings, tmp_path / "a", network())

    class Killed(Exception):
        pass

    def kill(step, total, metrics):
        if step == 4:
            raise Killed  # one step after the checkpoint at 3: that step is lost and done again

    with pytest.raises(Killed):
        train_regression(PAIRS, VALIDATION, settings, tmp_path / "b", network(), progress=kill)
    resumed = train_regression(PAIRS, VALIDATION, settings, tmp_path / "b", network(seed=9), resume=True)
    assert same(whole.network, resumed.network)
    columns = ("step", "loss", "val_loss", "val_ssim", "lr")
    assert [[r[c] for c in columns] for r in whole.history] == [[r[c] for c in columns] for r in resumed.history]
    other = train_regression(PAIRS, VALIDATION, settings, None, network(), seed=6)
    assert not same(whole.network, other.network)


def test_resume_refuses_other_settings(tmp_path):
    train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=1)
    with pytest.raises(ConfigurationError, match="learning_rate"):
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), resume=True, learning_rate=1e-2)
    with pytest.raises(ConfigurationError, match=r"another network .*'scale': 2.5"):
        train_regression(PAIRS_25, VALIDATION_25, TINY, tmp_path, BrightfieldNet(2.5, 1, blocks=1), resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match="damaged"):
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), resume=True)


def test_resume_takes_the_threads_and_tells_other_data(tmp_path):
    threads = torch.get_num_threads()
    try:
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=1, threads=2)
        torch.set_num_threads(1)
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=2, resume=True)
        assert torch.get_num_threads() == 2
        with pytest.warns(DlmWarning, match="threads 2, now 1"):
            train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=3, threads=1, resume=True)
        with pytest.warns(DlmWarning, match="other images"):
            train_regression(PAIRS[::-1], VALIDATION, TINY, tmp_path, network(), steps=4, resume=True)
    finally:
        torch.set_num_threads(threads)


def test_a_new_training_sets_the_old_checkpoint_aside(tmp_path):
    train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=1)
    old = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.warns(DlmWarning, match="--resume would have gone on"):
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=2)
    assert (tmp_path / "checkpoint-before.pt").read_bytes() == old


def test_a_full_disk_is_a_sentence_and_the_older_checkpoint_stays(tmp_path, monkeypatch):
    train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=1)
    old = (tmp_path / "checkpoint.pt").read_bytes()

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SetupError, match="No space is left on the disk"):
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), steps=2, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == old
    assert not list(tmp_path.glob(".part-*"))


def test_killed_before_the_first_step_the_history_has_no_row_twice(tmp_path):
    def kill(step, total, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), progress=kill)
    resumed = train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), resume=True)
    assert [row["step"] for row in resumed.history] == [0, 3, 6]


def test_time_limit_stops_and_validates():
    result = train_regression(
        PAIRS,
        VALIDATION,
        TINY,
        None,
        network(),
        steps=10_000,
        time_limit_s=0.5,
        schedule="one-cycle",
        validate_every=1000,
    )
    assert result.stopped_by == "time limit"
    assert 0 < result.steps < 10_000
    assert result.history[-1]["step"] == result.steps


def test_memory_running_out_halves_the_batch(monkeypatch):
    plain = train_regression(PAIRS, VALIDATION, TINY, None, network(), batch=8, steps=2)
    original = BrightfieldNet.forward

    def small_memory(self, x):
        if self.training and len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, x)

    monkeypatch.setattr(BrightfieldNet, "forward", small_memory)
    with pytest.warns(DlmWarning, match="going on with"):
        halved = train_regression(PAIRS, VALIDATION, TINY, None, network(), batch=8, steps=2)
    for a, b in zip(plain.network.parameters(), halved.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    monkeypatch.setattr(devices_module, "HALVINGS", 1)
    with pytest.raises(SetupError, match="does not hold"), pytest.warns(DlmWarning):
        train_regression(PAIRS, VALIDATION, TINY, None, network(), batch=8, steps=2)


def test_sentences():
    with pytest.raises(InputError, match="validation set is empty"):
        train_regression(PAIRS, [], TINY, None, network())
    lr, hr = PAIRS[0]
    with pytest.raises(InputError, match="expected are 80×60"):
        train_regression([(lr, hr[:-3])], VALIDATION, TINY, None, network())
    with pytest.raises(InputError, match="without content"):
        extract_patches([(lr * 0, hr * 0)], TrainingSettings.of(TINY, min_contrast=0.02), 2)
    with pytest.raises(ConfigurationError, match="loss became"):
        train_regression(PAIRS, VALIDATION, TINY, None, network(), learning_rate=1e30)
    if not torch.cuda.is_available():
        with pytest.raises(SetupError, match="This machine has no 1 × cuda"):
            train_regression(PAIRS, VALIDATION, TINY, None, network(), device="cuda")
    with pytest.raises(ConfigurationError, match="did you mean 'phone'"):
        TrainingSettings.preset("phon")


def test_tensorboard_when_it_is_installed(tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(SetupError, match="pip install tensorboard"):
            train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), tensorboard=True)
    pytest.importorskip("tensorboard")
    train_regression(PAIRS, VALIDATION, TINY, tmp_path, network(), tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_patches_are_aligned_and_cover_the_field():
    # the label is its own coordinate, so that a shift of one pixel is seen
    y, x = np.mgrid[:100, :125].astype(np.float32)
    label = (y * 125 + x)[..., None] / 12500
    rows = np.stack([label[int(i * 2.5)] for i in range(40)])
    lr = np.stack([rows[:, int(j * 2.5)] for j in range(50)], 1)
    found = extract_patches([(lr, label)], TrainingSettings(patch=20, min_contrast=0), 2.5)
    assert found.lr.shape[1:] == (20, 20, 1)
    assert found.hr.shape[1:] == (50, 50, 1)
    np.testing.assert_allclose(found.lr[:, 0, 0], found.hr[:, 0, 0], atol=1e-6)
    starts = {divmod(round(float(v) * 12500), 125) for v in found.hr[:, 0, 0, 0]}
    assert starts == {(a, b) for a in (0, 30, 50) for b in (0, 30, 60, 75)}


@pytest.mark.parametrize("k", range(8))
def test_both_of_a_pair_are_turned_alike(k):
    lr, hr = field((10, 12))
    a, b = turned(lr, k), turned(hr, k)
    mean = b.reshape(a.shape[0], 2, a.shape[1], 2, 1).mean((1, 3))
    assert np.abs(mean - a).max() <= 0.5
    assert len({turned(lr, j).tobytes() for j in range(8)}) == 8


def test_every_epoch_sees_every_patch_once(tmp_path):
    lr = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    source = PatchPairs(lr, lr, size=4, seed=3)
    drawn = np.concatenate([source.batch(step)[0].flatten().numpy() for step in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    source.save(tmp_path)
    mapped = PatchPairs.open(tmp_path, TrainingSettings(batch=4, seed=3))
    assert isinstance(mapped.lr, np.memmap)
    assert torch.equal(mapped.batch(1)[0], source.batch(1)[0])


def test_warm_start_names_what_does_not_fit():
    old, new = BrightfieldNet(2, 1, blocks=1), BrightfieldNet(2.5, 1, blocks=1)
    missing = take_over_weights(new, old.state_dict())
    assert missing == ["expand.weight", "expand.bias"]
    assert torch.equal(new.first.weight, old.first.weight)


@pytest.mark.parametrize("scale", [2, 2.5, 4])
def test_start_from_interpolation_enlarges_a_ramp(scale):
    torch.manual_seed(0)
    net = BrightfieldNet(scale, 1)
    with torch.no_grad():
        start_from_interpolation(net)
        for block in net.blocks:  # what the random weights add is not the interpolation's
            block.conv2.weight[:1] = 0
        net.expand.weight[:, 1:] = 0
    ramp = (torch.arange(24.0) / 24).expand(1, 1, 24, 24)
    with torch.no_grad():
        out = net(ramp)[0, 0, 20]
    expected = ((torch.arange(len(out)) + 0.5) / scale - 0.5) / 24
    inner = slice(10, -10)
    assert (out - expected).abs()[inner].max() < (0.25 / 24 if scale == 2.5 else 1e-5)
