# Average pooling, forward and by the input. A job is some rows of all channels.

from cyconv.kernels.planes cimport Planes, has_shape, planes
from cyconv.kernels.pool cimport are_halves, close_gate, end_col, first_col, gate_of
from cyconv.kernels.share cimport run_rows
from cyconv.kernels.simd cimport inlined, real
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.window cimport Axis, axis, check_window, end_k, first_k, is_inner, source


cdef enum:
    LARGE = 256   # positions of a window, from which on one sum over all of it would lose digits
    IMAGES = 64   # that are summed up together in such windows


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


cdef void average_lines(
    const Average* a, const real* plane, Py_ssize_t row, Py_ssize_t col, Py_ssize_t images, real* dst
) noexcept nogil:
    # of a large window, row by row of it, for some images
    cdef Py_ssize_t kh, kw, n
    cdef Py_ssize_t height = covered(&a.rows, row, a.bottom, a.padded)
    cdef real scale = <real>1 / <real>(height * covered(&a.cols, col, a.right, a.padded))
    cdef const real* src
    cdef real line[IMAGES]
    for n in range(images):
        dst[n] = 0
    for kh in range(first_k(&a.rows, row), end_k(&a.rows, row)):
        for n in range(images):
            line[n] = 0
        for kw in range(first_k(&a.cols, col), end_k(&a.cols, col)):
            src = plane + (source(&a.rows, row, kh) * a.src.w + source(&a.cols, col, kw)) * a.src.n
            for n in range(images):
                line[n] = line[n] + src[n]
        for n in range(images):
            dst[n] = dst[n] + line[n]
    for n in range(images):
        dst[n] = dst[n] * scale


cdef void avg_row_of_large(
    const Average* a, Py_ssize_t c, Py_ssize_t row, real* dst
) noexcept nogil:
    # as avg_row forward, for large windows
    cdef const real* plane = a.src.data + c * a.src.stride
    cdef Py_ssize_t col, n, images = a.dst.n
    for col in range(a.dst.w):
        n = 0
        while n < images:
            average_lines(
                a, plane + n, row, col, min(images - n, <Py_ssize_t>IMAGES), dst + col * images + n)
            n = n + IMAGES


cdef void avg_row(const Average* a, Py_ssize_t c, Py_ssize_t row) noexcept nogil:
    # forward, dst is the output and each position is divided by its window's size; transposed, dst
    # is dx and each gradient that arrives is divided by the size of the window it comes from
    cdef Py_ssize_t col, kh, kw, i, j, n, images = a.dst.n
    cdef const real* plane = a.src.data + c * a.src.stride
    cdef const real* src
    cdef real* dst
    cdef real scale = 1
    dst = a.dst.data + c * a.dst.stride + row * a.dst.w * images
    if not a.rows.transposed and a.rows.kernel * a.cols.kernel > LARGE:
        avg_row_of_large(a, c, row, dst)
        return
    if images == 1 and not a.rows.transposed:
        avg_row_of_one(a, c, row, dst)
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


cdef void avg_rows(const void* task, Py_ssize_t c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(begin, end):
        avg_row(<const Average*>task, c, row)


cdef void run_avg_pool(const void* task, int threads) noexcept nogil:
    run_rows(avg_rows, task, &(<const Average*>task).dst, threads)


def avg_pool(
    object src, object rectified, object dst, tuple kernel, tuple stride, tuple padding,
    bint count_include_pad, bint transposed, int threads, bint later=False,
):
    """Fill dst from src, batch-last (N, C, H, W): the output from x or, ``transposed``, dx from dout.

    Where rectified, of dx's shape, is not above 0, dx is 0; it is None for the output. padding is (top,
    bottom, left, right).
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
