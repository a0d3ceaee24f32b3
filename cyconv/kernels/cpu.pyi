openmp: int
compiler: str

def supports(isa: str) -> bool: ...
