"""Bugs of one line each in the kernels of pooling, normalisation and elementwise work."""

from __future__ import annotations

from bugs import NORM, OPTIM, POOL, RECORDED, kernel

LAYOUTS = ("test_recorded.py", "test_layouts.py")

OTHER_BUGS = [
    kernel(
        "a lower value wins for one image",
        "max_pool.pyx",
        "most = value if wins(value, most)",
        "most = value if wins(most, value)",
        ("test_single_image.py", *POOL),
    ),
    kernel(
        "the lower one of a window wins at an image's edge",
        "max_pool.pyx",
        "best[ow] = value if wins(value, best[ow])",
        "best[ow] = value if wins(best[ow], value)",
        ("test_single_image.py", *POOL),
    ),
    kernel(
        "a gate open at 0",
        "simd.h",
        "~(gate <= 0)",
        "~(gate < 0)",
        ("test_gates.py",),
        *("max_pool", "avg_pool"),
    ),
    kernel(
        "divisor beyond the padding",
        "avg_pool.pyx",
        "min(first + a.kernel, size + after)",
        "first + a.kernel",
        RECORDED,
    ),
    kernel(
        "windows cut off at one end count as whole",
        *("avg_pool.pyx", "== covered(a, last, after, padded) == a.kernel", "== a.kernel"),
        POOL,
    ),
    kernel(
        "a lower tap wins too",
        "simd.h",
        "numbers == number, lane_numbers",
        "numbers <= number, lane_numbers",
        RECORDED,
        "max_pool",
    ),
    kernel(
        "the last of equal numbers wins",
        "simd.h",
        "lane_numbers wins = (v > *best)",
        "lane_numbers wins = (v >= *best)",
        POOL,
        "max_pool",
    ),
    kernel(
        "a zero in the last rows is not found",
        "elementwise.pyx",
        "        found = found | (a[i] == 0)",
        "        found = found | (a[i] == 0 and i < count - 1)",
        ("test_activation.py",),
    ),
    kernel(
        "variance over n - 1",
        "norm.pyx",
        "var[0] = squares / count",
        "var[0] = squares / max(count - 1, 1)",
        RECORDED,
    ),
    kernel(
        "the batch's own statistics outside of training",
        "norm.pyx",
        "    if norm.by_running:\n        mean_",
        "    if False:\n        mean_",
        NORM,
    ),
    kernel(
        "variance within runs alone",
        "norm.pyx",
        "+ shift * shift * i * run / (i + run)",
        "+ 0",
        NORM,
    ),
    kernel(
        "gradient of what ReLU has cut",
        "norm.pyx",
        "    if not relu:\n        return load(dout + i)",
        "    if True:\n        return load(dout + i)",
        ("test_activation.py",),
    ),
    kernel(
        "sums without their ReLU",
        "elementwise.pyx",
        "if what != ADD and x < 0",
        "if what == RELU and x < 0",
        ("test_activation.py",),
    ),
    kernel(
        "sums of gradients without the gate behind them",
        *("elementwise.pyx", "if what == GATE or what == ADD_GATE", "if what == GATE"),
        ("test_activation.py",),
    ),
    kernel(
        "gradient at zero",
        *("elementwise.pyx", "if gate[i] <= 0", "if gate[i] < 0"),
        ("test_ops_activation.py",),
    ),
    kernel(
        "weight decay with the wrong sign",
        "elementwise.pyx",
        "w[i] = w[i] - lr * (grad[i] + decay * w[i])",
        "w[i] = w[i] - lr * (grad[i] - decay * w[i])",
        OPTIM,
    ),
    kernel(
        "pixels left over",
        "elementwise.pyx",
        "blocks = parts_of(pixels, SQUARE)",
        "blocks = max(pixels // SQUARE, 1)",
        LAYOUTS,
    ),
    kernel(
        "gaps between planes are filled",
        *("elementwise.pyx", "if d.stride == pixels * d.n:", "if d.n > 0:"),
        ("test_ops_conv.py",),
    ),
    kernel(
        "a row of a large window is added twice",
        "avg_pool.pyx",
        "        for n in range(images):\n            line[n] = 0",
        "        for n in range(images if kh == 0 else 0):\n            line[n] = 0",
        ("test_long_sums.py",),
    ),
    kernel(
        "moments that fade for ever",
        "elementwise.pyx",
        "return 0 if -SMALLEST_NORMAL < x < SMALLEST_NORMAL else x",
        "return x",
        OPTIM,
    ),
    kernel(
        "averages that lose digits",
        "elementwise.pyx",
        "<real>(1 - beta2)",
        "1 - <real>beta2",
        OPTIM,
    ),
]
