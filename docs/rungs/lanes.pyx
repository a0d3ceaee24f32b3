from cython.parallel cimport prange


def convolve(const float[:, :, :, ::1] x, const float[:, :, :, ::1] w, float[:, :, :, ::1] out,
             int threads):
    """x (C, H, W, N), w (F, C, KH, KW), out (F, OH, OW, N): the images come last."""
    cdef Py_ssize_t f, i, j
    for f in prange(out.shape[0], nogil=True, num_threads=threads, schedule="static"):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                pixel(x, w, out, f, i, j)


cdef void pixel(const float[:, :, :, ::1] x, const float[:, :, :, ::1] w,
                float[:, :, :, ::1] out, Py_ssize_t f, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    cdef float* sums = &out[f, i, j, 0]
    cdef const float* images
    cdef float weight
    cdef Py_ssize_t c, k, l, n
    for n in range(out.shape[3]):
        sums[n] = 0
    for c in range(w.shape[1]):
        for k in range(w.shape[2]):
            for l in range(w.shape[3]):
                weight = w[f, c, k, l]
                images = &x[c, i + k, j + l, 0]
                for n in range(out.shape[3]):  # the same weight for all images, side by side
                    sums[n] = sums[n] + weight * images[n]
