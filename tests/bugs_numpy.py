"""Bugs of one line each in the NumPy backend, and the tests that must see them."""

from __future__ import annotations

from bugs import CONV, OPTIM, POOL, RECORDED
from seeding import Bug


def numpy(
    name: str, before: str, after: str, tests: tuple[str, ...], file: str = "cpu_numpy.py"
) -> Bug:
    """A bug in the NumPy backend."""
    return Bug(name, f"backends/{file}", before, after, tests)


NUMPY_BUGS = [
    numpy("last tap skipped", "last_tap = min(kernel - 1,", "last_tap = min(kernel - 2,", RECORDED),
    numpy(
        "rounded the wrong way",
        "max(low, -(offset // stride))",
        "max(low, -offset // stride)",
        CONV,
    ),
    numpy(
        "bias forgotten",
        "        if b is not None:\n            tile +=",
        "        if False:\n            tile +=",
        RECORDED,
    ),
    numpy(
        "overlap lost",
        "_planes(dx)[:, iy, ix] += cols[",
        "_planes(dx)[:, iy, ix] = cols[",
        RECORDED,
    ),
    numpy(
        "only the last tile counts",
        "        dw += np.matmul",
        "        dw[...] = np.matmul",
        ("test_ops_conv.py",),
    ),
    numpy(
        "last of equals wins", "in reversed(list(_taps(g.window))):", "in _taps(g.window):", POOL
    ),
    numpy(
        "padding counted the wrong way round",
        "if not self.count_include_pad:",
        "if self.count_include_pad:",
        RECORDED,
        "../geometry.py",
    ),
    numpy(
        "variance over n - 1",
        "np.square(out).sum(axis=1) / max(1, p.shape[1])",
        "np.square(out).sum(axis=1) / max(1, p.shape[1] - 1)",
        RECORDED,
    ),
    numpy(
        "gradient at zero",
        "~(as_batch_last(out) <= 0)",
        "~(as_batch_last(out) < 0)",
        ("test_ops_activation.py",),
    ),
    numpy(
        "label smoothing not shared out",
        "dlogits -= smoothing / dlogits.shape[1]",
        "dlogits -= smoothing",
        RECORDED,
    ),
    numpy(
        "first moment's decay for the second's",
        "math.sqrt(1 - beta2**step)",
        "math.sqrt(1 - beta1**step)",
        OPTIM,
        "cpu_numpy_steps.py",
    ),
]
