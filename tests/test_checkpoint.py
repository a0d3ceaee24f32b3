"""Files: what was saved comes back, and a crash at any moment leaves the last one whole."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors

import cyconv as cc
from cyconv import checkpoint, nn

POSIX = os.name == "posix"


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))


def same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return repr(one) == repr(two) and all(
        a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes()
        for name in a.keys() | b.keys()
    )


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("name", ["lenet", "lenet_bn", "vgg_small", "resnet20"])
def test_a_net_comes_back(name: str, tmp_path: Path) -> None:
    net = getattr(nn.models, name)()
    rng = np.random.default_rng(0)
    net.load_state_dict({k: a + rng.uniform(0, 0.01, a.shape) for k, a in net.state_dict().items()})
    cc.save(tmp_path / "net", net)
    again = cc.load(tmp_path / "net")
    assert same(net, again)
    assert again.config() == net.config()
    x = cc.randn(2, net[0].in_channels, 28, 28)
    np.testing.assert_array_equal(again(x).numpy(), net(x).numpy())
    assert all(isinstance(p, nn.Parameter) for p in again.parameters())


@pytest.mark.parametrize(
    "net",
    [
        nn.ReLU(),
        nn.Sequential(),
        small().astype("float64"),
        nn.Conv2d(2, 2, (1, 3), padding=((0, 1), (2, 3)), bias=False),
        nn.Residual(nn.Conv2d(2, 2, 1), nn.Identity(), nn.GELU("tanh")),
    ],
    ids=repr,
)
def test_other_nets_come_back(net: nn.Module, tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    cc.save(path, net)
    assert same(net, cc.load(path))


def test_special_values_come_back(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.weight[...] = np.array([[np.nan, np.inf], [-np.inf, -0.0]])
    cc.save(tmp_path / "net", net)
    assert same(net, cc.load(tmp_path / "net"))


def test_metadata_comes_back(tmp_path: Path) -> None:
    path, metadata = tmp_path / "net", {"classes": ["a", "ü"], "mean": 0.1, "deep": {"x": [None]}}
    cc.save(path, small(), metadata)
    assert checkpoint.load_metadata(path) == metadata
    cc.save(path, small())
    assert checkpoint.load_metadata(path) == {}


def test_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    values = np.arange(24.0).reshape(2, 3, 4)
    arrays = {
        **{dtype: values.astype(dtype) for dtype in checkpoint.DTYPES},
        "fortran": np.asfortranarray(values),
        "strided": values[:, ::-2],
        "zero stride": np.broadcast_to(np.float32(3), (2, 2)),
        "big endian": values.astype(">f8"),
        "scalar": np.array(5),
        "empty": np.zeros((0, 3), np.float32),
        "tensor": cc.ones(2),
        "number": 1.5,
    }
    checkpoint.save_arrays(path, arrays, {"epoch": 3})
    loaded, metadata = checkpoint.load_arrays(path)
    assert metadata == {"epoch": 3}
    assert sorted(loaded) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], np.asarray(array), err_msg=name)
        assert loaded[name].dtype == np.asarray(array).dtype.newbyteorder("="), name
        loaded[name][...] = 0  # it may be written to
    with pytest.raises(ValueError, match="holds no cyconv net"):
        cc.load(path)


def test_files_of_other_libraries(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    state = small().state_dict()
    safetensors.save_file(state, path, {"format": "pt"})
    arrays, metadata = checkpoint.load_arrays(path)
    small().load_state_dict(arrays)
    assert metadata == {}
    with pytest.raises(ValueError, match="holds no cyconv net"):
        cc.load(path)
    cc.save(path, small())  # and they can read ours
    assert safetensors.load_file(path).keys() == state.keys()


def test_equal_nets_give_equal_files(tmp_path: Path) -> None:
    net = small()
    for name in "ab":
        cc.save(tmp_path / name, net, {"epoch": 3})
        net = cc.load(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    cc.save(tmp_path / "net", small())
    before = cc.random.generator().bit_generator.state
    cc.load(tmp_path / "net")
    assert cc.random.generator().bit_generator.state == before
    assert nn.Linear(2, 2).weight.numpy().any()


# ------------------------------------------------------------------ written whole or not at all

KILLED = """
import os, random, signal, sys, time
import numpy as np
import cyconv as cc

path, rounds = sys.argv[1], 50
net = cc.nn.Sequential(cc.nn.Linear(100, 200), cc.nn.BatchNorm1d(200))
state = net.state_dict()
delay = random.Random(0)

def save_all(value):
    net.load_state_dict({name: np.full_like(array, value) for name, array in state.items()})
    cc.save(path, net, {"value": value})

save_all(0)
cut_short = 0
for _ in range(rounds):
    child = os.fork()
    if child == 0:
        value = cc.checkpoint.load_metadata(path)["value"]
        while True:
            value += 1
            save_all(value)
    time.sleep(delay.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = {float(n) for a in cc.load(path).state_dict().values() for n in np.unique(a)}
    assert found == {cc.checkpoint.load_metadata(path)["value"]}, found
    litter = [name for name in os.listdir(os.path.dirname(path)) if ".tmp" in name]
    cut_short += len(litter)
    for name in litter:
        os.unlink(os.path.join(os.path.dirname(path), name))
print(cut_short, cc.checkpoint.load_metadata(path)["value"])
"""


@pytest.mark.skipif(not POSIX, reason="needs fork and kill -9")
def test_killed_fifty_times_the_last_file_is_whole(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "net")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    cut_short, saved = map(int, run.stdout.split())
    assert saved > 20  # the loop did save: more than once in two kills
    assert cut_short > 0  # and some kills hit it in the middle of writing


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, net = tmp_path / "net", small()
    cc.save(path, net)
    before = path.read_bytes()
    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def fail(*_: Any) -> None:
                raise OSError("no space left")

            patch.setattr(os, broken, fail)
            with pytest.raises(OSError, match="no space left"):
                cc.save(path, small())
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["net"]


def test_the_file_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (done.append(n), f(*a))[1])
    cc.save(tmp_path / "net", small())
    assert done == ["fsync", "replace", "fsync"] if POSIX else ["fsync", "replace"]


@pytest.mark.skipif(not POSIX, reason="needs links and permissions of POSIX")
def test_links_and_permissions(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "runs" / "net")
    before = os.umask(0o027)
    try:
        cc.save(tmp_path / "latest", small())
    finally:
        os.umask(before)
    assert (tmp_path / "latest").is_symlink()
    assert stat.S_IMODE((tmp_path / "runs" / "net").stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "runs") == ["net"]


# ------------------------------------------------------------------ mistakes


class Own(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


class ReLU(nn.Module):
    """Has the name of one of ours but is not ours."""


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda p: cc.save(p, {"a": 1}), "save: net must be a Module, got dict"),
        (lambda p: cc.save(p, Own()), "save: the net is a Own, not a class of cyconv.nn"),
        (lambda p: cc.save(p, nn.Sequential(Own())), "save: 0 is a Own, not a class of cyconv.nn"),
        (lambda p: cc.save(p, ReLU()), "the net is a ReLU, not a class of cyconv.nn"),
        (lambda p: cc.save(p, small(), "text"), "save: metadata must be a dict, got str"),
        (lambda p: cc.save(p, small(), {"a": {1}}), "save: metadata must be what JSON can hold"),
        (lambda p: cc.save(p, small(), {(1, 2): 1}), "save: metadata must be what JSON can hold"),
        (lambda p: cc.save(None, small()), "path must be a str or a Path, got None"),
        (lambda p: checkpoint.save_arrays(p, {1: 2}), "1 cannot be the name of an array"),
        (lambda p: checkpoint.save_arrays(p, {"__metadata__": 2}), "cannot be the name"),
        (lambda p: checkpoint.save_arrays(p, {"a": "b"}), "a has dtype <U1"),
        (lambda p: checkpoint.save_arrays(p, {"a": None}), "a has dtype object"),
        (lambda p: checkpoint.save_arrays(p, {"a": 1j}), "a has dtype complex128"),
        (lambda p: checkpoint.save_arrays(p, [1]), "arrays must be a dict, got list"),
    ],
)
def test_mistakes_are_named_and_write_nothing(save: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        save(tmp_path / "net")
    assert not os.listdir(tmp_path)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        cc.save(tmp_path / "nowhere" / "net", small())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cc.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a regular file"):
        cc.load(tmp_path)
    with pytest.raises(OSError, match=r"save: .* is a folder"):
        cc.save(tmp_path, small())
    if POSIX:
        with pytest.raises(ValueError, match="is not a regular file"):
            cc.load("/dev/zero")
