# What both kinds of pooling need: which columns of a row of windows find one of the kernel's in the
# image, and the gate of a ReLU before the pooling.

from cyconv.kernels.planes cimport Planes, has_shape, planes
from cyconv.kernels.simd cimport real
from cyconv.kernels.window cimport Axis, is_inner


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


cdef inline Planes gate_of(object rectified, Planes dx) except *:
    cdef Planes gate = dx
    gate.data = NULL
    if rectified is not None:
        gate = planes(rectified, False)
        has_shape(gate, dx.n, dx.c, dx.h, dx.w)
    return gate
