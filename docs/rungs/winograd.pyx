from cython.parallel cimport prange, threadid

cdef extern from "vector.h" nogil:
    enum: LANES
    enum: ROWS
    ctypedef float vector

rows, lanes = ROWS, 2 * LANES


cdef inline void to_points(const vector* d, Py_ssize_t step, vector* t, Py_ssize_t to) noexcept nogil:
    # six pixels, `step` apart, to six points: t = Bt d
    cdef vector even = d[4 * step] - d[2 * step] * 4
    cdef vector odd = d[3 * step] - d[step] * 4
    cdef vector p = d[4 * step] - d[2 * step]
    cdef vector q = (d[3 * step] - d[step]) * 2
    t[0] = d[0] * 4 - d[2 * step] * 5 + d[4 * step]
    t[to] = even + odd
    t[2 * to] = even - odd
    t[3 * to] = p + q
    t[4 * to] = p - q
    t[5 * to] = d[step] * 4 - d[3 * step] * 5 + d[5 * step]


cdef inline void to_pixels(const vector* m, Py_ssize_t step, vector* y, Py_ssize_t to) noexcept nogil:
    # six points to four outputs: y = At m
    cdef vector p = m[step] + m[2 * step]
    cdef vector q = m[step] - m[2 * step]
    cdef vector r = m[3 * step] + m[4 * step]
    cdef vector s = m[3 * step] - m[4 * step]
    y[0] = m[0] + p + r
    y[to] = q + s * 2
    y[2 * to] = p + r * 4
    y[3 * to] = q + s * 8 + m[5 * step]


cdef void product(const vector* v, const float* u, Py_ssize_t channels, vector* m) noexcept nogil:
    # at one point: ROWS channels of the output, summed over the input's; as `tile` before
    cdef vector a[ROWS]
    cdef vector b[ROWS]
    cdef int r
    cdef Py_ssize_t c
    for r in range(ROWS):
        a[r] = v[0] * 0
        b[r] = a[r]
    for c in range(channels):
        for r in range(ROWS):
            a[r] = a[r] + v[2 * c] * u[r]
            b[r] = b[r] + v[2 * c + 1] * u[r]
        u = u + ROWS
    for r in range(ROWS):
        m[2 * r] = a[r]
        m[2 * r + 1] = b[r]


cdef void tile(const float[:, :, :, ::1] x, const float[:, :, :, ::1] u, float[:, :, :, ::1] out,
               Py_ssize_t i, Py_ssize_t j, Py_ssize_t n, vector* v) noexcept nogil:
    # 4 x 4 outputs of all channels for 2 * LANES images; v has room for 36 * (C + ROWS) pairs
    cdef Py_ssize_t channels = x.shape[0], c, block, r, point, half, k, l
    cdef Py_ssize_t column = x.shape[3] // LANES, row = x.shape[2] * column
    cdef vector* m = v + 36 * 2 * channels
    cdef vector t[36]
    cdef vector y[16]
    cdef const vector* d
    for c in range(channels):
        for half in range(2):
            d = <const vector*>&x[c, i, j, n] + half
            for l in range(6):  # down each of six columns, then along each of six rows
                to_points(d + l * column, row, &t[l], 6)
            for k in range(6):
                to_points(&t[6 * k], 1, v + 6 * k * 2 * channels + 2 * c + half, 2 * channels)
    for block in range(u.shape[0]):
        for point in range(36):
            product(v + point * 2 * channels, &u[block, point, 0, 0], channels, m + point * 2 * ROWS)
        for r in range(ROWS):
            for half in range(2):
                for l in range(6):
                    to_pixels(m + (l * ROWS + r) * 2 + half, 6 * 2 * ROWS, &t[l], 6)
                for k in range(4):
                    to_pixels(&t[6 * k], 1, y, 1)
                    for l in range(4):
                        (<vector*>&out[block * ROWS + r, i + k, j + l, n])[half] = y[l]


def convolve(const float[:, :, :, ::1] x, const float[:, :, :, ::1] u, float[:, ::1] scratch,
             float[:, :, :, ::1] out, int threads):
    """x (C, H, W, N), u (F / ROWS, 36, C, ROWS), out (F, OH, OW, N); OH, OW multiples of 4."""
    cdef Py_ssize_t across = out.shape[2] // 4, images = 2 * LANES, place, n
    for place in prange(out.shape[1] // 4 * across, nogil=True, num_threads=threads,
                        schedule="static"):
        for n in range(out.shape[3] // images):
            tile(x, u, out, place // across * 4, place % across * 4, n * images,
                 <vector*>&scratch[threadid(), 0])
