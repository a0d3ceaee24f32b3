from typing import Any

def scratch_size(
    x: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    threads: int,
) -> int: ...
def correlate(
    x: Any,
    w: Any,
    out: Any,
    scratch: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    relu: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
