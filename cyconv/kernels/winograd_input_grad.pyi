from typing import Any

def scratch_size(n: int, c: int, f: int, oh: int, ow: int, kernel: int, threads: int) -> int: ...
def input_grad(
    dout: Any,
    u: Any,
    dx: Any,
    scratch: Any,
    top: int,
    left: int,
    kernel: int,
    threads: int,
    later: bool = False,
) -> Any: ...
