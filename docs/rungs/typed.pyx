def convolve(const float[:, :, :, ::1] x, const float[:, :, :, ::1] w, float[:, :, :, ::1] out):
    cdef Py_ssize_t n, f, i, j, c, k, l
    cdef float total
    for n in range(out.shape[0]):
        for f in range(out.shape[1]):
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    total = 0
                    for c in range(w.shape[1]):
                        for k in range(w.shape[2]):
                            for l in range(w.shape[3]):
                                total = total + w[f, c, k, l] * x[n, c, i + k, j + l]
                    out[n, f, i, j] = total
