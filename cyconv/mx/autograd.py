"""``mxnet.autograd``: cyconv's recording."""

from typing import Any

import cyconv

is_recording, is_training = cyconv.is_recording, cyconv.is_training
train_mode, predict_mode = cyconv.train_mode, cyconv.predict_mode


def record(train_mode: bool = True) -> Any:
    return cyconv.record(train_mode)


def pause(train_mode: bool = False) -> Any:
    return cyconv.pause(train_mode)
