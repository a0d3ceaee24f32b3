"""Bugs of one line each in the kernels of Winograd's method, and the tests that must see them."""

from __future__ import annotations

from bugs import kernel

TILES = ("test_ops_conv.py::test_winograd",)
STRIDED = ("test_ops_conv.py::test_winograd_of_stride_2",)

WINOGRAD_BUGS = [
    kernel(
        "one number of a transform",
        "points.pxd",
        "term = (even if k % 2 == 0 else odd) * power",
        "term = (even if k % 2 == 0 else odd) * point",
        *(TILES, "winograd"),
    ),
    kernel(
        "kernels that the gradient by the input does not turn",
        "winograd_weights.pyx",
        "g, step = g + (kernel * kernel - 1) * LANES, -LANES",
        "step = LANES",
        *(TILES, "winograd_weights"),
    ),
    kernel(
        "the row above the image taken for its first",
        "transforms.pxd",
        "rows.begin[i] = plane + row * a.w * a.n if 0 <= row < a.h",
        "rows.begin[i] = plane + row * a.w * a.n if -1 <= row < a.h",
        *(TILES, "winograd"),
    ),
    kernel(
        "overlapping tiles not added up",
        "winograd_input_grad.pyx",
        "store(dst + j * width, load(dst + j * width) + line[j])",
        "store(dst + j * width, line[j])",
        *(TILES, "winograd_input_grad"),
    ),
    kernel(
        "sums of earlier rows not cleared where they lie outside of the image",
        "winograd_input_grad.pyx",
        "        if sums != NULL:\n            clear(sums, p.cols * width)",
        "        if sums != NULL:\n            if 0 <= row < p.dx.h: clear(sums, p.cols * width)",
        *(TILES, "winograd_input_grad"),
    ),
    kernel(
        "the first tile's gradient for all of them",
        "winograd_weight_grad.pyx",
        "t = place_of(p, p.d.n, first + place)",
        "t = place_of(p, p.d.n, first)",
        *(TILES, "winograd_weight_grad"),
    ),
    kernel(
        "products of earlier tiles forgotten",
        "winograd_weight_grad.pyx",
        "rows_tile(chunk.add, mr",
        "rows_tile(False, mr",
        TILES,
    ),
    kernel(
        "the last weight without the point at infinity",
        "points.pxd",
        "cdef const real* last = m + (points_along(method) - 1) * step",
        "cdef const real* last = m + (points_along(method) - 2) * step",
        *(TILES, "winograd_weight_grad"),
    ),
    kernel(
        "a point of 5x5 kernels at another place",
        "points.pxd",
        "input_pair(d, step, <real>0.5, 5, 4,",
        "input_pair(d, step, <real>0.5, 5, 1,",
        *(TILES, "winograd"),
    ),
    kernel(
        "half of the last channels' products left out",
        "winograd_weight_grad.pyx",
        "return min(<Py_ssize_t>WIDTH, p.lanes",
        "return min(<Py_ssize_t>VLEN, p.lanes",
        *(TILES, "winograd_weight_grad"),
    ),
    kernel(
        "columns that the next tile reads left out",
        "tile_lanes.pxd",
        "return (p.tile_cols - 1) * p.step + reads_of(p)",
        "return p.tile_cols * p.step",
        *(TILES, "winograd"),
    ),
    kernel(
        "the last strip left out",
        "tile_lanes.pxd",
        "return parts_of(p.tile_rows, p.strip)",
        "return p.tile_rows // p.strip",
        *(TILES, "winograd"),
    ),
    kernel(
        "a later strip reads what the first one does",
        "tile_lanes.pxd",
        "ih = (first + row) * step",
        "ih = row * step",
        *(TILES, "winograd"),
    ),
    kernel(
        "the padding on the left counted twice",
        "tile_lanes.pxd",
        "dst = put_zeros(begin * n, dst)",
        "dst = put_zeros(2 * begin * n, dst)",
        *(TILES, "winograd"),
    ),
    kernel(
        "an output column at another place",
        "points.pxd",
        "y[2 * ystep] = even + two * 4",
        "y[2 * ystep] = even + two * 2",
        *(STRIDED, "winograd"),
    ),
    kernel(
        "the middle tap's weights not shared",
        "tiling.pxd",
        "        if i < own:\n",
        "        if i < own - 1:\n",
        *(STRIDED, "winograd"),
    ),
    kernel(
        "the taps of odd columns at those of even ones",
        "winograd_weights.pyx",
        "left + k % kernel * 2",
        "k % kernel * 2",
        *(STRIDED, "winograd_weights"),
    ),
    kernel(
        "neighbouring rows for every second one",
        "transforms.pxd",
        "row = top + apart * i",
        "row = top + i",
        *(STRIDED, "winograd"),
    ),
    kernel(
        "tiles in lanes read the neighbours of their pixels",
        "tile_lanes.pxd",
        "ih = top + apart * i",
        "ih = top + i",
        *(STRIDED, "winograd"),
    ),
    kernel(
        "rows of a strided gradient in the other order",
        "points.pxd",
        "interpolate_four(m, step, y + ystep, 2 * ystep)",
        "interpolate_four(m, step, y, 2 * ystep)",
        *(STRIDED, "winograd"),
    ),
]
