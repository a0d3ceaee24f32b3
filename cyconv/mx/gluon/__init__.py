"""``mxnet.gluon``: layers, losses, data and the trainer."""
# ruff: noqa: F401

from . import data, loss, nn
from .block import Block, DeferredInitializationError, Parameter, ParameterDict
from .trainer import Trainer
