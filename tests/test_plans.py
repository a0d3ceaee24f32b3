"""Whatever ``auto`` chooses for a convolution, the kernel takes, with scratch in proportion."""

from __future__ import annotations

import math
import random
import sys
from typing import Any

import numpy as np
import pytest
from separate import in_a_process

import cyconv as cc
from cyconv.geometry import conv2d_geometry

if cc.backends.backend_name() != "cython":
    pytest.skip("no compiled kernels", allow_module_level=True)

from cyconv.backends import cpu_cython_conv

DIRECTIONS = ("forward", "input_grad", "weight_grad")
ODD = [  # what kernels once refused, or took giant copies for
    ((2**20, 16, 4, 4), (16, 16, 3, 3), 1, 1, 1, 1),
    ((16, 2, 64, 64), (2, 1, 2, 2), 1, ((448, 0), (0, 0)), (511, 63), 2),
    ((699, 5, 42, 106), (5, 1, 330, 6), 1, ((124, 164), (0, 0)), (1, 21), 5),
    ((1, 2, 1, 2**24), (2, 1, 1, 2**24), 1, 0, 1, 2),
    ((1, 1, 8, 8), (1, 1, 2, 2), 1, ((199995, 0), (199995, 0)), 200000, 1),
    ((8, 2, 8, 8), (2, 2, 3, 3), 1, 500, 500, 1),
]


def axis(rng: random.Random) -> tuple[int, ...]:
    """Size, kernel, stride, padding before and after, dilation."""
    size, kernel = int(2 ** rng.uniform(0, 10)), int(2 ** rng.uniform(0, rng.choice([3, 9])))
    stride = rng.choice([1, 1, 2, 3, int(2 ** rng.uniform(0, 8))])
    dilation = rng.choice([1, 1, 1, 2, int(2 ** rng.uniform(0, 9))])
    reach = (kernel - 1) * dilation + 1
    before, after = (rng.choice([0, 0, kernel // 2, reach // 2, reach - 1]) for _ in "ab")
    return max(size, reach - before - after), kernel, stride, before, after, dilation


def drawn(count: int) -> list[Any]:
    rng, found = random.Random(7), []
    while len(found) < count:
        rows, columns = axis(rng), axis(rng)
        n, c, f = (int(2 ** rng.uniform(0, 9)) for _ in range(3))
        groups = rng.choice([1, 1, c])
        shapes = (n, c, rows[0], columns[0]), (f * groups, c // groups, rows[1], columns[1])
        if max(map(math.prod, shapes)) < 2**31:
            stride, padding = (rows[2], columns[2]), (rows[3:5], columns[3:5])
            found.append((*shapes, stride, padding, (rows[5], columns[5]), groups))
    return found


def test_every_plan_is_taken() -> None:
    for shapes in (*ODD, *drawn(1500)):
        g = conv2d_geometry(*shapes)
        numbers = math.prod(g.x_shape) + math.prod(g.w_shape) + math.prod(g.out_shape)
        if numbers > 2**33:
            continue
        for direction in DIRECTIONS:
            plan = cpu_cython_conv._plan.__wrapped__(g, "f", "auto", direction, 1)
            assert getattr(plan, "scratch", 0) <= 128 * numbers + 2**23, (shapes, direction)


@pytest.mark.parametrize("shapes", ODD[1:2] + ODD[4:])
def test_gradients_of_kernels_that_reach_far(shapes: Any) -> None:
    x_shape, w_shape, stride, padding, dilation, groups = shapes
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, shape).astype(np.float32) for shape in (x_shape, w_shape)]
    results = []
    for backend in ("cython", "numpy"):
        cc.set_backend(backend)
        try:
            x, w = (cc.tensor(array).attach_grad() for array in arrays)
            with cc.record():
                y = cc.ops.conv2d(x, w, **how)
            y.backward()
            results.append([t.numpy() for t in (y, x.grad, w.grad)])
        finally:
            cc.set_backend("cython")
    for mine, right in zip(*results):
        np.testing.assert_array_equal(mine, right)


def test_a_plan_has_the_threads_that_it_is_kept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may change the setting while a plan is made."""
    monkeypatch.setattr(cc.config, "_num_threads", 4)
    for shapes in (((64, 16, 32, 32), (16, 16, 3, 3), 1, 1), ((64, 16, 32, 32), (16, 1, 3, 3))):
        g = conv2d_geometry(*shapes, groups=16 // shapes[1][1])
        for direction in DIRECTIONS:
            plan = cpu_cython_conv._plan.__wrapped__(g, "f", "auto", direction, 1)
            threads = plan.threads if hasattr(plan, "threads") else plan.how[-1]
            assert threads == 1 and getattr(plan, "layout", (1,))[-1] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_a_signal_handler_may_compute() -> None:
    """It runs between two steps of another call, whose scratch memory is in use."""
    printed = in_a_process(
        """
        import signal, time, numpy as np, cyconv as cc
        rng = np.random.default_rng(0)
        x, w = rng.random((1, 3, 8, 8), np.float32), rng.random((4, 3, 3, 3), np.float32)
        other, v = x + 9, w + 9
        right = cc.ops.conv2d(x, w).numpy()

        def interrupt(*_):
            cc.ops.conv2d(other, v)
            signal.setitimer(signal.ITIMER_REAL, 1e-4)  # now, lest a slow one interrupts itself

        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        wrong, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            wrong += (cc.ops.conv2d(x, w).numpy() != right).any()
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print(int(wrong))
        """,
        120,
    )
    assert printed == "0\n"
