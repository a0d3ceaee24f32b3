"""The notebook's network in TensorFlow, JAX and onnxruntime, with the weights of ``nets``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .nets import LEARNING_RATE, Step, batch, torch_net, weights


def tensorflow_step(size: int, threads: int) -> Step:
    """A step inside ``tf.function``, images in TensorFlow's own layout (N, H, W, C)."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    images, labels = batch(size)
    x, y = tf.constant(images.transpose(0, 2, 3, 1)), tf.constant(labels)
    w1, b1, w2, b2, w3, b3, w4, b4 = weights()
    # the rows of the first linear layer in the order of flattened (H, W, C)
    w3 = w3.reshape(128, 50, 4, 4).transpose(2, 3, 1, 0).reshape(800, 128)
    turned = (w1.transpose(2, 3, 1, 0), b1, w2.transpose(2, 3, 1, 0), b2, w3, b3, w4.T, b4)
    parameters = [tf.Variable(w) for w in turned]

    @tf.function
    def one() -> Any:
        w1, b1, w2, b2, w3, b3, w4, b4 = parameters
        with tf.GradientTape() as tape:
            h = tf.nn.relu(tf.nn.conv2d(x, w1, 1, "VALID") + b1)
            h = tf.nn.relu(tf.nn.conv2d(tf.nn.avg_pool2d(h, 2, 2, "VALID"), w2, 1, "VALID") + b2)
            h = tf.reshape(tf.nn.avg_pool2d(h, 2, 2, "VALID"), (size, -1))
            h = tf.nn.relu(h @ w3 + b3) @ w4 + b4
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, h)
            loss = tf.reduce_mean(losses)
        for parameter, grad in zip(parameters, tape.gradient(loss, parameters)):
            parameter.assign_sub(LEARNING_RATE * grad)
        return loss

    return lambda: float(one())


def jax_step(size: int) -> Step:
    """A step inside ``jax.jit``; JAX takes as many threads as the process may use."""
    import jax
    from jax import lax, nn
    from jax import numpy as jnp

    jax.config.update("jax_platforms", "cpu")  # else it takes the GPU that it finds
    images, labels = batch(size)
    state = [jnp.asarray(w) for w in weights()]

    def pool(h: Any) -> Any:
        window = (1, 1, 2, 2)
        return lax.reduce_window(h, 0.0, lax.add, window, window, "VALID") / 4

    def loss_of(parameters: list[Any]) -> Any:
        w1, b1, w2, b2, w3, b3, w4, b4 = parameters
        h = lax.conv(jnp.asarray(images), w1, (1, 1), "VALID") + b1[:, None, None]
        h = lax.conv(pool(nn.relu(h)), w2, (1, 1), "VALID") + b2[:, None, None]
        h = nn.relu(pool(nn.relu(h)).reshape(size, -1) @ w3.T + b3) @ w4.T + b4
        return -jnp.mean(nn.log_softmax(h)[jnp.arange(size), labels])

    @jax.jit
    def one(parameters: list[Any]) -> tuple[Any, list[Any]]:
        loss, grads = jax.value_and_grad(loss_of)(parameters)
        return loss, [p - LEARNING_RATE * g for p, g in zip(parameters, grads)]

    def step() -> float:
        loss, state[:] = one(state)
        return float(loss)

    return step


def onnxruntime_inference(size: int, threads: int) -> Callable[[], np.ndarray]:
    """The net as PyTorch exports it."""
    import io
    import warnings

    import onnxruntime
    import torch

    net, x = torch_net(size, channels_last=False)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter needs no further package
        torch.onnx.export(net, (x,), file, input_names=["x"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    images = batch(size)[0]
    return lambda: session.run(None, {"x": images})[0]
