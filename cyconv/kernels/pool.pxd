# What both kinds of pooling need: the way through all positions with their windows, for a single image
# which columns of a row of windows find one of the kernel's, and the gate of a ReLU before the pooling.

from cyconv.kernels.planes cimport Planes, has_shape, planes
from cyconv.kernels.simd cimport VLEN, gated, load, load_first, real, store, store_first, vreal
from cyconv.kernels.tile cimport parts_of
from cyconv.kernels.window cimport Axis, Sources, is_inner, sources

cdef enum:
    VECTORS = 4   # of images that are kept in registers together
    COLUMNS = 64  # whose sources are found together, for all rows

# writes so many vectors of images, from that image on, of one position of a channel, `pixel` in its plane;
# with 0 vectors the last images, which do not fill one
ctypedef void (*Position)(
    const void* task, const Sources* rows, const Sources* cols, Py_ssize_t channel, Py_ssize_t pixel,
    Py_ssize_t image, int vectors,
) noexcept nogil


cdef inline void write_images(
    Position write, const void* task, const Sources* rows, const Sources* cols, Py_ssize_t channel,
    Py_ssize_t pixel, Py_ssize_t images,
) noexcept nogil:
    cdef Py_ssize_t image = 0
    while image + VECTORS * VLEN <= images:
        write(task, rows, cols, channel, pixel, image, VECTORS)
        image = image + VECTORS * VLEN
    while image < images:
        if images < VLEN:
            write(task, rows, cols, channel, pixel, 0, 0)
        else:  # some of the images before the last ones once more
            write(task, rows, cols, channel, pixel, min(image, images - VLEN), 1)
        image = image + VLEN


cdef inline void visit(
    Position write, const void* task, const Axis* rows, const Axis* cols, Py_ssize_t images,
    Py_ssize_t channel, Py_ssize_t begin, Py_ssize_t end,
) noexcept nogil:
    # all positions of a channel's rows from `begin` to `end`
    cdef Py_ssize_t row, col, first = 0, count
    cdef Sources beside[COLUMNS]
    cdef Sources above
    while first < cols.out:
        count = min(cols.out - first, <Py_ssize_t>COLUMNS)
        for col in range(count):
            beside[col] = sources(cols, first + col)
        for row in range(begin, end):
            above = sources(rows, row)
            for col in range(count):
                write_images(
                    write, task, &above, &beside[col], channel, row * cols.out + first + col, images)
        first = first + count


cdef inline Py_ssize_t first_col(const Axis* cols, Py_ssize_t kw) noexcept nogil:
    # no output column before this one finds kernel column kw in the input
    cdef Py_ssize_t missing = cols.before - kw * cols.dilation
    return parts_of(missing, cols.stride) if missing > 0 else 0


cdef inline Py_ssize_t end_col(const Axis* cols, Py_ssize_t kw) noexcept nogil:
    # no output column from this one on finds kernel column kw in the input
    cdef Py_ssize_t room = cols.size - 1 + cols.before - kw * cols.dilation
    return min(cols.out, room // cols.stride + 1) if room >= 0 else 0


cdef inline bint are_halves(const Axis* rows, const Axis* cols) noexcept nogil:
    # windows of 2x2 side by side, the most common ones, no column of them outside of the image
    return rows.kernel == rows.stride == cols.kernel == cols.stride == 2 \
        and rows.dilation == cols.dilation == 1 and not rows.transposed \
        and is_inner(cols, 0) and is_inner(cols, cols.out - 1)


cdef inline vreal numbers_at(const real* p, const bint whole, Py_ssize_t count) noexcept nogil:
    # a vector of them, or the first ones of it
    return load(p) if whole else load_first(p, count)


cdef inline void put(
    const Planes* dst, const Planes* gate, Py_ssize_t c, Py_ssize_t place, vreal v, const bint whole,
    Py_ssize_t count,
) noexcept nogil:
    # into a channel's plane, but 0 where the gate is not above 0, if there is one
    if gate.data != NULL:
        v = gated(v, numbers_at(gate.data + c * gate.stride + place, whole, count))
    if whole:
        store(dst.data + c * dst.stride + place, v)
    else:
        store_first(dst.data + c * dst.stride + place, v, count)


cdef inline Planes gate_of(object rectified, Planes dx) except *:
    cdef Planes gate = dx
    gate.data = NULL
    if rectified is not None:
        gate = planes(rectified, False)
        has_shape(gate, dx.n, dx.c, dx.h, dx.w)
    return gate
