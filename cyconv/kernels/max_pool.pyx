# Max pooling, forward and by the input. A job is some rows of all channels.

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport int32_t

from cyconv.kernels.planes cimport Planes, has_shape, planes
from cyconv.kernels.pool cimport are_halves, close_gate, end_col, first_col, gate_of
from cyconv.kernels.share cimport run_rows
from cyconv.kernels.simd cimport inlined, real
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.window cimport Axis, axis, check_window, end_k, first_k, is_inner, source


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


cdef void max_row_of_one(
    const Planes* x, const Axis* rows, const Axis* cols, Py_ssize_t c, Py_ssize_t oh, real* best,
    int32_t* where,
) noexcept nogil:
    # as max_row, for a single image: here the columns follow each other in the innermost loop
    cdef const real* plane = x.data + c * x.stride
    cdef const real* src
    cdef Py_ssize_t first = first_k(rows, oh), end = end_k(rows, oh), ow, kh, kw
    cdef int32_t tap
    cdef real value
    if are_halves(rows, cols) and is_inner(rows, oh):
        max_windows(2, 2, plane + source(rows, oh, 0) * x.w - cols.before, x.w, cols.out, best, where)
        return
    for ow in range(cols.out):
        kw = first_k(cols, ow)
        if first < end and kw < end_k(cols, ow):
            best[ow] = plane[source(rows, oh, first) * x.w + source(cols, ow, kw)]
            where[ow] = <int32_t>(first * cols.kernel + kw)
        else:
            best[ow] = -<real>INFINITY
            where[ow] = 0
    for kh in range(first, end):
        for kw in range(cols.kernel):
            src = plane + source(rows, oh, kh) * x.w + kw * cols.dilation - cols.before
            tap = <int32_t>(kh * cols.kernel + kw)
            for ow in range(first_col(cols, kw), end_col(cols, kw)):
                value = src[ow * cols.stride]
                where[ow] = tap if wins(value, best[ow]) else where[ow]
                best[ow] = value if wins(value, best[ow]) else best[ow]


cdef void max_row(
    const Planes* x, const Planes* out, const Axis* rows, const Axis* cols,
    Py_ssize_t c, Py_ssize_t oh, int32_t* argmax,
) noexcept nogil:
    cdef Py_ssize_t ow, kh, kw, ih, iw, n, images = x.n
    cdef Py_ssize_t position
    cdef const real* src
    cdef real* best
    cdef int32_t* where
    cdef int32_t tap
    cdef bint first
    if images == 1:
        position = oh * out.w
        max_row_of_one(x, rows, cols, c, oh, out.data + c * out.stride + position,
                       argmax + c * out.h * out.w + position)
        return
    for ow in range(out.w):
        position = (oh * out.w + ow) * images
        best = out.data + c * out.stride + position
        where = argmax + c * out.h * out.w * images + position
        first = True
        for kh in range(first_k(rows, oh), end_k(rows, oh)):
            ih = source(rows, oh, kh)
            if ih < 0:
                continue
            for kw in range(first_k(cols, ow), end_k(cols, ow)):
                iw = source(cols, ow, kw)
                if iw < 0:
                    continue
                src = x.data + c * x.stride + (ih * x.w + iw) * images
                tap = <int32_t>(kh * cols.kernel + kw)
                if first:
                    first = False
                    for n in range(images):
                        best[n] = src[n]
                        where[n] = tap
                else:
                    for n in range(images):
                        where[n] = tap if wins(src[n], best[n]) else where[n]
                        best[n] = src[n] if wins(src[n], best[n]) else best[n]
        if first:  # the whole window, dilated, lies in padding
            for n in range(images):
                best[n] = -<real>INFINITY
                where[n] = 0


cdef struct MaxPool:
    Task task
    Planes x, out
    Axis rows, cols
    int32_t* argmax


cdef void max_rows(const void* task, Py_ssize_t c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const MaxPool* p = <const MaxPool*>task
    cdef Py_ssize_t row
    for row in range(begin, end):
        max_row(&p.x, &p.out, &p.rows, &p.cols, c, row, p.argmax)


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


cdef void max_grad_row(const MaxGradient* g, Py_ssize_t c, Py_ssize_t ih) noexcept nogil:
    # each input row gathers from the windows that it lies under
    cdef const Planes* dout = &g.dout
    cdef const Planes* dx = &g.dx
    cdef const Axis* rows = &g.rows
    cdef const Axis* cols = &g.cols
    cdef Py_ssize_t iw, kh, kw, oh, ow, n, images = dx.n
    cdef Py_ssize_t position
    cdef const real* src
    cdef const int32_t* where
    cdef real* dst
    cdef int32_t tap
    for iw in range(dx.w):
        dst = dx.data + c * dx.stride + (ih * dx.w + iw) * images
        for n in range(images):
            dst[n] = 0
        for kh in range(first_k(rows, ih), end_k(rows, ih)):
            oh = source(rows, ih, kh)
            if oh < 0:
                continue
            for kw in range(first_k(cols, iw), end_k(cols, iw)):
                ow = source(cols, iw, kw)
                if ow < 0:
                    continue
                position = (oh * dout.w + ow) * images
                src = dout.data + c * dout.stride + position
                where = g.argmax + c * dout.h * dout.w * images + position
                tap = <int32_t>(kh * cols.kernel + kw)
                for n in range(images):
                    dst[n] = dst[n] + (src[n] if where[n] == tap else 0)
        close_gate(&g.gate, c, ih * dx.w + iw, dst)


cdef void max_grad_rows(const void* task, Py_ssize_t c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(begin, end):
        max_grad_row(<const MaxGradient*>task, c, row)


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
