# Pooling, forward and by the input. A job is one row of one channel.

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdint cimport int32_t

from cyconv.kernels.planes cimport Planes, has_shape, planes
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


cdef inline Py_ssize_t first_col(const Axis* cols, Py_ssize_t kw) noexcept nogil:
    # no output column before this one finds kernel column kw in the input
    cdef Py_ssize_t missing = cols.before - kw * cols.dilation
    return (missing + cols.stride - 1) // cols.stride if missing > 0 else 0


cdef inline Py_ssize_t end_col(const Axis* cols, Py_ssize_t kw) noexcept nogil:
    # no output column from this one on finds kernel column kw in the input
    cdef Py_ssize_t room = cols.size - 1 + cols.before - kw * cols.dilation
    return min(cols.out, room // cols.stride + 1) if room >= 0 else 0


cdef inline bint are_halves(const Axis* rows, const Axis* cols) noexcept nogil:
    # windows of 2x2 side by side, the most common ones, no column of them outside of the image
    return rows.kernel == rows.stride == cols.kernel == cols.stride == 2 \
        and rows.dilation == cols.dilation == 1 and not rows.transposed \
        and is_inner(cols, 0) and is_inner(cols, cols.out - 1)


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


cdef void run_max_pool(const void* task, int threads) noexcept nogil:
    cdef const MaxPool* p = <const MaxPool*>task
    cdef Py_ssize_t jobs = p.out.c * p.out.h if p.out.n * p.out.w else 0
    cdef Py_ssize_t job
    for job in prange(jobs, num_threads=threads, schedule="static"):
        max_row(&p.x, &p.out, &p.rows, &p.cols, job // p.out.h, job % p.out.h, p.argmax)


def max_pool(
    object x, object out, object argmax, tuple kernel, tuple stride, tuple padding, tuple dilation,
    int threads, bint later=False,
):
    """Fill out (N, C, OH, OW) and argmax (int32 tap numbers) from x (N, C, H, W), batch-last.

    ``later`` does nothing now but gives a task for a program.
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


cdef inline void close_gate(
    const Planes* gate, Py_ssize_t c, Py_ssize_t pixel, real* dst
) noexcept nogil:
    # 0 in the images of a pixel where the gate is not above 0, if there is one
    cdef const real* open_
    cdef Py_ssize_t n
    if gate.data != NULL:
        open_ = gate.data + c * gate.stride + pixel * gate.n
        for n in range(gate.n):
            dst[n] = 0 if open_[n] <= 0 else dst[n]


cdef Planes gate_of(object rectified, Planes dx) except *:
    cdef Planes gate = dx
    gate.data = NULL
    if rectified is not None:
        gate = planes(rectified, False)
        has_shape(gate, dx.n, dx.c, dx.h, dx.w)
    return gate


cdef void max_grad_row(
    const Planes* dout, const Planes* gate, const Planes* dx, const Axis* rows, const Axis* cols,
    Py_ssize_t c, Py_ssize_t ih, const int32_t* argmax,
) noexcept nogil:
    # each input row gathers from the windows that it lies under
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
                where = argmax + c * dout.h * dout.w * images + position
                tap = <int32_t>(kh * cols.kernel + kw)
                for n in range(images):
                    dst[n] = dst[n] + (src[n] if where[n] == tap else 0)
        close_gate(gate, c, ih * dx.w + iw, dst)


def max_pool_backward(
    object dout, object argmax, object rectified, object dx, tuple kernel, tuple stride,
    tuple padding, tuple dilation, int threads,
):
    """Fill dx (N, C, H, W) from dout (N, C, OH, OW) and the forward pass's argmax, batch-last.

    Where rectified (N, C, H, W), if it is not None, is not above 0, dx is 0.
    """
    check_window(kernel, stride, padding, dilation, threads)
    cdef Planes d = planes(dout, False)
    cdef Planes a = planes(dx, True)
    cdef Planes gate = gate_of(rectified, a)
    has_shape(d, a.n, a.c, d.h, d.w)
    cdef int32_t* where = winners(argmax, d, False)
    cdef Axis rows = axis(d.h, a.h, kernel[0], stride[0], padding[0], dilation[0], True)
    cdef Axis cols = axis(d.w, a.w, kernel[1], stride[1], padding[1], dilation[1], True)
    cdef Py_ssize_t job
    with nogil:
        for job in prange(a.c * a.h if a.n * a.w else 0, num_threads=threads, schedule="static"):
            max_grad_row(&d, &gate, &a, &rows, &cols, job // a.h, job % a.h, where)


# ------------------------------------------------------------------ average


cdef Py_ssize_t covered(const Axis* a, Py_ssize_t o, Py_ssize_t after, bint padded) noexcept nogil:
    # how many positions of the window at output position o count: those inside the input, or
    # inside the padded input
    cdef Py_ssize_t size = a.out if a.transposed else a.size
    cdef Py_ssize_t first = o * a.stride - a.before
    cdef Py_ssize_t last = min(first + a.kernel, size + after)
    if not padded:
        first, last = max(first, <Py_ssize_t>0), min(last, size)
    return max(last - first, <Py_ssize_t>1)


cdef struct Average:
    Task task
    Planes src, gate, dst
    Axis rows, cols
    Py_ssize_t bottom, right
    bint padded


cdef inline inlined average_windows(
    const int kernel, const int stride, const real* src, Py_ssize_t width, Py_ssize_t count, real* dst
) noexcept nogil:
    # of windows beside each other that lie in the image
    cdef Py_ssize_t col, kh, kw
    cdef real total
    for col in range(count):
        total = 0
        for kh in range(kernel):
            for kw in range(kernel):
                total = total + src[kh * width + col * stride + kw]
        dst[col] = total * (<real>1 / <real>(kernel * kernel))


cdef void avg_row_of_one(
    const Average* a, Py_ssize_t c, Py_ssize_t row, real* dst
) noexcept nogil:
    # as avg_row forward, for a single image: here the columns follow each other in the innermost loop
    cdef const real* plane = a.src.data + c * a.src.stride
    cdef const real* src
    cdef Py_ssize_t col, kh, kw, stride = a.cols.stride
    cdef Py_ssize_t height = covered(&a.rows, row, a.bottom, a.padded)
    if are_halves(&a.rows, &a.cols) and is_inner(&a.rows, row):
        src = plane + source(&a.rows, row, 0) * a.src.w - a.cols.before
        average_windows(2, 2, src, a.src.w, a.dst.w, dst)
        return
    for col in range(a.dst.w):
        dst[col] = 0
    for kh in range(first_k(&a.rows, row), end_k(&a.rows, row)):
        for kw in range(a.cols.kernel):
            src = plane + source(&a.rows, row, kh) * a.src.w + kw - a.cols.before
            for col in range(first_col(&a.cols, kw), end_col(&a.cols, kw)):
                dst[col] = dst[col] + src[col * stride]
    for col in range(a.dst.w):
        dst[col] = dst[col] * (<real>1 / <real>(height * covered(&a.cols, col, a.right, a.padded)))


cdef void avg_row(const Average* a, Py_ssize_t c, Py_ssize_t row) noexcept nogil:
    # forward, dst is the output and each position is divided by its window's size; transposed, dst
    # is dx and each gradient that arrives is divided by the size of the window it comes from
    cdef Py_ssize_t col, kh, kw, i, j, n, images = a.dst.n
    cdef const real* plane = a.src.data + c * a.src.stride
    cdef const real* src
    cdef real* dst
    cdef real scale = 1
    if images == 1 and not a.rows.transposed:
        avg_row_of_one(a, c, row, a.dst.data + c * a.dst.stride + row * a.dst.w)
        return
    for col in range(a.dst.w):
        dst = a.dst.data + c * a.dst.stride + (row * a.dst.w + col) * images
        for n in range(images):
            dst[n] = 0
        if not a.rows.transposed:
            scale = <real>1 / <real>(covered(&a.rows, row, a.bottom, a.padded)
                                     * covered(&a.cols, col, a.right, a.padded))
        for kh in range(first_k(&a.rows, row), end_k(&a.rows, row)):
            i = source(&a.rows, row, kh)
            if i < 0:
                continue
            for kw in range(first_k(&a.cols, col), end_k(&a.cols, col)):
                j = source(&a.cols, col, kw)
                if j < 0:
                    continue
                src = plane + (i * a.src.w + j) * images
                if a.rows.transposed:
                    scale = <real>1 / <real>(covered(&a.rows, i, a.bottom, a.padded)
                                             * covered(&a.cols, j, a.right, a.padded))
                    for n in range(images):
                        dst[n] = dst[n] + src[n] * scale
                else:
                    for n in range(images):
                        dst[n] = dst[n] + src[n]
        if not a.rows.transposed:
            for n in range(images):
                dst[n] = dst[n] * scale
        close_gate(&a.gate, c, row * a.dst.w + col, dst)


cdef void run_avg_pool(const void* task, int threads) noexcept nogil:
    cdef const Average* a = <const Average*>task
    cdef Py_ssize_t jobs = a.dst.c * a.dst.h if a.dst.n * a.dst.w else 0
    cdef Py_ssize_t job
    for job in prange(jobs, num_threads=threads, schedule="static"):
        avg_row(a, job // a.dst.h, job % a.dst.h)


def avg_pool(
    object src, object rectified, object dst, tuple kernel, tuple stride, tuple padding,
    bint count_include_pad, bint transposed, int threads, bint later=False,
):
    """Fill dst from src, batch-last (N, C, H, W): the output from x or, ``transposed``, dx from dout.

    Where rectified, of dx's shape, is not above 0, dx is 0; it is None for the output. padding is (top,
    bottom, left, right). ``later`` does nothing now but gives a task for a program.
    """
    cdef Average a
    check_window(kernel, stride, padding, (1, 1), threads)
    if len(padding) != 4:
        raise ValueError("kernel: padding is (top, bottom, left, right)")
    a.src = planes(src, False)
    a.dst = planes(dst, True)
    if rectified is not None and not transposed:
        raise ValueError("kernel: only gradients are gated")
    a.gate = gate_of(rectified, a.dst)
    has_shape(a.src, a.dst.n, a.dst.c, a.src.h, a.src.w)
    a.rows = axis(a.src.h, a.dst.h, kernel[0], stride[0], padding[0], 1, transposed)
    a.cols = axis(a.src.w, a.dst.w, kernel[1], stride[1], padding[2], 1, transposed)
    a.bottom, a.right, a.padded = padding[1], padding[3], count_include_pad
    a.task.run, a.task.threads = run_avg_pool, threads
    return finish(&a.task, sizeof(a), later)
