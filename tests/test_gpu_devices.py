"""Devices as a user meets them: moving, mixing, what is said where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import emulation
import host_kernels
import numpy as np
import pytest

import cyconv as cc
from cyconv import cli

if os.environ.get("CYCONV_NO_EXTENSIONS") or os.environ.get("CYCONV_ISA"):
    pytest.skip("runs once: it does not use the kernels for the CPU", allow_module_level=True)


@pytest.fixture
def gpu() -> Iterator[None]:
    if not host_kernels.compiler():
        pytest.skip("no C compiler")
    with emulation.emulated():
        yield


# ------------------------------------------------------------------ what is missing


def raises(error: str) -> Callable[..., Any]:
    def function(*args: Any) -> Any:
        raise RuntimeError(error)

    return function


def changed(**runtime: Any) -> Any:
    cupy = emulation.module()
    vars(cupy.cuda.runtime).update(runtime)
    return cupy


def older() -> Any:
    cupy = emulation.module()
    cupy.__version__ = "13.6.0"
    return cupy


def without(library: str) -> Any:
    cupy = emulation.module()
    fail = raises(f"lib{library}.so.12: cannot open shared object file")
    if library == "nvrtc":
        cupy.cuda.nvrtc = SimpleNamespace(getVersion=fail)
    else:
        cupy.cuda.device = SimpleNamespace(get_cublas_handle=fail)
    return cupy


MISSING = {
    "CuPy is not installed": lambda: None,
    "CuPy 14 or newer is needed, and 13.6.0 is installed": older,
    "built for ROCm": lambda: changed(is_hip=True),
    "there is no NVIDIA driver": lambda: changed(driverGetVersion=lambda: 0),
    "no NVIDIA driver on this machine": lambda: changed(driverGetVersion=raises("no library")),
    "driver serves CUDA 11.4 at most, but CuPy was built for CUDA 12.9": lambda: changed(
        driverGetVersion=lambda: 11040, getDeviceCount=raises("cudaErrorInsufficientDriver: old")
    ),
    "finds no GPU (cudaErrorNoDevice: none)": lambda: changed(
        getDeviceCount=raises("cudaErrorNoDevice: none")
    ),
    "finds no GPU": lambda: changed(getDeviceCount=lambda: 0),
    "library NVRTC cannot be loaded (libnvrtc.so.12": lambda: without("nvrtc"),
    "library cuBLAS cannot be loaded (libcublas.so.12": lambda: without("cublas"),
}


@pytest.mark.parametrize("words", MISSING)
def test_what_is_missing_is_named(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with emulation.installed(MISSING[words]()):
        for use in (
            lambda: cc.ones(2).to("cuda"),
            lambda: cc.tensor([1.0], device="cuda"),
            lambda: cc.nn.Linear(2, 2).to("cuda"),
        ):
            with pytest.raises(ValueError) as caught:
                use()
            message = str(caught.value)
            assert message.startswith("device 'cuda' cannot be used: ") and words in message
            assert "\n" not in message
        assert words in cc.backends.describe_gpu()
        cc.show_config()
        assert "gpu               none: " in capsys.readouterr().out
        assert cli.main(["train", "--device", "cuda", "--quiet"]) == 2
        assert words in capsys.readouterr().err
        assert cc.ones(2).to("cpu").device == "cpu"


def test_a_broken_cupy(tmp_path: Path) -> None:
    """One that cannot be imported breaks nothing but the device."""
    (tmp_path / "cupy").mkdir()
    lines = ["raise ImportError('\\n=====\\nlibcuda is not there\\nand more')"]
    (tmp_path / "cupy" / "__init__.py").write_text("\n".join(lines))
    program = (
        "import sys, cyconv as cc\n"
        "assert 'cupy' not in sys.modules\n"
        "cc.ops.relu(cc.ones(2, 3)); assert 'cupy' not in sys.modules\n"
        "try: cc.ones(2).to('cuda')\n"
        "except ValueError as error: print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(cc.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    words = "device 'cuda' cannot be used: CuPy cannot be imported (libcuda is not there)\n"
    assert done.stdout == words, done.stderr


# ------------------------------------------------------------------ moving


def test_tensors_move(gpu: None) -> None:
    x = cc.tensor([[1.0, 2.0], [3.0, 4.0]])
    there = x.to("cuda")
    assert there.device == "cuda" and x.device == "cpu" and there.to("cuda") is there
    assert there.to("cpu").device == "cpu" and there.tolist() == x.tolist()
    assert "device=cuda" in repr(there) and np.asarray(there).tolist() == x.tolist()
    assert cc.tensor(there).device == "cpu" and cc.tensor(x, device="cuda").device == "cuda"
    for make in (cc.zeros, cc.ones, cc.randn):
        assert make(2, 3, device="cuda").device == "cuda"
    assert cc.as_tensor(there.data).data is there.data
    assert there.sum().item() == 10 and float(there[1, 0]) == 3
    assert ((there * 2 + 1) / 2 - there).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert (1 - there).device == "cuda" and (there > 2).tolist() == [[False, False], [True, True]]
    there[0] = 5
    there[:, 1] = np.array([6.0, 7.0])
    assert there.tolist() == [[5, 6], [3, 7]]


def test_an_array_of_cupy_is_taken_before_anything_else_was(gpu: None) -> None:
    array = emulation.asarray(np.ones((2, 3), np.float32))
    assert cc.as_tensor(array).device == "cuda" and cc.tensor(array).device == "cpu"
    emulation.forget()
    assert cc.ops.relu(array).device == "cuda"


def test_a_sum_has_a_gradient_of_its_own(gpu: None) -> None:
    """CuPy lets one write to an array that repeats one number; no gradient may be such a one."""
    x = cc.ones(2, 3, device="cuda").attach_grad()
    with cc.record():
        y = x.sum()
    y.backward()
    x.grad[0, 0] = 5
    assert x.grad.tolist() == [[5, 1, 1], [1, 1, 1]]


def test_indices(gpu: None) -> None:
    x = cc.tensor(np.arange(6.0).reshape(2, 3), device="cuda").attach_grad()
    rows = cc.tensor([1, 0, 1], dtype="int64", device="cuda")
    with cc.record():
        y = (x[rows, np.array([0, 1, 0])] * cc.tensor([1.0, 2.0, 3.0], device="cuda")).sum()
    y.backward()
    assert x.grad.tolist() == [[0, 2, 0], [4, 0, 0]]
    assert cc.ops.argmax(x, 1).tolist() == [2, 2]
    parts = cc.ops.concat([x, x], axis=1)
    assert parts.shape == (2, 6) and parts.device == "cuda"


# ------------------------------------------------------------------ mixing

here, there = "cpu", "cuda"


def image(device: str) -> Any:
    return cc.ones(2, 3, 4, 4, device=device)


def weight(device: str) -> Any:
    return cc.ones(2, 3, 3, 3, device=device)


MIXED: dict[str, tuple[Callable[[], Any], str]] = {
    "conv2d": (
        lambda: cc.ops.conv2d(image(there), weight(here)),
        "conv2d: input is on cuda but weight is on cpu",
    ),
    "bias": (
        lambda: cc.ops.conv2d(image(here), weight(here), cc.ones(2, device=there)),
        "conv2d: input is on cpu but bias is on cuda",
    ),
    "add": (
        lambda: image(here) + image(there),
        "add: the first operand is on cpu but the second operand is on cuda",
    ),
    "matmul": (lambda: cc.ones(2, 2, device=there) @ cc.ones(2, 2), "matmul: .*cuda but .*cpu"),
    "compare": (lambda: image(there) > image(here), "greater: .*cuda but .*cpu"),
    "concat": (
        lambda: cc.ops.concat([image(here), image(there)]),
        r"concat: tensors\[0\] is on cpu but tensors\[1\] is on cuda",
    ),
    "batch_norm": (
        lambda: cc.nn.BatchNorm2d(3)(image(there)),
        "batch_norm: input is on cuda but gamma is on cpu",
    ),
    "running": (
        lambda: cc.ops.batch_norm(image(there), None, None, cc.zeros(3), cc.ones(3)),
        "batch_norm: input is on cuda but running_mean is on cpu",
    ),
    "labels": (
        lambda: cc.ops.cross_entropy(cc.ones(1, 2, device=there), cc.tensor([0], dtype="int64")),
        "cross_entropy: logits is on cuda but labels is on cpu",
    ),
    "assignment": (
        lambda: image(here).__setitem__(0, cc.ones(3, 4, 4, device=there)),
        "assignment: .*cpu but .*cuda",
    ),
    "index": (
        lambda: image(there)[cc.tensor([0], dtype="int64")],
        "the tensor is on cuda but its index is on cpu",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixing_devices_names_both(gpu: None, name: str) -> None:
    run, message = MIXED[name]
    with pytest.raises(ValueError, match=message):
        run()


def test_a_gradient_from_elsewhere(gpu: None) -> None:
    x = cc.ones(2, device="cuda").attach_grad()
    with cc.record():
        y = x * 2
    with pytest.raises(ValueError, match="backward: the tensor is on cuda but grad is on cpu"):
        y.backward(cc.ones(2))
    y.backward(np.array([1.0, 2.0], np.float32))
    assert x.grad.tolist() == [2, 4]
    x.grad = cc.ones(2)
    with pytest.raises(ValueError, match=r"SGD: .*\(2,\) is on cuda but its gradient is on cpu"):
        cc.optim.SGD([x], 0.1).step()


def test_arrays_and_numbers_go_where_the_tensors_are(gpu: None) -> None:
    w = np.ones((2, 3, 3, 3), np.float32)
    assert cc.ops.conv2d(image("cuda"), w).device == "cuda"
    assert cc.ops.conv2d(np.ones((2, 3, 4, 4), np.float32), weight("cuda")).device == "cuda"
    assert (np.float32(2) * image("cuda")).device == "cuda"
    assert (np.ones(4, np.float32) + image("cuda")).device == "cuda"


# ------------------------------------------------------------------ nets, files, the command


def test_an_optimiser_follows_its_net(gpu: None) -> None:
    results = []
    for moves in (["cpu"] * 4, ["cpu", "cuda", "cuda", "cpu"]):
        cc.seed(0)
        net = cc.nn.Linear(3, 2).astype("float64")
        optimizer = cc.optim.Adam(net.parameters(), 0.1)
        for device in moves:
            net.to(device)
            x = cc.tensor(np.eye(3), dtype="float64", device=device)
            with cc.record():
                loss = (net(x) ** 2).sum()
            loss.backward()
            optimizer.step()
        results.append(net.state_dict()["weight"])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)


def test_files_move_between_devices(gpu: None, tmp_path: Path) -> None:
    net = cc.nn.models.lenet_bn().to("cuda")
    optimizer = cc.optim.SGD(net.parameters(), 0.1, 0.9)
    x = cc.randn(4, 1, 28, 28)
    with cc.record():
        loss = cc.ops.cross_entropy(net(x.to("cuda")), [0, 1, 2, 3])
    loss.backward()
    optimizer.step()
    cc.save(tmp_path / "net.safetensors", net)
    again = cc.load(tmp_path / "net.safetensors")
    assert {p.device for p in again.parameters()} == {"cpu"}
    np.testing.assert_allclose(again(x).numpy(), net(x.to("cuda")).numpy(), rtol=1e-3, atol=1e-4)
    state = optimizer.state_dict()
    assert all(isinstance(a, np.ndarray) for a in state.values())
    other = cc.optim.SGD(again.to("cuda").parameters(), 0.1, 0.9)
    other.load_state_dict(state)
    assert other.state[0]["velocity"].shape == next(again.parameters()).shape
    assert cc.backends.device_of(other.state[0]["velocity"]) == "cuda"
    for name, a in other.state_dict().items():
        np.testing.assert_array_equal(a, state[name])


def test_the_command_line(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli.training.DATASETS, "mnist", small_mnist)
    options = ["train", "--limit", "128", "--no-plots", "--out", "run"]
    assert cli.main([*options, "--epochs", "1", "--device", "cuda"]) == 0
    printed = capsys.readouterr().out
    assert "on the GPU (Emulation, 8 GB" in printed and "Test_acc" in printed
    assert emulation.launched
    assert cli.main(["eval", "run"]) == 0
    on_cpu = capsys.readouterr().out
    emulation.launched.clear()
    assert cli.main(["eval", "run", "--device", "cuda"]) == 0
    assert emulation.launched and capsys.readouterr().out[:50] == on_cpu[:50]
    assert cli.main(["train", "--resume", "run", "--device", "cpu"]) == 0
    assert "This run is complete" in capsys.readouterr().out
    assert cli.main(["info"]) == 0
    assert "gpu               Emulation, 8 GB, compute capability 9.0" in capsys.readouterr().out


def small_mnist(train: bool, root: Any) -> Any:
    data = cc.data.MNIST.built_in(train=train)
    data.images, data.labels = data.images[:200], data.labels[:200]
    return data


def test_predictions_are_made_where_the_net_is(gpu: None) -> None:
    net = cc.nn.models.lenet()
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28)).astype(np.uint8)
    here = cc.train.predict(net, images)
    emulation.launched.clear()
    there = cc.train.predict(net.to("cuda"), images)
    assert emulation.launched and isinstance(there, np.ndarray)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)


def test_a_net_on_the_gpu_is_drawn(gpu: None) -> None:
    pytest.importorskip("matplotlib")
    from cyconv import plots

    net = cc.nn.Sequential(cc.nn.Conv2d(1, 2, 3)).to("cuda")
    assert plots.filters(net, np.zeros((1, 8, 8), np.uint8)) is not None


def test_the_emulation_is_named_as_cupy_is() -> None:
    """`is_gpu_array` goes by the name of the module that an array's type comes from."""
    assert emulation.ndarray.__module__ == "cupy" and isinstance(emulation.module(), ModuleType)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_batches_of_cupys_arrays(gpu: None, dtype: str) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 1, 4, 4)).astype(dtype), rng.integers(0, 3, 20)
    found = []
    for array in (np.asarray, emulation.asarray):
        cc.seed(0)
        net = cc.nn.Sequential(cc.nn.Flatten(), cc.nn.Linear(16, 3)).to("cuda")
        batches = [(array(images), array(labels))]
        optimizer = cc.optim.SGD(net.parameters(), 1e-3)
        history = cc.train.fit(net, batches, batches, optimizer=optimizer, progress=False)
        found.append((history.rows[0].test_accuracy, cc.train.predict(net, array(images))))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6)
