"""``mxnet.gluon``: layers, losses, data and the trainer."""

from . import data, loss, nn
from .block import Block
from .parameter import DeferredInitializationError, Parameter, ParameterDict
from .trainer import Trainer

__all__ = ["Block", "DeferredInitializationError", "Parameter", "ParameterDict", "Trainer"]
__all__ += ["data", "loss", "nn"]
