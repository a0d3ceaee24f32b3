from typing import Any

def dense(
    x: Any,
    w: Any,
    bias: Any | None,
    out: Any,
    relu: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
def scratch_size(
    x: tuple[int, ...],
    dout: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    threads: int,
) -> int: ...
def weight_grad(
    x: Any,
    dout: Any,
    dw: Any,
    scratch: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    threads: int,
    later: bool = False,
) -> Any: ...
