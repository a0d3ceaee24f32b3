from typing import Any

def scratch_size(
    n: int,
    c: int,
    f: int,
    oh: int,
    ow: int,
    kernel: int,
    stride: int,
    transposed: bool,
    tiles: bool,
    threads: int,
) -> int: ...
def correlate(
    x: Any,
    u: Any,
    bias: Any | None,
    out: Any,
    scratch: Any,
    top: int,
    left: int,
    kernel: int,
    stride: int,
    transposed: bool,
    tiles: bool,
    relu: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
