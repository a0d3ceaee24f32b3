# Max pooling, forward and by the input. A job is some rows of all channels.

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport int32_t

from cyconv.kernels.planes cimport Planes, has_shape, planes
from cyconv.kernels.pool cimport VECTORS, are_halves, end_col, first_col, gate_of, numbers_at, put, visit
from cyconv.kernels.share cimport run_rows
from cyconv.kernels.simd cimport (
    VLEN, broadcast, every, inlined, real, store_ints, take_larger, vint, vreal, where_equal,
)
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.window cimport (
    Axis, Sources, axis, check_window, end_k, first_k, is_inner, k_at, place_at, source,
)


cdef int32_t* winners(object array, Planes like, bint writable) except? NULL:
    # the index array of max pooling: contiguous batch-last int32 of the same shape
    cdef Py_buffer view
    cdef Py_ssize_t planesize = like.h * like.w * like.n
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
    cdef int32_t* data = <int32_t*>view.buf
    cdef bint fits = (
        view.ndim == 4 and view.itemsize == 4 and <size_t>view.buf % 4 == 0
        and view.shape[0] == like.n and view.shape[1] == like.c
        and view.shape[2] == like.h and view.shape[3] == like.w
        and (like.n * like.c * planesize == 0 or (
            (like.n == 1 or view.strides[0] == 4)
            and (like.w == 1 or view.strides[3] == 4 * like.n)
            and (like.h == 1 or view.strides[2] == 4 * like.n * like.w)
            and (like.c == 1 or view.strides[1] == 4 * planesize)))
    )
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError("kernel: argmax is not a contiguous batch-last int32 array")
    return data


cdef inline bint wins(real value, real best) noexcept nogil:
    return (value > best) | (value != value)  # NaN wins: it is not equal to itself


cdef inline inlined max_windows(
    const int kernel, const int stride, const real* src, Py_ssize_t width, Py_ssize_t count,
    real* best, int32_t* where,
) noexcept nogil:
    # of windows beside each other that lie in the image
    cdef Py_ssize_t col, kh, kw
    cdef real most, value
    cdef int32_t tap
    for col in range(count):
        most = src[col * stride]
        tap = 0
        for kh in range(kernel):
            for kw in range(kernel):
                value = src[kh * width + col * stride + kw]
                tap = <int32_t>(kh * kernel + kw) if wins(value, most) else tap
                most = value if wins(value, most) else most
        best[col] = most
        where[col] = tap


cdef struct MaxPool:
    Task task
    Planes x, gate, out
    Axis rows, cols
    int32_t* argmax


cdef void max_row_of_one(const MaxPool* p, Py_ssize_t c, Py_ssize_t oh) noexcept nogil:
    # of a single image: here the columns follow each other in the innermost loop
    cdef const Axis* rows = &p.rows
    cdef const Axis* cols = &p.cols
    cdef const real* plane = p.x.data + c * p.x.stride
    cdef const real* src
    cdef real* best = p.out.data + c * p.out.stride + oh * p.out.w
    cdef int32_t* where = p.argmax + (c * p.out.h + oh) * p.out.w
    cdef Py_ssize_t first = first_k(rows, oh), end = end_k(rows, oh), ow, kh, kw
    cdef int32_t tap
    cdef real value
    if are_halves(rows, cols) and is_inner(rows, oh):
        src = plane + source(rows, oh, 0) * p.x.w - cols.before
        max_windows(2, 2, src, p.x.w, cols.out, best, where)
        return
    for ow in range(cols.out):
        kw = first_k(cols, ow)
        if first < end and kw < end_k(cols, ow):
            best[ow] = plane[source(rows, oh, first) * p.x.w + source(cols, ow, kw)]
            where[ow] = <int32_t>(first * cols.kernel + kw)
        else:
            best[ow] = -<real>INFINITY
            where[ow] = 0
    for kh in range(first, end):
        for kw in range(cols.kernel):
            src = plane + source(rows, oh, kh) * p.x.w + kw * cols.dilation - cols.before
            tap = <int32_t>(kh * cols.kernel + kw)
            for ow in range(first_col(cols, kw), end_col(cols, kw)):
                value = src[ow * cols.stride]
                where[ow] = tap if wins(value, best[ow]) else where[ow]
                best[ow] = value if wins(value, best[ow]) else best[ow]


cdef inline inlined largest(
    const int vectors, const bint whole, const MaxPool* p, const Sources* rows, const Sources* cols,
    Py_ssize_t c, Py_ssize_t pixel, Py_ssize_t n,
) noexcept nogil:
    # of `vectors` of images from image n on, in registers; or, unless they are whole, of the last images.
    # The first of equal numbers wins.
    cdef vreal best[VECTORS]
    cdef vint where[VECTORS]
    cdef Py_ssize_t i, j, v, images = p.x.n - n
    cdef const real* plane = p.x.data + c * p.x.stride + n
    cdef const real* src = plane + (rows.place * p.x.w + cols.place) * p.x.n
    cdef int32_t tap = <int32_t>(rows.k * p.cols.kernel + cols.k)
    for v in range(vectors):
        if rows.count > 0 and cols.count > 0:
            best[v], where[v] = numbers_at(src + v * VLEN, whole, images), every(tap)
        else:  # the whole window, dilated, lies in padding
            best[v], where[v] = broadcast(-<real>INFINITY), every(0)
    for i in range(rows.count):
        for j in range(cols.count):
            src = plane + (place_at(rows, i) * p.x.w + place_at(cols, j)) * p.x.n
            tap = <int32_t>(k_at(rows, i) * p.cols.kernel + k_at(cols, j))
            for v in range(vectors):
                take_larger(&best[v], &where[v], numbers_at(src + v * VLEN, whole, images), tap)
    for v in range(vectors):
        put(&p.out, &p.gate, c, pixel * p.x.n + n + v * VLEN, best[v], whole, images)
        store_ints(p.argmax + (c * p.out.h * p.out.w + pixel) * p.x.n + n + v * VLEN, where[v],
                   VLEN if whole else images)


cdef void max_of(
    const void* task, const Sources* rows, const Sources* cols, Py_ssize_t c, Py_ssize_t pixel,
    Py_ssize_t n, int vectors,
) noexcept nogil:
    cdef const MaxPool* p = <const MaxPool*>task
    if vectors == VECTORS: largest(VECTORS, True, p, rows, cols, c, pixel, n)
    elif vectors == 1: largest(1, True, p, rows, cols, c, pixel, n)
    else: largest(1, False, p, rows, cols, c, pixel, n)


cdef void max_rows(const void* task, Py_ssize_t c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const MaxPool* p = <const MaxPool*>task
    cdef Py_ssize_t row
    if p.x.n > 1:
        visit(max_of, task, &p.rows, &p.cols, p.x.n, c, begin, end)
        return
    for row in range(begin, end):
        max_row_of_one(p, c, row)


cdef void run_max_pool(const void* task, int threads) noexcept nogil:
    run_rows(max_rows, task, &(<const MaxPool*>task).out, threads)


def max_pool(
    object x, object out, object argmax, tuple kernel, tuple stride, tuple padding, tuple dilation,
    int threads, bint later=False,
):
    """Fill out (N, C, OH, OW) and argmax (int32 tap numbers) from x (N, C, H, W), batch-last.

    """
    cdef MaxPool p
    check_window(kernel, stride, padding, dilation, threads)
    p.x = planes(x, False)
    p.out = planes(out, True)
    p.gate = gate_of(None, p.out)
    has_shape(p.out, p.x.n, p.x.c, p.out.h, p.out.w)
    p.argmax = winners(argmax, p.out, True)
    p.rows = axis(p.x.h, p.out.h, kernel[0], stride[0], padding[0], dilation[0], False)
    p.cols = axis(p.x.w, p.out.w, kernel[1], stride[1], padding[1], dilation[1], False)
    p.task.run, p.task.threads = run_max_pool, threads
    return finish(&p.task, sizeof(p), later)


cdef struct MaxGradient:
    Task task
    Planes dout, gate, dx
    Axis rows, cols
    const int32_t* argmax


cdef inline inlined max_gradient(
    const int vectors, const bint whole, const MaxGradient* g, const Sources* rows, const Sources* cols,
    Py_ssize_t c, Py_ssize_t pixel, Py_ssize_t n,
) noexcept nogil:
    # of `vectors` of images from image n on, in registers; or, unless they are whole, of the last images.
    # Each position of the input gathers from the windows that it lies under.
    cdef vreal sums[VECTORS]
    cdef Py_ssize_t i, j, v, at, images = g.dx.n - n
    cdef const real* src = g.dout.data + c * g.dout.stride + n
    cdef const int32_t* where = g.argmax + c * g.dout.h * g.dout.w * g.dout.n + n
    cdef int32_t tap
    for v in range(vectors):
        sums[v] = broadcast(0)
    for i in range(rows.count):
        for j in range(cols.count):
            at = (place_at(rows, i) * g.dout.w + place_at(cols, j)) * g.dout.n
            tap = <int32_t>(k_at(rows, i) * g.cols.kernel + k_at(cols, j))
            for v in range(vectors):
                sums[v] = sums[v] + where_equal(
                    numbers_at(src + at + v * VLEN, whole, images), where + at + v * VLEN, tap,
                    VLEN if whole else images)
    for v in range(vectors):
        put(&g.dx, &g.gate, c, pixel * g.dx.n + n + v * VLEN, sums[v], whole, images)


cdef void max_gradient_of(
    const void* task, const Sources* rows, const Sources* cols, Py_ssize_t c, Py_ssize_t pixel,
    Py_ssize_t n, int vectors,
) noexcept nogil:
    cdef const MaxGradient* g = <const MaxGradient*>task
    if vectors == VECTORS: max_gradient(VECTORS, True, g, rows, cols, c, pixel, n)
    elif vectors == 1: max_gradient(1, True, g, rows, cols, c, pixel, n)
    else: max_gradient(1, False, g, rows, cols, c, pixel, n)


cdef void max_grad_rows(const void* task, Py_ssize_t c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const MaxGradient* g = <const MaxGradient*>task
    visit(max_gradient_of, task, &g.rows, &g.cols, g.dx.n, c, begin, end)


cdef void run_max_grad(const void* task, int threads) noexcept nogil:
    run_rows(max_grad_rows, task, &(<const MaxGradient*>task).dx, threads)


def max_pool_backward(
    object dout, object argmax, object rectified, object dx, tuple kernel, tuple stride,
    tuple padding, tuple dilation, int threads, bint later=False,
):
    """Fill dx (N, C, H, W) from dout (N, C, OH, OW) and the forward pass's argmax, batch-last.

    Where rectified (N, C, H, W), if it is not None, is not above 0, dx is 0.
    """
    check_window(kernel, stride, padding, dilation, threads)
    cdef MaxGradient g
    g.dout = planes(dout, False)
    g.dx = planes(dx, True)
    g.gate = gate_of(rectified, g.dx)
    has_shape(g.dout, g.dx.n, g.dx.c, g.dout.h, g.dout.w)
    g.argmax = winners(argmax, g.dout, False)
    g.rows = axis(g.dout.h, g.dx.h, kernel[0], stride[0], padding[0], dilation[0], True)
    g.cols = axis(g.dout.w, g.dx.w, kernel[1], stride[1], padding[1], dilation[1], True)
    g.task.run, g.task.threads = run_max_grad, threads
    return finish(&g.task, sizeof(g), later)
