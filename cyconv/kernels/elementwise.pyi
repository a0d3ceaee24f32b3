from typing import Any

def relu(x: Any, out: Any, threads: int, later: bool = False) -> Any: ...
def relu_and_search(x: Any, out: Any, threads: int) -> bool: ...
def add(
    a: Any, b: Any, gate: Any | None, out: Any, relu: bool, threads: int, later: bool = False
) -> Any: ...
def relu_backward(dout: Any, out: Any, dx: Any, threads: int, later: bool = False) -> Any: ...
def sgd_step(
    ws: Any,
    grads: Any,
    velocities: Any,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    threads: int,
) -> None: ...
def adam_step(
    ws: Any,
    grads: Any,
    ms: Any,
    vs: Any,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    threads: int,
) -> None: ...
def to_batch_last(src: Any, dst: Any, threads: int) -> None: ...
