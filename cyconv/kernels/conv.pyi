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
def by_tap(transposed: bool, direct: bool, stride: tuple[int, ...]) -> bool: ...
def packed_size(groups: int, fg: int, taps: int) -> tuple[int, int]: ...
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
