def convolve(x, w, out):
    N, F, OH, OW = out.shape
    C, KH, KW = w.shape[1:]
    for n in range(N):
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    total = 0.0
                    for c in range(C):
                        for k in range(KH):
                            for l in range(KW):
                                total += w[f, c, k, l] * x[n, c, i + k, j + l]
                    out[n, f, i, j] = total
