"""``mxnet.nd``: arrays and the functions of them."""
# ruff: noqa: F401, I001

from .creation import arange, array, empty, eye, ones, ones_like, zeros, zeros_like
from .creation import random_normal, random_uniform, sample_multinomial
from .ndarray import NDArray
from .op import Convolution, Pooling, abs, add, arccos, argmax, clip, concat, copy, divide, dot
from .op import elemwise_add, equal, exp, flatten, floor, greater, greater_equal, lesser
from .op import lesser_equal, log, log_softmax, max, maximum, mean, modulo, multiply, nansum
from .op import negative, norm, not_equal, one_hot, power, relu, reshape, sigmoid, sign, softmax
from .op import sqrt, square, subtract, sum, swapaxes, take, tanh, tile, transpose
from .serialization import load, save
