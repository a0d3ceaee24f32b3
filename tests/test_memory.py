"""The memory that training takes, measured on the process: it stays flat, its peak is modest."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from separate import in_a_process

from cyconv.backends.memory import (
    SCRATCH,
    Arena,
    _block,
    _Pool,
    aligned_empty,
    memory_from,
    scratch,
)
from cyconv.data.prefetch import ahead

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads the process's memory from /proc"
)

SMALL_NET = """
    import gc
    import sys
    import numpy as np
    import cyconv as cc
    from cyconv import nn
    from separate import resident

    cc.seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(8 * 2 * 2, 10),
    )
    optimizer = cc.optim.{optimizer}
    rng = np.random.default_rng(0)
    images, labels = rng.random((32, 1, 10, 10), np.float32), rng.integers(0, 10, 32)

    def step(i):
        n = {batch}
        with cc.record():
            loss = cc.ops.cross_entropy(net(cc.tensor(images[:n])), labels[:n])
        {after}
        return loss

    gc.disable()  # nothing may have to wait for the garbage collector
    for i in range(2200):
        loss = step(i)
        if i == 200:
            memory = resident()
        if i == 1200:
            blocks = sys.getallocatedblocks()
    assert np.isfinite(loss.item())
    print((resident() - memory) // 2**20, sys.getallocatedblocks() - blocks)
"""


@pytest.mark.parametrize(
    ("optimizer", "batch", "after"),
    [
        ("SGD(net.parameters(), lr=0.01, momentum=0.9)", "32", "loss.backward(); optimizer.step()"),
        (
            "Adam(net.parameters(), lr=0.01)",
            "32 - 3 * (i % 7)",
            "loss.backward(); optimizer.step()",
        ),
        ("SGD(net.parameters(), lr=0.01)", "32", "pass"),  # graphs that nobody walks
    ],
    ids=["sgd", "adam, sizes that change", "without backward"],
)
def test_flat_over_2000_steps(optimizer: str, batch: str, after: str) -> None:
    program = SMALL_NET.format(optimizer=optimizer, batch=batch, after=after)
    megabytes, blocks = map(int, in_a_process(program, 300, OMP_NUM_THREADS="1").split())
    assert megabytes < 3, f"{megabytes} MB more after 2,000 steps"
    assert blocks < 500, f"{blocks} objects more after 1,000 steps"


def test_the_peak_of_a_step() -> None:
    """Of the notebook's net: at most three times what the activations themselves take."""
    program = """
    import numpy as np
    import cyconv as cc
    from separate import most_resident, resident

    n = 256
    net = cc.nn.models.lenet()
    optimizer = cc.optim.SGD(net.parameters(), lr=0.01)
    images = cc.zeros(n, 1, 28, 28)
    labels = np.zeros(n, int)
    x, activations = images[:2], 0
    for layer in net.children():
        x = layer(x)
        activations += x.size // 2 * n * 4
    before = resident()
    for _ in range(3):
        with cc.record():
            loss = cc.ops.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    print((most_resident() - before) / activations)
    """
    assert float(in_a_process(program, 120, OMP_NUM_THREADS="1")) < 3


CHAIN = """
    import cyconv as cc
    from separate import most_resident, resident

    x = cc.zeros(64, 8, 64, 64).attach_grad()  # 8 MB
    w = cc.randn(8, 8, 1, 1, scale=0.1).attach_grad()
    size = x.size * 4

    def forward():
        y = x
        for _ in range(20):
            y = cc.ops.relu(cc.ops.conv2d(y, w))
        return y

    before = resident()
    {use}
    print((most_resident() - before) / size)
"""


def test_inference_keeps_nothing() -> None:
    """Forty activations, of which two are needed at a time."""
    program = CHAIN.format(use="y = forward()")
    assert float(in_a_process(program, 120, OMP_NUM_THREADS="1")) < 5


def test_backward_frees_as_it_goes() -> None:
    """Forty activations, and only a few gradients besides."""
    program = CHAIN.format(use="with cc.record(): y = forward()\n    y.backward()")
    assert float(in_a_process(program, 120, OMP_NUM_THREADS="1")) < 40 + 6


def test_many_large_tensors() -> None:
    """More than there may be separate memory mappings in a process (65,530)."""
    program = """
    import cyconv as cc
    x = cc.ones(16, 4, 8, 8)
    kept = [cc.ops.relu(x) for _ in range(70_000)]  # 16 KB each
    print(len(kept))
    """
    assert in_a_process(program, 120) == "70000\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_memory_of_its_own() -> None:
    program = """
    import os
    import numpy as np
    import cyconv as cc

    y = cc.ops.relu(cc.ones(64, 4, 16, 16))
    spare = cc.ops.relu(y)
    del spare  # its memory is used again, by parent and child alike
    child = os.fork()
    if child == 0:
        y[:] = 7
        z = cc.ops.relu(cc.zeros(64, 4, 16, 16))
        os._exit(int(y.numpy().min() != 7))
    z = cc.ops.relu(y)
    print(os.waitpid(child, 0)[1], (y.numpy() == 1).all(), (z.numpy() == 1).all())
    """
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # Python warns of forked threads
    assert in_a_process(program, 60, **alone) == "0 True True\n"


def test_each_thread_has_scratch_memory_of_its_own() -> None:
    def places(*counts: int) -> list[int]:
        return [array.ctypes.data for array in scratch(counts, np.dtype("float32"))]

    first, second = places(100, 50)
    assert second == first + 400 and places(20) == [first]
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(places(100)))
    thread.start()
    thread.join()
    assert seen and abs(seen[0] - first) >= 100
    large = scratch((SCRATCH // 8 + 1,), np.dtype("float64"))[0]
    with memory_from(Arena()):
        others = [large.ctypes.data, *places(100, 50)]
    assert first not in others and large.size == SCRATCH // 8 + 1


def test_many_threads_take_freed_memory() -> None:
    """Sizes come and go in the list of what is free while others look through it."""
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        sizes = np.random.default_rng(seed).integers(5_000, 200_000, 3_000).tolist()
        try:
            for size in sizes:
                aligned_empty((size,), np.dtype("float32"))
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors


def test_memory_that_waits_to_be_used_again_is_limited() -> None:
    def waiting() -> int:
        assert pool.kept == sum(size * len(free) for size, free in pool.free.items())
        return pool.kept

    pool = _Pool(limit=300_000)
    for _ in range(3):
        _block(pool, 200_000)
        assert waiting() == 200_000
    _block(pool, 150_000)  # in the larger one
    assert waiting() == 200_000
    blocks = [_block(pool, size) for size in (100_000, 100_001, 150_000, 300_001)]
    assert waiting() == 0
    seen = []
    while blocks:
        del blocks[0]
        seen.append(waiting())
    assert seen == [100_000, 300_000, 150_000, 0]
    last = _block(pool, 1)
    pool.close()
    del last
    assert waiting() == 0


def test_freed_memory_serves_arrays_that_are_not_much_smaller() -> None:
    def place(size: int) -> int:
        return aligned_empty((size,), np.dtype("float32")).ctypes.data

    with memory_from(Arena()):
        first = place(100_000)
        assert place(100_000) == place(60_000) == first
        assert place(40_000) != first


def test_an_interrupt_while_the_thread_that_works_ahead_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin, before = threading.Thread.start, threading.active_count()

    def start(thread: threading.Thread) -> None:
        begin(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        next(ahead(range(9)))
    assert threading.active_count() == before
