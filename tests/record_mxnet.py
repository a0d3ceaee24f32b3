"""Record what MXNet does into `recorded/mx_*`, for the `test_mx_*.py`.

Only re-recording needs MXNet: Python 3.8 with `pip install mxnet==1.9.1 "numpy<1.24"`, then
`python tests/record_mxnet.py`.

A program is a few lines with `mx`, `nd`, `autograd`, `gluon`, `nn` and `np` at hand that leave
their result in `out`; a single expression is its own result. `mx_values.json` holds each program
and what came out, or that it raised an error. No program depends on random numbers. `V(...)` is an
array with a gradient, `D(f, *arrays)` are the result and the gradients.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "recorded"

PRELUDE = """
def V(*values):
    x = nd.array(*values)
    x.attach_grad()
    return x
def D(f, *arrays):
    xs = [V(a) for a in arrays]
    with autograd.record():
        y = f(*xs)
    y.backward()
    return [y, *[x.grad for x in xs]]
def train(net, x, y, steps, name, settings, rates=()):
    trainer = gluon.Trainer(net.collect_params(), name, settings)
    L = gluon.loss.L2Loss()
    for i in range(steps):
        if i < len(rates):
            trainer.set_learning_rate(rates[i])
        with autograd.record():
            loss = L(net(x), y)
        loss.backward()
        trainer.step(len(x))
    return [p.data() for p in net.collect_params().values()]
def dense(units, inputs, value=0.1, **how):
    net = nn.Dense(units, in_units=inputs, prefix="d_", **how)
    net.initialize(mx.init.Constant(value))
    return net
X = nd.array([[1, 2, 3], [4, 5, 6]])
I = nd.array([1, 2, 3], dtype="int32")
U = nd.array([200, 100, 7], dtype="uint8")
C = nd.arange(24).reshape((2, 3, 4))
P = nd.array([[1, 2, 3], [3, 1, 0]])
IMAGES = nd.arange(2 * 2 * 5 * 5).reshape((2, 2, 5, 5)) % 7
"""

VALUES = """
nd.array(np.arange(3)) ; nd.array([[1, 2], [3, 4.5]]) ; nd.array(I) ; nd.array(np.array([True, False])) ; nd.array([1.5], dtype="int32")
nd.zeros(3) ; nd.zeros((2, 3)) ; nd.ones((2,), dtype="float64") ; nd.zeros_like(I) ; nd.ones_like(X) ; X.zeros_like() ; nd.empty((2, 3)).shape
nd.arange(3) ; nd.arange(0, 1, 0.25) ; nd.arange(5, 2, -1) ; nd.arange(2, dtype="int32") ; nd.eye(2) ; nd.eye(2, 3, 1) ; nd.arange(-1, 1, 0.2) ; nd.arange(-5, 5, 0.1)[50] ; nd.arange(0, 3, 0.5, dtype="int32") ; nd.arange(1, 2, 0.3, dtype="float64") ; nd.array(np.array([[1.5, True]], dtype=object))
U / 255 ; U / 128 ; U + 100 ; U + U ; U * 2 ; nd.floor(U / 128) ; nd.floor(U) ; I + 1.5 ; I * 1.5 ; I / 2 ; 2 / I ; -I ; I == 2 ; I == I ; nd.abs(-I) ; nd.sqrt(I)
nd.sum(I) ; nd.mean(I) ; I.max() ; I.astype("float32") ; nd.array([1.7, -1.7]).astype("int32") ; X.astype(np.float64)
X + 1 ; 1 - X ; X / 2 ; 2 / X ; X * X ; X ** 2 ; 2 ** X ; X ** X ; X ** 0.5 ; -X ; abs(-X) ; X + True ; np.float64(2) * X ; np.float32(1) / X
nd.array([1, -1, 0]) / 0 ; X + nd.array([1, 2, 3]) ; X * nd.array([[1], [2]]) ; nd.power(X, 2) ; nd.power(2, X)
X > 2 ; X >= 2 ; X < 2 ; X <= 2 ; X == 2 ; X != 2 ; X == X ; 2 < X ; (X > nd.array([[2], [5]])).dtype == np.float32
nd.maximum(X, 3) ; nd.maximum(3, X) ; nd.maximum(X, nd.zeros_like(X)) ; nd.maximum(X, nd.array([2, 2, 9])) ; nd.maximum(nd.array([np.nan, 1]), nd.array([1, np.nan]))
nd.exp(X) ; nd.log(X) ; nd.sqrt(X) ; nd.square(X) ; nd.abs(-X) ; nd.sign(X - 3) ; nd.floor(X / 2) ; nd.floor(-X / 2) ; nd.arccos(X / 7) ; nd.clip(X, 2, 4) ; nd.clip(X, 2, float("inf")) ; nd.relu(X - 3) ; nd.sigmoid(X) ; nd.tanh(X)
nd.log(nd.array([0, -1])) ; nd.sqrt(nd.array([-1])) ; nd.exp(nd.array([1000])) ; nd.relu(nd.array([np.nan, -1, 0]))
nd.sum(X) ; X.sum() ; nd.sum(X, axis=0) ; nd.sum(X, axis=-1) ; nd.sum(C, axis=(0, 2)) ; nd.sum(C, axis=0, exclude=True) ; nd.sum(X, axis=-1, exclude=True) ; nd.sum(X, keepdims=True) ; nd.sum(X, axis=1, keepdims=True) ; nd.sum(X, exclude=True) ; nd.sum(nd.array([1, 2]), axis=0)
nd.mean(X) ; nd.mean(C, axis=(0, 2)) ; nd.mean(X, axis=1) ; nd.max(X) ; nd.max(X, axis=1) ; X.max(axis=0) ; nd.max(nd.array([1, np.nan, 3])) ; nd.nansum(nd.array([1, np.nan, 3])) ; nd.nansum(X, axis=0, exclude=True)
nd.norm(X) ; nd.norm(nd.array([3, 4])) ; nd.norm(X, ord=1) ; nd.norm(X, axis=1) ; nd.norm(X, ord=1, axis=1, keepdims=True) ; X.norm()
nd.argmax(X, axis=1) ; nd.argmax(X) ; nd.argmax(I) ; nd.argmax(U, axis=0) ; nd.argmax(X.astype("float64"), axis=1) ; nd.argmax(X, axis=0, keepdims=True) ; nd.argmax(nd.array([1, 3, 3]), axis=0) ; X.argmax(axis=1)
nd.one_hot(nd.array([0, 2, 5, -1]), 3) ; nd.one_hot(nd.array([0.6, 1.9, -0.5]), 3) ; nd.one_hot(nd.array([0, 2], dtype="int32"), 3, on_value=2, off_value=-1) ; nd.one_hot(nd.array([[0], [2]]), 3)
nd.softmax(X) ; nd.softmax(X, axis=0) ; nd.log_softmax(X) ; nd.log_softmax(nd.array([1, 2])) ; nd.softmax(nd.array([[1000, 0]]))
nd.dot(X, X.T) ; nd.dot(X, nd.array([1, 2, 3])) ; nd.dot(nd.array([1, 2]), X) ; nd.dot(nd.array([1, 2]), nd.array([3, 4])) ; nd.dot(C, nd.ones((4, 5))) ; nd.dot(C, nd.arange(4)) ; nd.dot(C, nd.ones((4, 2, 3))).shape ; nd.dot(X, X, transpose_b=True) ; nd.dot(X, X, transpose_a=True)
nd.reshape(X, (3, 2)) ; X.reshape((3, 2)) ; X.reshape(3, 2) ; X.reshape(-1) ; X.reshape((-1,)) ; X.reshape((0, -1, 1)) ; X.reshape(shape=(6,)) ; X.reshape((-1, 2)) ; nd.reshape(nd.arange(17), (2, 2, 2, 2)) ; nd.reshape(nd.arange(17), (2, -1)) ; nd.arange(4).reshape(4)
nd.transpose(X) ; nd.transpose(C, (1, 0, 2)) ; C.transpose((2, 1, 0)) ; X.T ; nd.swapaxes(C, 0, 2) ; C.swapaxes(0, 1) ; nd.flatten(C) ; nd.flatten(nd.arange(3)) ; C.flatten()
nd.tile(nd.array([1, 2]), (2, 2)) ; nd.tile(X, 2) ; nd.tile(C, (1, 1, 3)).shape ; nd.tile(nd.array([[1], [2]]), (2,)) ; nd.concat(X, X, dim=0) ; nd.concat(X, X) ; nd.concat(X, X, X, dim=1)
X.take(nd.array([0, 0, 5])) ; nd.take(X, nd.array([1, -3])) ; nd.take(X, nd.array([2, 0]), axis=1) ; nd.arange(5).take(nd.array([3, 1]))
nd.elemwise_add(X, X) ; X.size ; X.shape ; X.ndim ; len(X) ; X.dtype == np.float32 ; [a.shape for a in nd.arange(3)] ; [a.shape for a in X] ; bool(nd.array([0])) ; bool(nd.array([2])) ; float(nd.array([2.5]).asscalar()) ; str(nd.array([2.5]).asscalar().dtype)
X[0] ; X[1, 2] ; X[-1, -1] ; X[:, 0] ; X[0:1] ; X[0, 1:3] ; X[0:1, 0:2] ; X[None] ; X[..., 1] ; X[::-1] ; X[0:9] ; X[2:2].shape ; X[[1, 0]] ; X[nd.array([0, 0])] ; X[nd.array([0, 1]), nd.array([2, 2])] ; C[1, 2, 3] ; C[1, :, 2] ; nd.arange(3)[1] ; nd.arange(3)[-1] ; X[np.int64(1)] ; X[:] ; X[:, None, 1]
str(X) ; str(nd.array([1.0])) ; str(I) ; str(C) ; repr(nd.array([[1, 2]]).T) ; "%s" % nd.array([0.1]) ; str(X.context) ; repr(mx.cpu(1)) ; mx.cpu() == mx.cpu(0) ; mx.cpu() == mx.cpu(1) ; str(nd.arange(2000)) ; str(nd.ones((3, 3), dtype="float64"))
D(nd.maximum, [1, 2, 3], [1, 3, 2]) ; D(lambda x: nd.maximum(x, 2), [1, 2, 3]) ; D(lambda x: nd.maximum(2, x), [1, 2, 3]) ; D(lambda x: nd.maximum(x, nd.zeros_like(x)), [-1, 0, 2]) ; D(lambda x: nd.maximum(x, 0), [-1, 0, 2])
D(nd.max, [1, 3, 3]) ; D(lambda x: nd.max(x, axis=1), [[1, 3, 3], [2, 2, 2]]) ; D(lambda x: nd.clip(x, 0, 1), [-1, 0, 0.5, 1, 2]) ; D(nd.abs, [-1, 0, 1]) ; D(nd.sign, [-1, 0, 1]) ; D(nd.floor, [-1.5, 0, 1.5]) ; D(nd.arccos, [-0.5, 0, 0.5]) ; D(nd.relu, [-1, 0, 1])
D(nd.norm, [3, 4]) ; D(nd.norm, [0, 0]) ; D(lambda x: nd.norm(x, ord=1, axis=1), [[3, -4], [0, 1]]) ; D(nd.nansum, [1, np.nan, 3]) ; D(nd.power, [1, 2, -3], [2, 3, 2]) ; D(lambda x: 2 ** x, [1, 2, 3]) ; D(lambda x: x ** 0.5, [4, 2]) ; D(nd.sqrt, [0, 4]) ; D(nd.square, [3])
D(lambda x: x.take(nd.array([0, 0, 5])), [[1, 2], [3, 4]]) ; D(nd.dot, [[1, 2], [3, 4]], [1, 1]) ; D(nd.dot, [[1, 2, 3], [3, 4, 5]], [[1, 1], [0, 2], [1, 0]]) ; D(lambda x: nd.tile(x, (2, 2)), [1, 2]) ; D(lambda x: nd.concat(x, x * 2, dim=0), [1, 2]) ; D(lambda x: x.T * nd.array([[1, 2]]), [[1, 2]])
D(lambda x: x.copy() * 3, [1, 2]) ; D(lambda x: x.detach() * x, [1, 2]) ; D(lambda x: x.reshape((2, 1)) * 3, [1, 2]) ; D(lambda x: x[0] * 3, [1, 2]) ; D(lambda x: x[0:1] * 3, [1, 2]) ; D(lambda x: x[nd.array([0, 0])], [1, 2]) ; D(lambda x: x.astype("float64") * 3, [1, 2]) ; D(lambda x: (x > 1) * x, [1, 2]) ; D(lambda x: x.copyto(mx.cpu()) * 3, [1, 2])
D(lambda x: nd.softmax(x) * X[0], [[1, 2, 3]]) ; D(lambda x: nd.log_softmax(x) * X[0], [[1, 2, 3]]) ; D(lambda x: nd.exp(x) / (1 + x) - x, [1, 2]) ; D(lambda x: nd.mean(x, axis=0, exclude=True), [[1, 2], [3, 4]]) ; D(lambda x: 2 / x, [1, 2])
D(lambda a, b: a * b + a - b / a, [[1, 2], [3, 4]], [[1], [2]])
nd.Convolution(IMAGES, nd.ones((3, 2, 2, 2)), nd.arange(3), kernel=(2, 2), num_filter=3) ; nd.Convolution(data=IMAGES, weight=nd.ones((1, 2, 3, 3)), bias=nd.zeros(1), kernel=(3, 3), num_filter=1, stride=(2, 2), pad=(1, 1)) ; nd.Convolution(IMAGES, nd.ones((2, 1, 3, 3)), no_bias=True, kernel=(3, 3), num_filter=2, num_group=2, dilate=(2, 2))
nd.Pooling(IMAGES, kernel=(2, 2), pool_type="max") ; nd.Pooling(IMAGES, kernel=(2, 2), stride=(2, 2), pool_type="avg") ; nd.Pooling(IMAGES, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg") ; nd.Pooling(IMAGES, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False) ; nd.Pooling(IMAGES, kernel=(3, 3), stride=(2, 2), pad=(1, 1))
nd.Pooling(IMAGES, kernel=(2, 2), stride=(2, 2), pooling_convention="full") ; nd.Pooling(IMAGES, kernel=(2, 2), stride=(2, 2), pooling_convention="full", pool_type="avg") ; nd.Pooling(IMAGES, kernel=(3, 3), stride=(3, 3), pooling_convention="full", pool_type="avg") ; nd.Pooling(IMAGES, global_pool=True, kernel=(1, 1)) ; nd.Pooling(IMAGES, global_pool=True, pool_type="avg", kernel=(2, 2))
D(lambda x: nd.Pooling(x, kernel=(2, 2), stride=(2, 2)), [[[[1, 1, 0, 2], [1, 1, 2, 2], [0, 0, 3, 1], [0, 0, 1, 3]]]]) ; D(lambda x: nd.Pooling(x, kernel=(2, 2), pool_type="avg"), [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
nn.MaxPool2D()(IMAGES) ; nn.MaxPool2D(3)(IMAGES) ; nn.MaxPool2D(2, 1)(IMAGES) ; nn.MaxPool2D(2, 2, ceil_mode=True)(IMAGES) ; nn.AvgPool2D(3, 2, 1)(IMAGES) ; nn.AvgPool2D(3, 2, 1, count_include_pad=False)(IMAGES) ; nn.Flatten()(C) ; nn.Activation("relu")(X - 3) ; nn.Dropout(0.5)(X)
dense(2, 3)(X) ; dense(2, 3, use_bias=False)(X) ; dense(2, 3, activation="relu")(-X) ; dense(2, 12)(C) ; dense(2, 4, flatten=False)(C)
gluon.loss.SoftmaxCrossEntropyLoss()(P, nd.array([2, 0])) ; gluon.loss.SoftmaxCrossEntropyLoss()(P, nd.array([[2], [0]])) ; gluon.loss.SoftmaxCrossEntropyLoss()(P, nd.array([2, 0], dtype="int32")) ; gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)(P, nd.array([[0, 0, 1], [0.5, 0.5, 0]])) ; gluon.loss.SoftmaxCrossEntropyLoss()(nd.ones((2, 4, 3)), nd.zeros((2, 4))) ; gluon.loss.SoftmaxCrossEntropyLoss()(P, nd.array([5, -2]))
gluon.loss.L2Loss()(P, nd.ones((2, 3))) ; gluon.loss.L2Loss()(nd.array([[1], [2]]), nd.array([3, 3])) ; gluon.loss.L2Loss(weight=2)(nd.array([1, 2]), nd.array([3, 3])) ; D(lambda x: gluon.loss.SoftmaxCrossEntropyLoss()(x, nd.array([2, 0])), [[1, 2, 3], [3, 1, 0]]) ; D(lambda x: gluon.loss.L2Loss()(x, nd.array([1, 1])), [[1], [2]])
gluon.loss.L1Loss()(P, nd.ones((2, 3))) ; D(lambda x: gluon.loss.L1Loss(weight=2)(x, nd.array([1, 1, 3])), [[1], [2], [0]]) ; gluon.loss.L1Loss(weight=0)(X, X + 1) ; gluon.loss.KLDivLoss()(nd.log_softmax(P), nd.softmax(X)) ; gluon.loss.KLDivLoss()(nd.log_softmax(P), nd.array([[0, 0, 1], [1, 0, 0]])) ; D(lambda x: gluon.loss.KLDivLoss(from_logits=False)(x, nd.softmax(X)), [[1, 2, 3], [3, 1, 0]]) ; [str(gluon.loss.L1Loss()), str(gluon.loss.L1Loss(weight=2)), str(gluon.loss.L2Loss()), str(gluon.loss.KLDivLoss())]
nd.LogisticRegressionOutput(X - 3, nd.ones((2, 3))) ; nd.LogisticRegressionOutput(data=nd.array([1, -2]), label=nd.array([0, 1])) ; D(lambda x: -nd.log(nd.LogisticRegressionOutput(x, nd.array([1, 0, 1]))), [-1, 0, 2]) ; D(lambda x: nd.LogisticRegressionOutput(x, nd.array([[1, 0], [0, 1]])) * 5, [[1, 2], [3, -4]]) ; D(lambda x: nd.LogisticRegressionOutput(x, nd.array([1, 0])), [[1], [3]]) ; D(lambda x, y: nd.LogisticRegressionOutput(x, y), [1, 3], [1, 0]) ; D(lambda x: nd.maximum(x, nd.zeros_like(x)) * nd.array([[1, 2], [3, 4]]), [[-1, 0], [0, 5]])
gluon.data.ArrayDataset(X, nd.arange(2))[1] ; type(gluon.data.ArrayDataset(X, nd.arange(2))[1][1]).__name__ ; gluon.data.ArrayDataset(X)[0] ; len(gluon.data.ArrayDataset(X, nd.arange(2)))
[list(b) for b in gluon.data.DataLoader(gluon.data.ArrayDataset(X, nd.arange(2)), 1)] ; list(gluon.data.DataLoader(gluon.data.ArrayDataset(C), 2)) ; [list(b) for b in gluon.data.DataLoader(gluon.data.ArrayDataset([1, 2, 3], [1.5, 2.5, 3.5]), 2)] ; list(gluon.data.DataLoader(np.arange(6.0).reshape(3, 2), 2))
""".strip()  # noqa: E501

PROGRAMS = """
x = V([1, 2]); g = x.grad
with autograd.record(): y = x * x
y.backward(nd.array([10, 1])); out = [y, x.grad]
---
y = X; y += 1; out = [X, y is X]
---
x = nd.zeros((3, 3)); x[1, 2] = 9; x[0:1, 1:3] = 5; x[2] = nd.array([1, 2, 3]); x[:, 0] += 1; out = x
---
z = nd.zeros(3); z[1] = nd.array([7]); z[2] += 2; x = nd.zeros((2, 2)); x[1, :] = nd.array([[5, 6]]); y = x.copyto(mx.cpu()); y[0] = 1; out = [z, x, y]
---
net = nn.Sequential(prefix="n_")
with net.name_scope(): net.add(nn.Dense(3, in_units=2)); net.add(nn.BatchNorm()); net.add(nn.Dense(2))
b = gluon.Block(); b.c = gluon.Block(); out = [str(net.collect_params()), str(net), str(gluon.Parameter("w", shape=(2, 2))), str(b), str(nn.Conv2D(2, 3)), str(nn.Conv2D(4, (3, 1), strides=2, padding=1, dilation=2, groups=2, use_bias=False, in_channels=2, activation="relu")), str(nn.MaxPool2D()), str(nn.AvgPool2D(3, 2, 1, ceil_mode=True)), str(nn.BatchNorm(scale=False)), str(nn.Dense(2, activation="tanh")), str(nn.Dropout(0.5)), str(nn.Flatten()), str(gluon.ParameterDict("p_")), nn.MaxPool2D(prefix="p_").name, nn.Dense(3, use_bias=False).bias, str(nn.Conv2D(2, 3, prefix="c_", in_channels=1).collect_params())]
---
x = nd.array([1, 2, 3, 4]); v = x.reshape((2, 2)); v[0, 0] = 9; w = x[1:3]; w[:] = 0; out = [x, v, w]
---
x = nd.array([[1, 2], [3, 4]]); v = x[:, 0]; v[:] = 9; t = x.T; t[:] = 8; f = nd.reshape(x, (4,)); f[:] = 7; x[0][1] = 5; s = x[::-1]; s[:] = 6; g = x.flatten(); g[:] = 5; out = x
---
x = nd.zeros((2, 3, 4)); x[0:1, 0:2][:] = 1; x[0, 1:3][:] += 1; x[1, :, :2][:] = 3; x[1:2] = 4; x[-1, ..., 3] += 100; x[..., -1, -2][:] = 9; x[1, ..., 2, 0] = 8; out = [x, x[1, ..., 2, 0], nd.arange(3)[..., 1]]
---
z = nd.zeros_like(X); z[0] = 1; z[1][0] = 2; out = [z, nd.zeros_like(X)]
---
y = nd.zeros((2, 3)); i = id(y); nd.elemwise_add(X, X, out=y); out = [y, id(y) == i]
---
a, b = V([1.0]), V([2.0])
with autograd.record(): u = a * b
u.backward()
with autograd.record(): u = a * 2
u.backward(); out = [a.grad, b.grad]
---
x = nd.array([1.0]); x.attach_grad("add")
for i in range(2):
    with autograd.record(): y = x * 3
    y.backward()
out = x.grad
---
x = V([1, 2]); h = nd.zeros(2)
for i in range(4):
    with autograd.record():
        h = h * x + x
        loss = (h * h).sum()
        loss.backward()
out = [x.grad, h]
---
x = V([1, 2])
with autograd.record(): y = x * 2
with autograd.record(): z = y * 3
z.backward(); out = x.grad
---
x = V([1, 2]); mean = nd.zeros(1); kept = []
for i in range(3):
    with autograd.record():
        h = x * (i + 1)
        mean = mean * 0.9 + nd.mean(h) * 0.1
        (h * h).backward()
    kept += [mean, x.grad.copy()]
out = kept
---
x = V([1, 2])
with autograd.record():
    y = x * 2
    y.backward()
    with autograd.pause(): z = x * x
    w = x * z
    w.backward()
out = [x.grad, z]
---
seen = []
def note(): seen.append([autograd.is_recording(), autograd.is_training()])
note()
with autograd.record():
    note()
    with autograd.pause(): note()
    with autograd.predict_mode(): note()
    with autograd.pause(train_mode=True): note()
with autograd.record(train_mode=False): note()
with autograd.train_mode(): note()
with autograd.predict_mode(): note()
out = seen
---
c = nd.ones(2); x = V([1, 2])
with autograd.record(): y = x * c
y.backward(); c[:] = 5; x[:] = x - x.grad; out = [c, x]
---
a = V([2.0, 1, 3])
with autograd.record():
    b = a * 2
    while (nd.norm(b) < 1000).asscalar(): b = b * 2
    c = b if (nd.sum(b) > 0).asscalar() else 100 * b
c.backward(nd.array([0.01, 1.0, 0.1])); out = a.grad
---
bn = nn.BatchNorm(); bn.initialize(); x = nd.arange(8).reshape((4, 2))
with autograd.record(): y = bn(x)
a = bn.running_mean.data().copy()
y.backward(); out = [a, y, bn.running_mean.data(), bn.running_var.data(), bn(x)]
---
bn = nn.BatchNorm(axis=1, center=True, scale=True); bn.initialize(); x = IMAGES.copy(); x.attach_grad()
for i in range(3):
    with autograd.record(): y = bn(x) * nd.arange(5)
    y.backward()
out = [y, x.grad, bn.gamma.grad(), bn.beta.grad(), bn.running_mean.data(), bn.running_var.data(), bn(x)]
---
bn = nn.BatchNorm(momentum=0.5, epsilon=0.1); bn.initialize(); x = nd.array([[1, 2]])
with autograd.record(): y = bn(x)
y.backward(); out = [y, bn.running_mean.data(), bn.running_var.data()]
---
net = nn.Conv2D(3, kernel_size=(3, 3), strides=2, padding=1, activation="relu", in_channels=2)
net.initialize(mx.init.Constant(0.5)); out = [net(IMAGES), net.weight.data().shape]
---
net = nn.Sequential()
with net.name_scope(): net.add(nn.Conv2D(channels=2, kernel_size=2)); net.add(nn.MaxPool2D(pool_size=2, strides=2)); net.add(nn.Flatten()); net.add(nn.Dense(3, activation="relu")); net.add(nn.Dense(2))
net.collect_params().initialize(mx.init.Constant(0.1)); y = net(IMAGES)
out = [y, [p.shape for p in net.collect_params().values()], len(net), [list(net.collect_params(".*bias").keys())[0][-10:]]]
---
net = nn.Sequential(prefix="net_")
with net.name_scope(): net.add(nn.Dense(4), nn.BatchNorm(), nn.Conv2D(2, 3), nn.Dense(2, use_bias=False))
out = [list(net.collect_params().keys()), net[0].name, net.prefix]
---
net = dense(1, 2); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]), nd.array([1, 2, 3]), 5, "sgd", {"learning_rate": 0.1})
---
net = dense(1, 2); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]), nd.array([1, 2, 3]), 6, "sgd", {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.1}, [0.1, 0.1, 0.05, 0.01])
---
net = dense(1, 2); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]), nd.array([1, 2, 3]), 5, "adam", {"learning_rate": 0.1, "wd": 0.1})
---
net = dense(1, 2, 1e-6); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]) * 1e-5, nd.array([0, 0, 0]), 5, "adam", {"learning_rate": 1e-6})
---
net = dense(1, 2); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]), nd.array([1, 2, 3]), 5, "adagrad", {"learning_rate": 0.1, "wd": 0.1})
---
net = dense(1, 2); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]), nd.array([1, 2, 3]), 5, "rmsprop", {"learning_rate": 0.1, "gamma1": 0.8, "wd": 0.1})
---
net = dense(1, 2); out = train(net, nd.array([[1, 2], [3, 4], [0, 1]]), nd.array([1, 2, 3]), 5, "adadelta", {"rho": 0.8, "wd": 0.1})
---
m = mx.metric.Accuracy(); seen = []
m.update(preds=P, labels=nd.array([2, 1])); seen.append(m.get())
m.update([nd.array([2])], [P[0:1]]); seen.append(m.get())
m.update(nd.array([1, 1]), nd.array([1, 0])); m.update(nd.array([2, 0], dtype="int32"), P); seen.append(m.get()); m.reset()
out = [seen, str(m.get())]
---
ds = gluon.data.ArrayDataset(nd.arange(10).reshape((5, 2)), nd.arange(5)); sizes = []
for last in ("keep", "discard", "rollover"):
    loader = gluon.data.DataLoader(ds, 2, last_batch=last)
    sizes.append([[len(loader), [len(b[1]) for b in loader]] for i in range(3)])
out = sizes
---
p = gluon.Parameter("a_weight", shape=(2, 2)); p.initialize(mx.init.Constant(3)); p.set_data(nd.ones((2, 2)) * 2); out = [p.data(), p.grad(), p.name, p.shape]
---
d = gluon.ParameterDict(prefix="block1_"); p = d.get("w_weight", shape=(2, 2)); d.get("b_bias", shape=(2,)); d.initialize(mx.init.Constant(2)); out = [list(d.keys()), d["block1_w_weight"] is p, d.get("w_weight") is p, p.data(), d["block1_b_bias"].data(), "block1_w_weight" in d]
---
a = nd.array(np.arange(8 * 6 * 3).reshape(8, 6, 3) * 7 % 256, dtype="uint8"); out = [mx.image.imresize(a, 12, 16), mx.image.imresize(a, 3, 4), mx.image.imresize(a, 6, 8)]
---
class Scaled(gluon.Block):
    def __init__(self, **kwargs):
        super(Scaled, self).__init__(**kwargs)
        with self.name_scope():
            self.scale = self.params.get("scale", init=mx.init.Constant(2), shape=(1,))
            self.dense = nn.Dense(2, in_units=3)
    def forward(self, x):
        with x.context: return self.dense(x) * self.scale.data()
net = Scaled(prefix="s_"); net.initialize(mx.init.Constant(0.5)); out = [net(X), list(net.collect_params().keys())]
---
net = nn.Sequential(); net.add(nn.Dense(4, in_units=4)); net.add(nn.Dense(4, in_units=4, params=net[-1].params)); net.initialize(mx.init.Constant(1)); net[0].weight.data()[:] = 2
out = [net(nd.ones((1, 4))), net[0].weight is net[1].weight]
---
w, b = V([[1.0], [2.0]]), V([0.5]); A = nd.array([[1, 2], [3, 4], [5, 6]]); y = nd.array([1, 2, 3])
def square_loss(yhat, y): return (yhat - y.reshape(yhat.shape)) ** 2 / 2
vs = [w.zeros_like(), b.zeros_like()]; sqrs = [w.zeros_like(), b.zeros_like()]
for t in range(1, 4):
    with autograd.record(): loss = square_loss(nd.dot(A, w) + b, y)
    loss.backward()
    for p, v, s in zip([w, b], vs, sqrs):
        g = p.grad / 3; v[:] = 0.9 * v + 0.1 * g; s[:] = 0.999 * s + 0.001 * nd.square(g); s[:] += nd.square(g)
        p[:] = p - 0.01 * (v / (1 - 0.9 ** t)) / (nd.sqrt(s) + 1e-8); p[:] -= 0.01 * g / nd.sqrt(s + 1e-7)
out = [w, b, loss]
""".strip()  # noqa: E501

ERRORS = """
I + nd.array([1, 2, 3]) ; I == nd.array([1, 2, 3]) ; X + np.ones((2, 3)) ; np.ones((2, 3)) + X ; X + [1, 2, 3] ; X + None ; X == None ; X + nd.array([1, 2]) ; nd.elemwise_add(X, nd.array([1, 2, 3])) ; X // 2 ; X @ X.T ; nd.arange(12).reshape((5, -1))
X[5] ; X[:, 9] ; X[0, 1, 2] ; X[0.5] ; X.reshape((3, 3)) ; X.asscalar() ; bool(X) ; nd.sum(X, axis=2) ; nd.dot(X, X) ; nd.transpose(X, (1,)) ; nd.concat(X, I, dim=0) ; nd.array("x")
(X * 2).backward() ; nd.ones(2).backward() ; gluon.Parameter("w", shape=(2,)).data() ; gluon.Parameter("w", shape=(0,)).initialize() ; nn.Dense(2)(X) ; gluon.Trainer([1], "sgd") ; gluon.Trainer([gluon.Parameter("w", shape=(1,))], "none")
gluon.data.ArrayDataset(X, nd.arange(3)) ; mx.metric.Accuracy().update(nd.array([1, 1, 1]), P) ; gluon.ParameterDict()["none"] ; nd.Convolution(IMAGES, nd.ones((3, 2, 2, 2)), kernel=(3, 3), num_filter=3, no_bias=True) ; nd.Convolution(IMAGES, nd.ones((3, 1, 2, 2)), kernel=(2, 2), num_filter=3, no_bias=True) ; nd.Pooling(IMAGES, kernel=(9, 9)) ; nd.load("no such file") ; nd.random_normal(scale=-1, shape=(2,)) ; gluon.Parameter("b", shape=(3,)).initialize(mx.init.Xavier())
""".strip()  # noqa: E501

ERROR_PROGRAMS = """
x = V([1, 2])
with autograd.record(): y = x * 2
y.backward(); y.backward()
---
x = V([1, 2])
with autograd.record():
    y = x * 2; y.backward(); z = y * 3; z.backward()
---
x = V([1, 2])
with autograd.record(): h = x * 2; a = h.sum(); b = (h * h).sum()
a.backward(); b.backward()
---
x = V([1, 2])
with autograd.record(): x[:] = 1
---
x = V([1, 2]); p = nd.zeros(1)
with autograd.record(): p += x.sum()
---
x = V([1, 2])
with autograd.record(): y = x * 2; y[:] = 0
---
x = V([1, 2])
with autograd.record(): y = x * 2; y += 1
---
x = V([1, 2]); p = nd.zeros(2)
with autograd.record(): p[0] = x[1] * 2
---
c = nd.ones(2); x = V([1, 2])
with autograd.record(): y = x * c; c[:] = 5
---
net = nn.Dense(2); net.initialize(); net.weight.data()
---
bn = nn.BatchNorm(in_channels=2); bn.initialize(); bn.running_mean.grad()
---
d = gluon.ParameterDict(); d.get("w", shape=(2,)); d.get("w", shape=(3,))
---
p = gluon.Parameter("w", shape=(2,)); p.initialize(); p.set_data(nd.ones((3,)))
---
p = gluon.Parameter("w", shape=(2,)); p.initialize(); gluon.Trainer([p], "sgd").step(1)
---
net = dense(1, 2); t = gluon.Trainer(net.collect_params(), "sgd")
with autograd.record(): y = net(nd.ones((1, 2)))
y.backward(); t.step(1); t.step(1)
---
gluon.Trainer(dense(1, 2).collect_params(), "sgd", {"foo": 1})
""".strip()


def programs() -> "list[tuple[str, bool]]":
    """Every program, and whether it must raise an error."""
    found = []
    for lines, raises in ((VALUES, False), (ERRORS, True)):
        found += [
            ("out = " + one.strip(), raises)
            for line in lines.split("\n")
            for one in line.split(" ; ")
        ]
    for text, raises in ((PROGRAMS, False), (ERROR_PROGRAMS, True)):
        found += [(one.strip(), raises) for one in text.split("---")]
    return found


def main() -> None:
    import mxnet as mx
    import numpy as np
    from mxnet import autograd, gluon, nd
    from mxnet.gluon import nn

    def plain(value: object) -> object:
        if isinstance(value, (nd.NDArray, np.ndarray, np.generic)):
            array = value.asnumpy() if isinstance(value, nd.NDArray) else np.asarray(value)
            numbers = [float(f"{x:.9g}") for x in array.ravel().astype("float64")]
            return {"shape": list(array.shape), "dtype": str(array.dtype), "values": numbers}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        return value

    records = []
    for code, raises in programs():
        names = {"mx": mx, "nd": nd, "autograd": autograd, "gluon": gluon, "nn": nn, "np": np}
        exec(PRELUDE, names)
        try:
            exec(code, names)
            nd.waitall()
            result = {"out": plain(names.get("out"))}
            str(names.get("out"))
        except Exception as error:
            result = {"error": type(error).__name__}
        if ("error" in result) != raises:
            print("unexpected:", code, result)
        records.append({"code": code, **result})
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    text = f'{{"prelude": {json.dumps(PRELUDE)},\n"records": [\n{lines}\n]}}\n'
    (FOLDER / "mx_values.json").write_text(text)

    nd.save(
        str(FOLDER / "mx_list.params"),
        [nd.arange(6).reshape((2, 3)), nd.array([1, 2], dtype="int64")],
    )
    kinds = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")
    nd.save(str(FOLDER / "mx_dict.params"), {k: nd.array([[1, 2, 3]], dtype=k) for k in kinds})
    net = nn.Sequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Conv2D(2, 3, activation="relu"), nn.BatchNorm(), nn.Dense(3))
    net.initialize(mx.init.Xavier())
    x = nd.arange(50).reshape((1, 2, 5, 5)) / 25
    y = net(x)
    net.save_parameters(str(FOLDER / "mx_net.params"))
    net.collect_params().save(str(FOLDER / "mx_net_names.params"))
    np.savez(FOLDER / "mx_net.npz", x=x.asnumpy(), y=y.asnumpy())

    image = nd.array(np.random.RandomState(0).randint(0, 256, (8, 6, 3)), dtype="uint8")
    sizes = {f"{w}x{h}": mx.image.imresize(image, w, h).asnumpy() for w, h in ((5, 9), (42, 56))}
    np.savez_compressed(FOLDER / "mx_image.npz", image=image.asnumpy(), **sizes)


if __name__ == "__main__":
    main()
