# How arrays come in: every def entry of the kernels takes its arrays through these functions,
# which check dtype, shape and memory layout, so that no argument whatever can lead astray.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int64_t

from cyconv.kernels.simd cimport real


cdef struct Planes:
    # an activation of shape (n, c, h, w) in batch-last memory: channel j's plane (h, w, n) is
    # contiguous and begins at data + j * stride
    real* data
    Py_ssize_t n, c, h, w, stride


cdef inline bint is_real(const Py_buffer* view) noexcept:
    cdef char code = view.format[0] if view.format != NULL else c"B"
    return view.itemsize == sizeof(real) and code == (c"f" if sizeof(real) == 4 else c"d")


cdef inline int get_buffer(object array, Py_buffer* view, int ndim, bint writable) except -1:
    cdef int flags = PyBUF_STRIDES | PyBUF_FORMAT
    if writable:
        flags |= PyBUF_WRITABLE
    PyObject_GetBuffer(array, view, flags)
    if view.ndim != ndim or not is_real(view):
        PyBuffer_Release(view)
        raise TypeError(f"kernel: need a {ndim}-d array of {8 * sizeof(real)}-bit floats")
    return 0


cdef inline Planes planes_of(tuple sizes) except *:
    # without memory
    cdef Planes p
    if min(sizes) < 0 or max(sizes) >= 2**31:
        raise ValueError(f"kernel: shape {sizes} is out of range")
    p.data, p.stride = NULL, 0
    p.n, p.c, p.h, p.w = sizes
    return p


cdef inline Planes planes(object array, bint writable) except *:
    # The caller keeps `array` alive, so its memory outlives the buffer view that is released here.
    cdef Py_buffer view
    cdef Planes p
    cdef Py_ssize_t size = sizeof(real)
    get_buffer(array, &view, 4, writable)
    p.data = <real*>view.buf
    p.n, p.c, p.h, p.w = view.shape[0], view.shape[1], view.shape[2], view.shape[3]
    p.stride = p.h * p.w * p.n
    cdef bint empty = p.n == 0 or p.c == 0 or p.h == 0 or p.w == 0
    cdef bint fits = empty or (
        (p.n == 1 or view.strides[0] == size)
        and (p.w == 1 or view.strides[3] == p.n * size)
        and (p.h == 1 or view.strides[2] == p.w * p.n * size)
        and (p.c == 1 or (view.strides[1] >= p.stride * size and view.strides[1] % size == 0))
        and <size_t>view.buf % size == 0
    )
    if p.c > 1 and not empty:
        p.stride = view.strides[1] // size
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError("kernel: array is not in batch-last memory")
    return p


cdef inline real* all_numbers(object array, Py_ssize_t* count, bint writable) except? NULL:
    # of an array of any shape in C order
    cdef Py_buffer view
    cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
    PyObject_GetBuffer(array, &view, flags | PyBUF_WRITABLE if writable else flags)
    cdef real* data = <real*>view.buf
    cdef bint fits = is_real(&view) and <size_t>data % sizeof(real) == 0
    count[0] = view.len // <Py_ssize_t>sizeof(real)
    PyBuffer_Release(&view)
    if not fits:
        raise TypeError(f"kernel: need aligned {8 * sizeof(real)}-bit floats")
    return data


cdef inline real* numbers(object array, Py_ssize_t count, bint writable) except? NULL:
    # a contiguous 1-d array of exactly `count` numbers
    cdef Py_buffer view
    get_buffer(array, &view, 1, writable)
    cdef real* data = <real*>view.buf
    cdef bint fits = view.shape[0] == count and (count < 2 or view.strides[0] == sizeof(real))
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError(f"kernel: need {count} contiguous numbers")
    return data


cdef inline int64_t* class_numbers(object array, Py_ssize_t count, Py_ssize_t classes) except? NULL:
    # a contiguous 1-d int64 array of exactly `count` numbers from 0 to classes - 1
    cdef Py_buffer view
    cdef Py_ssize_t i
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES | PyBUF_FORMAT)
    cdef int64_t* data = <int64_t*>view.buf
    cdef bint fits = (
        view.ndim == 1 and view.itemsize == 8 and (view.format[0] == c"l" or view.format[0] == c"q")
        and view.shape[0] == count and (count < 2 or view.strides[0] == 8)
    )
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError(f"kernel: need {count} contiguous 64-bit integers")
    for i in range(count):
        if not 0 <= data[i] < classes:
            raise ValueError(f"kernel: class {data[i]} is not below {classes}")
    return data


cdef inline Py_ssize_t extent(Planes p) noexcept nogil:
    # numbers from the first to behind the last
    return (p.c - 1) * p.stride + p.h * p.w * p.n


cdef inline int check_apart(
    const real* scratch, Py_ssize_t count, const real* out, Py_ssize_t size
) except -1:
    # scratch holds offsets: writing the output must not change them
    if scratch < out + size and out < scratch + count:
        raise ValueError("kernel: scratch and output share memory")
    return 0


cdef inline int check_threads(int threads) except -1:
    if not 1 <= threads <= 1024:
        raise ValueError(f"kernel: {threads} threads are out of range")
    return 0


cdef inline int same_shape(Planes a, Planes b) except -1:
    if a.n != b.n or a.c != b.c or a.h != b.h or a.w != b.w:
        raise ValueError("kernel: arrays differ in shape")
    return 0


cdef inline int has_shape(
    Planes a, Py_ssize_t n, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w
) except -1:
    if a.n != n or a.c != c or a.h != h or a.w != w:
        raise ValueError(
            f"kernel: array has shape {(a.n, a.c, a.h, a.w)}, need {(n, c, h, w)}"
        )
    return 0
