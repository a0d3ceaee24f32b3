from typing import Any

def by_tap(transposed: bool, direct: bool, stride: tuple[int, ...]) -> bool: ...
def packed_size(groups: int, fg: int, taps: int) -> int: ...
def pack_weights(
    w: Any,
    bias: Any | None,
    out: Any,
    groups: int,
    rows: int,
    cols: int,
    taps: int,
    swapped: bool,
    by_tap: bool,
    threads: int,
    later: bool = False,
) -> Any: ...
