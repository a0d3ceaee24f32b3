from typing import Any

lanes: int

def scratch_size(
    x: tuple[int, ...],
    out: tuple[int, ...],
    groups: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    direct: bool,
    threads: int,
) -> int: ...
def correlate(
    x: Any,
    w: Any,
    out: Any,
    scratch: Any,
    groups: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    direct: bool,
    relu: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
