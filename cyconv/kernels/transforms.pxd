# Transforms of Winograd's tiles along both axes, from and to images in lanes; see points.pxd.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.points cimport (
    ALONG, MOST, evaluate_1d, input_1d, interpolate_1d, points_along, reads_along, side_of,
)
from cyconv.kernels.simd cimport (
    VLEN, broadcast, inlined, load, load_first, prefetch, real, rectified, store, store_first, vreal,
)
from cyconv.kernels.tile cimport fetch_row


cdef inline void store_some(real* p, vreal v, Py_ssize_t count) noexcept nogil:
    if count == VLEN:
        store(p, v)
    else:
        store_first(p, v, count)


cdef inline void fetch(
    const Planes* a, const real* plane, Py_ssize_t top, Py_ssize_t left, Py_ssize_t rows,
    Py_ssize_t cols, Py_ssize_t images,
) noexcept nogil:
    # ask for so many images of these pixels: they lie too far apart for the processor to foresee them
    cdef Py_ssize_t i, j
    for i in range(top, top + rows):
        for j in range(left, left + cols):
            fetch_row(plane + (i * a.w + j) * a.n, images)


cdef struct Rows:
    # of a tile: each from the first column of the image on, or zeros, however far along the row
    const real* begin[ALONG]
    Py_ssize_t inside[ALONG]  # -1, or 0 outside of the image


cdef inline inlined find_rows(
    const int reads, const int apart, const Planes* a, const real* plane, Py_ssize_t top,
    const vreal* zeros, Rows* rows,
) noexcept nogil:
    cdef Py_ssize_t i, row
    for i in range(reads):
        row = top + apart * i
        rows.inside[i] = -1 if 0 <= row < a.h else 0
        rows.begin[i] = plane + row * a.w * a.n if 0 <= row < a.h else <const real*>zeros


cdef inline inlined load_column(
    const int reads, const Rows* rows, Py_ssize_t place, Py_ssize_t count, vreal* column
) noexcept nogil:
    cdef Py_ssize_t i
    if count == VLEN:
        for i in range(reads):
            column[i] = load(rows.begin[i] + (place & rows.inside[i]))
    else:
        for i in range(reads):
            column[i] = load_first(rows.begin[i] + (place & rows.inside[i]), count)


cdef inline inlined transform_input(
    const int method, const int apart, const Planes* x, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = Bt d B of the tile d of one channel that begins at (top, left), of pixels
    # `apart` from each other, zeros outside the image, for `count` <= VLEN images
    cdef vreal t[MOST]  # t[column, point]
    cdef vreal line[ALONG]
    cdef vreal zeros = broadcast(0)
    cdef Rows rows
    cdef Py_ssize_t i, j
    cdef int along = points_along(method), reads = reads_along(method)
    find_rows(reads, apart, x, plane, top, &zeros, &rows)
    for i in range(along * along):  # so many places at a time are more than the processor foresees
        prefetch(v + i * vstride)
    for j in range(reads):
        if 0 <= left + apart * j < x.w:
            load_column(reads, &rows, (left + apart * j) * x.n, count, line)
            input_1d(method, <real*>line, VLEN, t + j * along, 1)
        else:
            for i in range(along):
                t[j * along + i] = zeros
    input_lines(method, t, v, vstride)


cdef inline inlined transform_parts(
    const int method, const int apart, const Planes* x, const real* plane, Py_ssize_t top,
    Py_ssize_t left, Py_ssize_t count, real* v, Py_ssize_t vstride, Py_ssize_t width,
) noexcept nogil:
    # a tile of one channel of x to V; or, if `apart` is 2, of the four images of every second row and
    # column of it, to channels that are `width` apart
    cdef Py_ssize_t i, j
    for i in range(apart):
        for j in range(apart):
            transform_input(method, apart, x, plane, top + i, left + j, count, v, vstride)
            v = v + width


cdef inline inlined input_lines(
    const int method, const vreal* t, real* v, Py_ssize_t vstride
) noexcept nogil:
    # v[point * vstride] from t[column, point], what the columns of a tile of the input gave
    cdef vreal line[ALONG]
    cdef int i, j, along = points_along(method)
    for i in range(along):
        input_1d(method, <real*>(t + i), along * VLEN, line, 1)
        for j in range(along):
            store(v + (i * along + j) * vstride, line[j])


cdef inline inlined output_columns(
    const int method, const real* m, Py_ssize_t mstride, vreal* t
) noexcept nogil:
    # t[column, output row] of At M of the tile m[point * mstride]
    cdef int j, side = side_of(method), along = points_along(method)
    for j in range(along):
        interpolate_1d(method, side, m + j * mstride, along * mstride, t + j * side, 1)


cdef inline inlined output_line(
    const int method, const vreal* t, Py_ssize_t i, real bias, bint relu, vreal* line
) noexcept nogil:
    # row i of a tile of the outputs, from its columns
    cdef int j, side = side_of(method)
    interpolate_1d(method, side, <real*>(t + i), side * VLEN, line, 1)
    for j in range(side):
        line[j] = line[j] + bias
        if relu:
            line[j] = rectified(line[j])


cdef inline inlined transform_grad(
    const int kernel, const Planes* d, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = G d Gt of the tile d of outputs' gradients that begins at (top, left), zeros
    # outside the image, for `count` <= VLEN images
    cdef vreal t[ALONG * 4]  # t[column, point]
    cdef vreal line[ALONG]
    cdef vreal zeros = broadcast(0)
    cdef Rows rows
    cdef Py_ssize_t i, j
    cdef int side = side_of(kernel), along = points_along(kernel)
    find_rows(side, 1, d, plane, top, &zeros, &rows)
    for j in range(side):
        if left + j < d.w:
            load_column(side, &rows, (left + j) * d.n, count, line)
            evaluate_1d(kernel, side, <real*>line, VLEN, t + j * along, 1, True)
        else:
            for i in range(along):
                t[j * along + i] = zeros
    for i in range(along):
        evaluate_1d(kernel, side, <real*>(t + i), along * VLEN, line, 1, True)
        for j in range(along):
            store(v + (i * along + j) * vstride, line[j])


cdef inline inlined transform_weight(
    const int kernel, const real* m, Py_ssize_t step, Py_ssize_t channels, real* dw
) noexcept nogil:
    # dw (channels, kernel, kernel) = At M A for VLEN input channels at a time; m: one number for each of
    # them, in whole vectors, and so for each point, `step` numbers apart
    cdef vreal t[ALONG * 5]  # t[column, row of weights]
    cdef vreal line[25]
    cdef const real* lanes = <const real*>line
    cdef Py_ssize_t c, i, k, lane, taps = kernel * kernel
    cdef int along = points_along(kernel)
    c = 0
    while c < channels:
        for i in range(along):
            interpolate_1d(kernel, kernel, m + i * step + c, along * step, t + i * kernel, 1)
        for i in range(kernel):
            interpolate_1d(kernel, kernel, <real*>(t + i), kernel * VLEN, line + i * kernel, 1)
        for lane in range(min(<Py_ssize_t>VLEN, channels - c)):
            for k in range(taps):
                dw[(c + lane) * taps + k] = lanes[k * VLEN + lane]
        c = c + VLEN


# The method becomes a constant.


cdef inline void transform_weights(
    Py_ssize_t kernel, const real* m, Py_ssize_t step, Py_ssize_t channels, real* dw
) noexcept nogil:
    if kernel == 3: transform_weight(3, m, step, channels, dw)
    else: transform_weight(5, m, step, channels, dw)


cdef inline void transform_inputs(
    Py_ssize_t kernel, const Planes* x, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    if kernel == 3: transform_input(3, 1, x, plane, top, left, count, v, vstride)
    else: transform_input(5, 1, x, plane, top, left, count, v, vstride)


cdef inline void transform_grads(
    Py_ssize_t kernel, const Planes* d, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    if kernel == 3: transform_grad(3, d, plane, top, left, count, v, vstride)
    else: transform_grad(5, d, plane, top, left, count, v, vstride)
