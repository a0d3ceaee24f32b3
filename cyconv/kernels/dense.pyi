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
def scratch_size(x: Any, dout: Any, threads: int) -> int: ...
def weight_grad(
    x: Any, dout: Any, dw: Any, scratch: Any, threads: int, later: bool = False
) -> Any: ...
