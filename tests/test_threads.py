"""Threads change no bit: the kernels' own, Python's, and those that a fork leaves behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, every_op
from numpy.typing import NDArray
from refusal import bad_integer, refuses
from running import run

import cyconv as cc
from cyconv import kernels
from cyconv.kernels import WAIT, spins

Array = NDArray[Any]


def in_strips() -> Case:
    """Winograd's tiles in three strips, which one thread or three have to themselves."""
    rng = np.random.default_rng(8)
    shapes = {"x": (17, 32, 20, 20), "w": (24, 32, 3, 3)}
    inputs = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    return Case("conv2d in strips", "conv2d", inputs, {"padding": 1, "algo": "winograd"})


# large enough that the kernels do use threads; 33 images leave a tail in every vector width
CASES = [
    in_strips(),
    *every_op(64, c=8, size=14, f=24),
    *every_op(33, c=6, size=11, f=25),
    *every_op(1, c=16, size=32, f=32),
    *every_op(20, c=6, size=11, f=13, dtype="float64"),
]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Every test starts and ends with the same number of threads."""
    before = cc.get_num_threads()
    yield
    cc.set_num_threads(before)


def results(case: Case) -> dict[str, Array]:
    """Copies of the output and all gradients."""
    if case.training and case.op == "batch_norm" and len(case.inputs["x"]) == 1:
        case = Case(case.name, case.op, case.inputs, case.options, training=False)
    out, grads = run(case.op, case.inputs, training=case.training, **case.options)
    return {"out": out.copy()} | {name: grad.copy() for name, grad in grads.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_number_of_threads_gives_equal_bits(case: Case) -> None:
    cc.set_num_threads(1)
    expected = results(case)
    for threads in (2, 3, 4, 16):
        cc.set_num_threads(threads)
        assert cc.get_num_threads() == threads
        for name, array in results(case).items():
            assert array.tobytes() == expected[name].tobytes(), f"{name} with {threads} threads"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_call_gives_the_same_bits_again(case: Case) -> None:
    cc.set_num_threads(2)
    expected = results(case)
    for _ in range(3):
        for name, array in results(case).items():
            assert array.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize(("changes", "words"), bad_integer("n"))
def test_bad_numbers_of_threads(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    before = cc.get_num_threads()
    refuses(cc.set_num_threads, changes, words)
    assert cc.get_num_threads() == before


class Net:
    """Weights to be shared: convolution, pooling, fully connected."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        shapes = [(8, 3, 3, 3), (8,), (10, 8 * 4 * 4), (10,)]
        self.weights = [cc.tensor(rng.standard_normal(s) * 0.2).attach_grad() for s in shapes]

    def step(self, seed: int) -> tuple[float, Array]:
        """Loss of a batch of its own, and the gradient by its images."""
        rng = np.random.default_rng(seed)
        x = cc.tensor(rng.standard_normal((19, 3, 8, 8))).attach_grad()
        w1, b1, w2, b2 = self.weights
        with cc.record():
            h = cc.ops.max_pool2d(cc.ops.relu(cc.ops.conv2d(x, w1, b1, padding=1)), 2)
            logits = cc.ops.linear(cc.ops.flatten(h), w2, b2)
            loss = cc.ops.cross_entropy(logits, rng.integers(0, 10, 19))
        loss.backward()
        assert x.grad is not None
        return loss.item(), x.grad.numpy().copy()


def test_eight_python_threads_share_weights() -> None:
    net = Net()
    seeds = [s % 8 for s in range(80)]
    expected = {seed: net.step(seed) for seed in range(8)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(net.step, seeds))
    for seed, (loss, grad) in zip(seeds, found, strict=True):
        assert loss == expected[seed][0]
        np.testing.assert_array_equal(grad, expected[seed][1])
    for w in net.weights:  # all graphs are gone, so nothing holds the weights any more
        w[...] = 0.0


def test_recording_is_each_threads_own() -> None:
    inside, done = threading.Event(), threading.Event()
    seen: list[tuple[bool, bool]] = []

    def other() -> None:
        inside.wait(10)
        seen.append((cc.is_recording(), cc.is_training()))
        with cc.record(train=False):
            pass
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with cc.record():
        inside.set()
        assert done.wait(10)
        assert cc.is_recording() and cc.is_training()
    thread.join()
    assert seen == [(False, False)]


FORK = """
import os, signal, sys
sys.path[:0] = {folders!r}
import cyconv as cc
from cyconv import kernels
from test_threads import Net

cc.set_num_threads(4)
net = Net()
expected = net.step(1)
read, write = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that hangs dies, and the parent reads nothing
    {in_child}
    loss, grad = net.step(1)
    same = loss == expected[0] and (grad == expected[1]).all()
    os.write(write, b"same" if same else b"different")
    os._exit(0)
os.close(write)
print(os.read(read, 100).decode())
os.waitpid(child, 0)
print("parent", net.step(1)[0] == expected[0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("in_child", ["pass", "cc.set_num_threads(2)"])
def test_a_forked_child_computes(in_child: str) -> None:
    """Parent and child go on after a fork, and the child even if it asks for more threads."""
    assert output_of(FORK, in_child=in_child) == ["same", "parent", "True"]


SHARED = """
import os, signal, sys
sys.path[:0] = {folders!r}
import numpy as np
import cyconv as cc
from cyconv import kernels

signal.alarm(60)
rng = np.random.default_rng(0)
x, w = rng.standard_normal((32, 4, 24, 24)), rng.standard_normal((8, 4, 3, 3))
x, w = cc.tensor(x), cc.tensor(w)
expected = cc.ops.conv2d(x, w).numpy().copy()
y = cc.ops.relu(x)
before = y.numpy().copy()
child = os.fork()
same = True
for _ in range(100):  # both at once, in memory that both inherited
    same = same and (cc.ops.conv2d(x, w).numpy() == expected).all()
if child == 0:
    y[...] = 7.0
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
print(bool(same), status, bool((y.numpy() == before).all()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_memory_of_its_own() -> None:
    assert output_of(SHARED) == ["True", "0", "True"]


@pytest.mark.skipif(cc.backends.backend_name() != "cython", reason="no kernels")
@pytest.mark.parametrize(
    ("setting", "expected"),
    [({}, None), ({"GOMP_SPINCOUNT": "77"}, 77), ({"OMP_WAIT_POLICY": "passive"}, 0)],
)
def test_threads_wait_briefly_unless_the_user_wants_otherwise(
    setting: dict[str, str], expected: int | None
) -> None:
    mine = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", SPINNING, str(Path(cc.__file__).parents[1])],
        env={**mine, "OMP_DISPLAY_ENV": "verbose", **setting},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("not GNU's OpenMP")
    count = int(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)[0])
    if expected is None:  # measured there as here
        assert spins() / 3 < count < 3 * spins()
    else:
        assert count == expected
    assert done.stdout.strip() == str(setting.get("GOMP_SPINCOUNT"))  # the environment is as it was


@pytest.mark.skipif(cc.backends.backend_name() != "cython", reason="no kernels")
def test_what_a_waiting_thread_does_takes_as_long_as_it_is_to_wait() -> None:
    count, wait, shortest = spins(), kernels.processor().wait, 1.0
    for _ in range(20):
        start = time.perf_counter()
        wait(count)
        shortest = min(shortest, time.perf_counter() - start)
    assert WAIT / 2 < shortest < 2 * WAIT


SPINNING = """
import os, sys
sys.path.insert(0, sys.argv[1])
import cyconv as cc
from cyconv import kernels
cc.ops.relu(cc.ones(1))
print(os.environ.get("GOMP_SPINCOUNT"))
"""


def output_of(script: str, **values: str) -> list[str]:
    """The words that a script prints in a process of its own."""
    folders = [str(Path(__file__).parent), str(Path(cc.__file__).parents[1])]
    # the warning about forking a process that has threads is what this is about
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c"]
    done = subprocess.run(
        [*command, script.format(folders=folders, **values)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.split()
