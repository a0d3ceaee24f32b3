from typing import Any

def avg_pool(
    src: Any,
    rectified: Any,
    dst: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    count_include_pad: bool,
    transposed: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
