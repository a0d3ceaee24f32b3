# A convolution by Winograd's method: what winograd.pyx and tile_lanes.pxd share.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.points cimport (
    STRIDED, WIDENED, check_tiles, points_along, points_of, side_of, step_of, weights_along,
)
from cyconv.kernels.simd cimport MR_MAX, VLEN, real
from cyconv.kernels.tile cimport first_row, odd_lines, packed_tiles, parts_of, rows_in, shared_tiles


cdef struct Problem:
    Planes x, out
    const real* u        # of each block (matrices, 1 + C, its channels); the first row of each is zeros
    const real* bias     # (F,) or NULL
    bint relu
    bint tiles           # whether lanes are tiles and not images
    Py_ssize_t mr, blocks # of output channels: at most so many in each
    Py_ssize_t method, apart # see points.pxd
    Py_ssize_t channels  # of V: those of x, or of the four images of each
    Py_ssize_t side      # of the tiles of out, ...
    Py_ssize_t step      # ... and from what one reads of x to what the next one reads
    Py_ssize_t points    # of a tile
    Py_ssize_t matrices  # of weights: of points, or shared by some
    Py_ssize_t top, left # padding
    Py_ssize_t tile_rows, tile_cols
    # where lanes are tiles
    Py_ssize_t strip     # rows of them that are taken together
    bint own_strips      # whether each thread takes some of them, and not a part of each
    # where lanes are images
    Py_ssize_t lanes     # of a block of images, a multiple of VLEN


cdef inline Problem problem_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    Py_ssize_t stride, bint transposed, bint tiles,
) except *:
    cdef Problem p
    check_tiles(n, c, f, oh, ow, kernel, stride)
    p.apart = 2 if stride == 2 and kernel > 3 else 1
    if transposed and p.apart == 2:
        raise ValueError(f"kernel: winograd takes no {kernel}x{kernel} kernels with stride 2 transposed")
    if tiles and <double>n * c * (oh + 16) * (ow + 16) >= 2.0**45:
        raise ValueError("kernel: winograd got a size out of range")
    p.tiles, p.x.n, p.x.c = tiles, n, c
    p.out.n, p.out.c, p.out.h, p.out.w = n, f, oh, ow
    p.blocks = parts_of(f, MR_MAX)
    p.mr = parts_of(f, p.blocks)
    p.lanes = VLEN if n <= VLEN else 2 * VLEN
    p.method, p.channels = kernel, c
    if p.apart == 2:
        p.method, p.channels = (kernel + 1) // 2, 4 * c
    elif stride == 2:
        p.method = WIDENED if transposed else STRIDED
    p.side, p.step, p.points = side_of(p.method), p.apart * step_of(p.method), points_of(p.method)
    p.matrices = weights_along(p.method) * weights_along(p.method)
    p.tile_rows, p.tile_cols = parts_of(oh, p.side), parts_of(ow, p.side)
    return p


cdef inline Py_ssize_t weights_of(const Problem* p) noexcept nogil:
    # numbers of U
    return p.out.c * p.matrices * (1 + p.channels)


cdef inline void multiply_points(
    const Problem* p, Py_ssize_t block, const real* v, real* m, Py_ssize_t width
) noexcept nogil:
    # M of one block of output channels: at each point, U times V (C, width)
    cdef Py_ssize_t count = rows_in(block, p.out.c, p.blocks), channels = p.channels
    cdef Py_ssize_t size = (1 + channels) * count  # of a matrix
    cdef const real* u = p.u + first_row(block, p.out.c, p.blocks) * p.matrices * (1 + channels)
    cdef Py_ssize_t along = points_along(p.method), own = weights_along(p.method) - 1, i
    if p.matrices == p.points:
        packed_tiles(False, count, channels, v, u, count, m, width, width, False, p.points)
        return
    for i in range(along):
        packed_tiles(False, count, channels, v, u, count, m, width, width, False, own)
        v, m = v + own * odd_lines(channels * width), m + own * count * width
        shared_tiles(count, channels, v, u + own * size, count, m, width, width, along - own)
        v = v + (along - own) * odd_lines(channels * width)
        m = m + (along - own) * count * width
        if i < own:
            u = u + (own + 1) * size
