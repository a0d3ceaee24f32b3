from cython.parallel cimport prange

cdef extern from "vector.h" nogil:
    enum: LANES
    enum: ROWS
    ctypedef float vector

rows, lanes = ROWS, 2 * LANES  # of a tile


cdef void tile(const float* x, const Py_ssize_t* places, Py_ssize_t taps, const float* w,
               float* out, Py_ssize_t plane) noexcept nogil:
    # ROWS channels of the output for 2 * LANES images at one pixel, summed up in registers
    cdef vector a[ROWS]
    cdef vector b[ROWS]
    cdef vector u, v
    cdef const float* here
    cdef Py_ssize_t t
    cdef int r
    u = (<vector*>x)[0] * 0
    for r in range(ROWS):
        a[r] = u
        b[r] = u
    for t in range(taps):
        here = x + places[t]
        u = (<vector*>here)[0]
        v = (<vector*>(here + LANES))[0]
        for r in range(ROWS):
            a[r] = a[r] + u * w[r]
            b[r] = b[r] + v * w[r]
        w = w + ROWS
    for r in range(ROWS):
        (<vector*>(out + r * plane))[0] = a[r]
        (<vector*>(out + r * plane + LANES))[0] = b[r]


def convolve(const float[:, :, :, ::1] x, const float[:, :, ::1] w, const Py_ssize_t[::1] places,
             float[:, :, :, ::1] out, int threads):
    """x (C, H, W, N), w (F / ROWS, taps, ROWS), out (F, OH, OW, N); N a multiple of 2 * LANES.

    places[t] is how far tap t lies behind the first, in floats.
    """
    cdef Py_ssize_t plane = out.shape[1] * out.shape[2] * out.shape[3]
    cdef Py_ssize_t images = 2 * LANES, i, j, n, block
    for i in prange(out.shape[1], nogil=True, num_threads=threads, schedule="static"):
        for j in range(out.shape[2]):
            for n in range(out.shape[3] // images):
                for block in range(w.shape[0]):
                    tile(&x[0, i, j, n * images], &places[0], w.shape[1], &w[block, 0, 0],
                         &out[block * ROWS, i, j, n * images], plane)
