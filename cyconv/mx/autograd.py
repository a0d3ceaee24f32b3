"""Recording, by MXNet's names."""

from typing import Any

import cyconv
from cyconv import is_recording, is_training, predict_mode, train_mode

__all__ = ["is_recording", "is_training", "pause", "predict_mode", "record", "train_mode"]


def record(train_mode: bool = True) -> Any:
    """Context manager: record for ``backward``, in training mode if ``train_mode``."""
    return cyconv.record(train=train_mode)


def pause(train_mode: bool = False) -> Any:
    """Context manager: do not record for a while."""
    return cyconv.pause(train=train_mode)
