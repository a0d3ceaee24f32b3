# A convolution by Winograd's method: what winograd.pyx and tile_lanes.pxd share.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.points cimport check_tiles, points_of, side_of
from cyconv.kernels.simd cimport MR_MAX, VLEN, real

cdef enum:
    CACHED = 524288      # bytes of V in a job


cdef struct Problem:
    Planes x, out
    const real* u        # of each block (points, 1 + C, its channels); the first row of each is zeros
    const real* bias     # (F,) or NULL
    bint relu
    bint tiles           # whether lanes are tiles and not images
    Py_ssize_t mr, blocks # of output channels: at most so many in each
    Py_ssize_t kernel, side  # of the kernels and of the outputs' tiles
    Py_ssize_t points    # of a tile
    Py_ssize_t top, left # padding
    Py_ssize_t tile_rows, tile_cols
    # where lanes are images
    Py_ssize_t chunk     # tiles in a job
    Py_ssize_t chunks    # jobs along a row of tiles
    Py_ssize_t lanes     # of a block of images, a multiple of VLEN


cdef inline Problem problem_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    bint tiles,
) except *:
    cdef Problem p
    check_tiles(n, c, f, oh, ow, kernel, 2**40)
    if tiles and <double>n * c * (oh + 8) * (ow + 8) >= 2.0**45:
        raise ValueError("kernel: winograd got a size out of range")
    p.tiles, p.x.n, p.x.c = tiles, n, c
    p.out.n, p.out.c, p.out.h, p.out.w = n, f, oh, ow
    p.blocks = (f + MR_MAX - 1) // MR_MAX
    p.mr = (f + p.blocks - 1) // p.blocks
    p.lanes = VLEN if n <= VLEN else 2 * VLEN
    p.kernel, p.side, p.points = kernel, side_of(kernel), points_of(kernel)
    p.tile_rows, p.tile_cols = (oh + p.side - 1) // p.side, (ow + p.side - 1) // p.side
    # a few tiles share each block of U while their V is in the cache; no more than leaves work for
    # all threads
    p.chunk = CACHED // (p.points * c * p.lanes * <Py_ssize_t>sizeof(real))
    p.chunk = max(<Py_ssize_t>1, min(p.chunk, p.tile_cols))
    p.chunks = (p.tile_cols + p.chunk - 1) // p.chunk
    return p
