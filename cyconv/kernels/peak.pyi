lanes: int
sums: int

def multiply_adds(rounds: int, threads: int) -> float: ...
