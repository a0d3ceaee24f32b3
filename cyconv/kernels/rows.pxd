# Gradient of a convolution by its weights by Winograd's method, for few channels: the steps are those of
# winograd_weight_grad.pyx, but V and D lie as the transforms compute them, for each point and channel a
# row of images and tiles. A product of theirs is a sum along lanes (sums.pxd), whose lanes are added up
# at the end of each chunk of tiles. That costs more than to transpose V and D where channels are many:
# there are as many sums as pairs of channels.

from cython.parallel cimport prange, threadid

from cyconv.kernels.panel cimport from_cache_line
from cyconv.kernels.planes cimport Planes
from cyconv.kernels.points cimport points_along, points_of, side_of
from cyconv.kernels.simd cimport VLEN, broadcast, lane_sums, load, prefetch, real, store, vreal
from cyconv.kernels.sums cimport best_tile, first_in, fr_of, tile_of
from cyconv.kernels.transforms cimport fetch, transform_grads, transform_inputs, transform_weights

cdef enum:
    CACHED = 4194304           # bytes of V and D in a chunk
    FEW = 2304                 # pairs of channels, at most, ...
    SHARE = 4                  # ... and at most this share of the rows of V and D times their vectors
    LINE = 64 // sizeof(real)  # numbers in a line of the cache


cdef struct Rows:
    Planes x, d
    Py_ssize_t kernel, side   # of the kernels and of the gradients' tiles
    Py_ssize_t points         # of a tile
    Py_ssize_t top, left      # padding
    Py_ssize_t tile_rows, tile_cols
    Py_ssize_t total          # steps: a step is one tile of VLEN images
    Py_ssize_t steps          # in a chunk
    Py_ssize_t fr, tr         # channels of output and of input in a tile of sums, ...
    Py_ssize_t fblocks, tblocks  # ... and how many tiles hold them all
    Py_ssize_t sums           # of a block of output channels at one point: whole vectors
    Py_ssize_t width          # input channels in whole vectors
    Py_ssize_t* places        # (C): where they find their rows of V
    real* v                   # (points, C, steps * VLEN), points vgap numbers apart
    real* g                   # (points, F, steps * VLEN), points ggap numbers apart
    Py_ssize_t vgap, ggap
    real* m                   # (points, fblocks, sums), and there (tblocks, fr, tr)
    real* own                 # scratch of each thread, ...
    Py_ssize_t each           # ... so many numbers
    real* dw                  # (F, C, kernel, kernel)


cdef inline bint along_lanes(Py_ssize_t c, Py_ssize_t f, Py_ssize_t total) noexcept nogil:
    # whether to sum up so: by shape alone
    return c * f <= FEW and SHARE * c * f <= <double>(c + f) * total


cdef inline Rows rows_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel
) noexcept nogil:
    cdef Rows r
    r.kernel, r.side, r.points = kernel, side_of(kernel), points_of(kernel)
    r.tile_rows, r.tile_cols = (oh + r.side - 1) // r.side, (ow + r.side - 1) // r.side
    r.total = (n + VLEN - 1) // VLEN * r.tile_rows * r.tile_cols
    r.steps = CACHED // (<Py_ssize_t>sizeof(real) * r.points * VLEN * (c + f))
    r.steps = max(<Py_ssize_t>1, min(r.steps, r.total))
    r.tr = best_tile(c, f)
    r.fr = fr_of(r.tr)
    r.tblocks, r.fblocks = (c + r.tr - 1) // r.tr, (f + r.fr - 1) // r.fr
    r.sums = (r.tblocks * r.fr * r.tr + VLEN - 1) // VLEN * VLEN
    r.width = (c + VLEN - 1) // VLEN * VLEN
    r.vgap, r.ggap = gap(c * r.steps * VLEN), gap(f * r.steps * VLEN)
    r.each = max(r.sums * VLEN, r.points * r.width)
    return r


cdef inline Py_ssize_t gap(Py_ssize_t numbers) noexcept nogil:
    # an odd number of cache lines, as a transform writes to all points at a time
    return ((numbers + LINE - 1) // LINE | 1) * LINE


cdef inline Py_ssize_t rows_scratch(const Rows* r, int threads) noexcept nogil:
    # numbers of scratch of all threads; no row of v or g is beyond its point
    cdef Py_ssize_t places = (r.width * <Py_ssize_t>sizeof(Py_ssize_t) // 64 + 1) * LINE
    cdef Py_ssize_t tiles = r.points * (r.vgap + r.ggap)
    return LINE + places + tiles + r.points * r.fblocks * r.sums + threads * r.each


cdef inline void place_rows(
    Rows* r, Planes x, Planes d, Py_ssize_t top, Py_ssize_t left, real* dw, real* scratch
) noexcept nogil:
    cdef Py_ssize_t c
    r.x, r.d, r.top, r.left, r.dw = x, d, top, left, dw
    r.places = <Py_ssize_t*>from_cache_line(scratch)
    for c in range(x.c):
        r.places[c] = c * r.steps * VLEN
    r.v = from_cache_line(<real*>(r.places + x.c))
    r.g = r.v + r.points * r.vgap
    r.m = r.g + r.points * r.ggap
    r.own = r.m + r.points * r.fblocks * r.sums


cdef inline void fill_rows(
    const Rows* r, Py_ssize_t first, Py_ssize_t steps, Py_ssize_t job
) noexcept nogil:
    # a job is one channel of input or output, for all points and so many steps from `first` on
    cdef bint is_input = job < r.x.c
    cdef Py_ssize_t channel = job if is_input else job - r.x.c
    cdef const Planes* a = &r.x if is_input else &r.d
    cdef Py_ssize_t parts = (a.n + VLEN - 1) // VLEN  # of the batch
    cdef Py_ssize_t size = points_along(r.kernel) if is_input else r.side
    cdef const real* plane
    cdef real* row = (r.v if is_input else r.g) + channel * r.steps * VLEN
    cdef Py_ssize_t step, image, images, top, left
    for step in range(first, first + steps):
        image = step % parts * VLEN
        images = min(<Py_ssize_t>VLEN, a.n - image)
        plane = a.data + channel * a.stride + image
        left = step // parts % r.tile_cols * r.side
        top = step // parts // r.tile_cols * r.side
        if is_input:
            left, top = left - r.left, top - r.top
        if image % LINE == 0:  # of the next tile, what this one does not have
            fetch(a, plane, top, left + size, size, r.side, min(a.n - image, <Py_ssize_t>LINE))
        if is_input:
            transform_inputs(r.kernel, a, plane, top, left, images, row, r.vgap)
        else:
            transform_grads(r.kernel, a, plane, top, left, images, row, r.ggap)
        row = row + VLEN


cdef inline void sum_rows(
    const Rows* r, Py_ssize_t steps, bint add, Py_ssize_t job, real* sums
) noexcept nogil:
    # a job is a block of output channels at one point, with all input channels; sums: a vector for each
    cdef Py_ssize_t point = job // r.fblocks, block = job % r.fblocks
    cdef Py_ssize_t row = r.steps * VLEN
    cdef const real* v = r.v + point * r.vgap
    cdef const real* g = r.g + point * r.ggap + first_in(block, r.fr, r.d.c) * row
    cdef Py_ssize_t share = r.x.c * row // r.fblocks
    cdef real* m = r.m + job * r.sums
    cdef vreal lanes[VLEN]
    cdef vreal sum
    cdef Py_ssize_t i, j
    fetch_row(g + r.fr * row, r.fr * row)  # of the next job, and its share of the next point's V
    fetch_row(v + r.vgap + block * share, share)
    for i in range(r.sums):
        store(sums + i * VLEN, broadcast(0))
    tile_of(r.tr, 1, steps * VLEN, v, 0, r.places, r.x.c, g, 0, row, r.d.c, sums)
    i = 0
    while i < r.sums:
        for j in range(VLEN):
            lanes[j] = load(sums + (i + j) * VLEN)
        sum = lane_sums(lanes)
        store(m + i, load(m + i) + sum if add else sum)
        i = i + VLEN


cdef inline void fetch_row(const real* row, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < count:
        prefetch(row + i)
        i = i + LINE


cdef inline void weights_of_row(const Rows* r, Py_ssize_t f, real* line) noexcept nogil:
    # the weights of output channel f; line (points, width): what its tiles of sums have
    cdef Py_ssize_t block = f // r.fr
    cdef Py_ssize_t point, tb, j, c
    cdef const real* m
    for point in range(r.points):
        m = r.m + (point * r.fblocks + block) * r.sums + (f - first_in(block, r.fr, r.d.c)) * r.tr
        for tb in range(r.tblocks):
            c = first_in(tb, r.tr, r.x.c)
            for j in range(r.tr):
                line[point * r.width + c + j] = m[tb * r.fr * r.tr + j]
    transform_weights(
        r.kernel, line, r.width, r.x.c, r.dw + f * r.x.c * r.kernel * r.kernel)


cdef inline void row_sums(const Rows* r, int threads) noexcept nogil:
    # fill dw, with one chunk of steps after the other
    cdef Py_ssize_t first = 0, steps, job
    while first < r.total:
        steps = min(r.steps, r.total - first)
        for job in prange(r.x.c + r.d.c, num_threads=threads, schedule="dynamic"):
            fill_rows(r, first, steps, job)
        # a thread stays at a point for half of its jobs
        for job in prange(r.points * r.fblocks, num_threads=threads, schedule="dynamic",
                          chunksize=(r.fblocks + 1) // 2):
            sum_rows(r, steps, first > 0, job, r.own + threadid() * r.each)
        first = first + steps
    for job in prange(r.d.c, num_threads=threads, schedule="static"):
        weights_of_row(r, job, r.own + threadid() * r.each)
