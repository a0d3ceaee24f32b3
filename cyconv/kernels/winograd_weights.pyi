from typing import Any

def packed_size(c: int, f: int, kernel: int, stride: int) -> int: ...
def pack_weights(
    w: Any,
    u: Any,
    rows: int,
    cols: int,
    kernel: int,
    stride: int,
    swapped: bool,
    spread: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
