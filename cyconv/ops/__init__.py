"""Differentiable operations. One op is one class, ``forward`` beside ``backward``."""

from .activation import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh
from .basic import add, cast, compare, div, matmul, mul, neg, pow, sub
from .conv import conv2d, conv_transpose2d, explain_conv2d, linear
from .dropout import dropout
from .elementwise import abs, clip, exp, log, maximum, minimum, sqrt
from .join import concat, pad2d, stack
from .loss import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from .norm import batch_norm, group_norm, layer_norm
from .pool import avg_pool2d, global_avg_pool2d, global_max_pool2d, max_pool2d
from .reduce import argmax, argmin, max, mean, min, sum
from .shape import flatten, getitem, reshape, transpose
from .softmax import log_softmax, softmax

__all__ = [
    "abs",
    "add",
    "argmax",
    "argmin",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cast",
    "clip",
    "compare",
    "concat",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "div",
    "dropout",
    "elu",
    "exp",
    "explain_conv2d",
    "flatten",
    "gelu",
    "getitem",
    "global_avg_pool2d",
    "global_max_pool2d",
    "group_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mse_loss",
    "mul",
    "neg",
    "pad2d",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "sqrt",
    "stack",
    "sub",
    "sum",
    "tanh",
    "transpose",
]
