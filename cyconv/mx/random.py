"""``mxnet.random``."""

import cyconv


def seed(seed_state: int) -> None:
    """Restart cyconv's stream; the order of shuffled data is NumPy's, as in MXNet."""
    cyconv.seed(seed_state % 2**32)
