"""Programs in MXNet's names give what MXNet 1.9.1 gave, as `record_mxnet.py` recorded it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyconv.mx as mx
from cyconv.backends import backend_of
from cyconv.mx import autograd, gluon, nd
from cyconv.mx.gluon import nn
from cyconv.tensor import Tensor

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mx_values.json").read_text())
RIGHT = [record for record in RECORDED["records"] if "out" in record]
WRONG = [record for record in RECORDED["records"] if "error" in record]
TOLERANCE = 1e-5  # float32 arithmetic in another order, relative to the largest number


def run(code: str) -> Any:
    names: dict[str, Any] = {"mx": mx, "nd": nd, "autograd": autograd, "gluon": gluon, "nn": nn}
    names["np"] = np
    exec(RECORDED["prelude"], names)
    exec(code, names)
    return names.get("out")


def compare(out: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        array = out.asnumpy() if isinstance(out, nd.NDArray) else np.asarray(out)
        assert list(array.shape) == expected["shape"]
        assert str(array.dtype) == expected["dtype"]
        values = np.array(expected["values"]).reshape(array.shape)
        finite = np.abs(values[np.isfinite(values)])
        bound = TOLERANCE * max(finite.max(initial=0.0), 1e-8)
        np.testing.assert_allclose(array.astype(np.float64), values, rtol=0, atol=bound)
    elif isinstance(expected, list):
        assert len(out) == len(expected)
        for part, wanted in zip(out, expected):
            compare(part, wanted)
    elif isinstance(expected, float) and not isinstance(out, str):
        assert math.isclose(out, expected, rel_tol=1e-6)
    else:
        assert out == expected


@pytest.mark.parametrize("record", RIGHT, ids=lambda record: record["code"][:60])
def test_a_program_gives_what_mxnet_gave(record: dict[str, Any]) -> None:
    compare(run(record["code"]), record["out"])


@pytest.mark.parametrize("record", WRONG, ids=lambda record: record["code"][:60])
def test_a_mistake_is_refused_where_mxnet_refuses_it(record: dict[str, Any]) -> None:
    with pytest.raises(
        (ValueError, TypeError, RuntimeError, LookupError, OSError, UserWarning)
    ) as error:
        run(record["code"])
    assert len(str(error.value)) > 10 or error.type is KeyError


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 6, 6), (17, 3, 22, 22)])  # small; what kernels search
def test_a_tie_with_zeros_passes_the_gradient_under_pooling(
    ties: bool, shape: tuple[int, ...]
) -> None:
    values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape) - math.prod(shape) // 2
    values += 0 if ties else 0.5
    # as a convolution would leave it
    x = nd.NDArray(Tensor(backend_of(values).as_batch_last(values)))
    x.attach_grad()
    with autograd.record():
        rectified = nd.maximum(x, nd.zeros_like(x))
        pooled = nd.Pooling(data=rectified, pool_type="avg", kernel=(2, 2), stride=(2, 2))
    pooled.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), (values >= 0) / 4)
