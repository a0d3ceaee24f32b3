# Average pooling, forward and by the input. A job is some rows of all channels.

from cyconv.kernels.planes cimport Planes, has_shape, planes
from cyconv.kernels.pool cimport VECTORS, are_halves, end_col, first_col, gate_of, numbers_at, put, visit
from cyconv.kernels.share cimport run_rows
from cyconv.kernels.simd cimport VLEN, broadcast, inlined, real, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.window cimport (
    Axis, Sources, axis, check_window, end_k, first_k, is_inner, place_at, source,
)


cdef enum:
    LARGE = 256   # positions of a window, from which on one sum over all of it would lose digits
    IMAGES = 64   # that are summed up together in such windows


cdef inline Py_ssize_t covered(const Axis* a, Py_ssize_t o, Py_ssize_t after, bint padded) noexcept nogil:
    # how many positions of the window at output position o count: those inside the input, or
    # inside the padded input
    cdef Py_ssize_t size = a.out if a.transposed else a.size
    cdef Py_ssize_t first = o * a.stride - a.before
    cdef Py_ssize_t last = min(first + a.kernel, size + after)
    if not padded:
        first, last = max(first, <Py_ssize_t>0), min(last, size)
    return max(last - first, <Py_ssize_t>1)


cdef bint are_whole(const Axis* a, Py_ssize_t after, bint padded) noexcept nogil:
    # whether all positions of all windows count
    cdef Py_ssize_t last = (a.size if a.transposed else a.out) - 1
    return covered(a, 0, after, padded) == covered(a, last, after, padded) == a.kernel


cdef struct Average:
    Task task
    Planes src, gate, dst
    Axis rows, cols
    Py_ssize_t bottom, right
    bint padded
    real share  # of each number in an average, if all windows are whole; else 0


cdef inline real share_of(const Average* a, Py_ssize_t row, Py_ssize_t col) noexcept nogil:
    # of each number in the average over the window at an output position
    if a.share > 0:
        return a.share
    return <real>1 / <real>(covered(&a.rows, row, a.bottom, a.padded)
                            * covered(&a.cols, col, a.right, a.padded))


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


cdef void avg_row_of_one(const Average* a, Py_ssize_t c, Py_ssize_t row) noexcept nogil:
    # of the output, for a single image: here the columns follow each other in the innermost loop
    cdef const real* plane = a.src.data + c * a.src.stride
    cdef const real* src
    cdef real* dst = a.dst.data + c * a.dst.stride + row * a.dst.w
    cdef Py_ssize_t col, kh, kw, stride = a.cols.stride
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
        dst[col] = dst[col] * share_of(a, row, col)


cdef void average_lines(
    const Average* a, const real* plane, Py_ssize_t row, Py_ssize_t col, Py_ssize_t images, real* dst
) noexcept nogil:
    # of a large window, row by row of it, for some images
    cdef Py_ssize_t kh, kw, n
    cdef real scale = share_of(a, row, col)
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


cdef void avg_row_of_large(const Average* a, Py_ssize_t c, Py_ssize_t row) noexcept nogil:
    # of the output, for large windows
    cdef const real* plane = a.src.data + c * a.src.stride
    cdef real* dst = a.dst.data + c * a.dst.stride + row * a.dst.w * a.dst.n
    cdef Py_ssize_t col, n, images = a.dst.n
    for col in range(a.dst.w):
        n = 0
        while n < images:
            average_lines(
                a, plane + n, row, col, min(images - n, <Py_ssize_t>IMAGES), dst + col * images + n)
            n = n + IMAGES


cdef inline inlined average(
    const int vectors, const bint whole, const bint transposed, const Average* a, const Sources* rows,
    const Sources* cols, Py_ssize_t c, Py_ssize_t pixel, Py_ssize_t n,
) noexcept nogil:
    # of `vectors` of images from image n on, in registers; or, unless they are whole, of the last images.
    # Forward, dst is the output and each position is divided by its window's size; transposed, dst is dx
    # and each gradient that arrives is divided by the size of the window it comes from.
    cdef vreal sums[VECTORS]
    cdef Py_ssize_t i, j, v, row, col, images = a.dst.n - n
    cdef const real* plane = a.src.data + c * a.src.stride + n
    cdef const real* src
    cdef real scale = 1
    for v in range(vectors):
        sums[v] = broadcast(0)
    for i in range(rows.count):
        for j in range(cols.count):
            row, col = place_at(rows, i), place_at(cols, j)
            src = plane + (row * a.src.w + col) * a.src.n
            if transposed:
                scale = share_of(a, row, col)
            for v in range(vectors):
                sums[v] = sums[v] + numbers_at(src + v * VLEN, whole, images) * scale
    if not transposed:
        scale = share_of(a, rows.of, cols.of)
    for v in range(vectors):
        if not transposed:
            sums[v] = sums[v] * scale
        put(&a.dst, &a.gate, c, pixel * a.dst.n + n + v * VLEN, sums[v], whole, images)


cdef inline inlined average_images(
    const bint transposed, const Average* a, const Sources* rows, const Sources* cols, Py_ssize_t c,
    Py_ssize_t pixel, Py_ssize_t n, int vectors,
) noexcept nogil:
    if vectors == VECTORS: average(VECTORS, True, transposed, a, rows, cols, c, pixel, n)
    elif vectors == 1: average(1, True, transposed, a, rows, cols, c, pixel, n)
    else: average(1, False, transposed, a, rows, cols, c, pixel, n)


cdef void average_of(
    const void* task, const Sources* rows, const Sources* cols, Py_ssize_t c, Py_ssize_t pixel,
    Py_ssize_t n, int vectors,
) noexcept nogil:
    average_images(False, <const Average*>task, rows, cols, c, pixel, n, vectors)


cdef void gradient_of(
    const void* task, const Sources* rows, const Sources* cols, Py_ssize_t c, Py_ssize_t pixel,
    Py_ssize_t n, int vectors,
) noexcept nogil:
    average_images(True, <const Average*>task, rows, cols, c, pixel, n, vectors)


cdef void avg_rows(const void* task, Py_ssize_t c, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const Average* a = <const Average*>task
    cdef Py_ssize_t row
    if a.rows.transposed:
        visit(gradient_of, task, &a.rows, &a.cols, a.dst.n, c, begin, end)
    elif a.rows.kernel * a.cols.kernel > LARGE:
        for row in range(begin, end):
            avg_row_of_large(a, c, row)
    elif a.dst.n == 1:
        for row in range(begin, end):
            avg_row_of_one(a, c, row)
    else:
        visit(average_of, task, &a.rows, &a.cols, a.dst.n, c, begin, end)


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
    a.share = 0
    if are_whole(&a.rows, a.bottom, a.padded) and are_whole(&a.cols, a.right, a.padded):
        a.share = <real>1 / <real>(a.rows.kernel * a.cols.kernel)
    a.task.run, a.task.threads = run_avg_pool, threads
    return finish(&a.task, sizeof(a), later)
