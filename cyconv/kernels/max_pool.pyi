from typing import Any

def max_pool(
    x: Any,
    out: Any,
    argmax: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    threads: int,
    later: bool = False,
) -> Any: ...
def max_pool_backward(
    dout: Any,
    argmax: Any,
    rectified: Any,
    dx: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    threads: int,
    later: bool = False,
) -> Any: ...
