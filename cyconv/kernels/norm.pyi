from typing import Any

def channel_sum(a: Any, out: Any, threads: int, later: bool = False) -> Any: ...
def batch_norm(
    x: Any,
    residual: Any | None,
    out: Any,
    gamma: Any | None,
    beta: Any | None,
    mean: Any,
    var: Any,
    inv_std: Any,
    running_mean: Any | None,
    running_var: Any | None,
    momentum: float,
    eps: float,
    relu: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
def batch_norm_backward(
    dout: Any,
    x: Any,
    dx: Any,
    gamma: Any | None,
    beta: Any | None,
    mean: Any,
    inv_std: Any,
    dgamma: Any,
    dbeta: Any,
    relu: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
