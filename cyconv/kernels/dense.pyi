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
