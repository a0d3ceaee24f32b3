"""Bugs of one line each in the kernels of convolution, and the tests that must see them."""

from __future__ import annotations

from seeding import Bug

RECORDED = ("test_recorded.py",)
CONV = ("test_recorded.py", "test_integers.py")
POOL = ("test_recorded.py", "test_ops_pool.py")
NORM = ("test_recorded.py", "test_ops_norm_loss.py")
OPTIM = ("test_optim.py",)


def kernel(
    name: str, path: str, before: str, after: str, tests: tuple[str, ...], *modules: str
) -> Bug:
    """A bug in a file of the kernels; it is in the module of that name if none is given."""
    return Bug(name, f"kernels/{path}", before, after, tests, modules or (path.split(".")[0],))


WINDOWS = ("conv", "max_pool", "avg_pool")
KERNEL_BUGS = [
    kernel(
        "padding off by one",
        "window.pxd",
        "o * a.stride - a.before + k * a.dilation",
        "o * a.stride - a.before + 1 + k * a.dilation",
        RECORDED,
        *WINDOWS,
    ),
    kernel(
        "first row and column unread",
        "window.pxd",
        "return i if 0 <= i < a.size",
        "return i if 0 < i < a.size",
        RECORDED,
        *WINDOWS,
    ),
    kernel(
        "an edge taken for the inside",
        "window.pxd",
        "return i >= reach and",
        "return i >= 0 and",
        CONV,
        "conv",
    ),
    kernel(
        "columns of other phases",
        "direct.pxd",
        "        ow = phase\n",
        "        ow = 0\n",
        CONV,
        "conv",
    ),
    kernel(
        "each pixel of a run reads the first one's images",
        "direct.pxd",
        "x + pixel * step + i,",
        "x + i,",
        CONV,
        "conv",
    ),
    kernel(
        "a panel's place among several",
        "conv.pyx",
        "panel_at(p, group, position, scratch + i * panel_size(p.cg * p.taps))",
        "panel_at(p, group, position, scratch)",
        ("test_ops_conv.py",),
    ),
    kernel(
        "pixels in place from the row above",
        "panel.pxd",
        "position // rowlen * pace(&p.rows)",
        "max(position // rowlen - 1, 0) * pace(&p.rows)",
        CONV,
        "conv",
    ),
    kernel(
        "a filled panel of another place",
        "conv.pyx",
        "p.filled + job * panel_size(p.cg * p.taps)",
        "p.filled + job % 2 * panel_size(p.cg * p.taps)",
        ("test_ops_conv.py",),
    ),
    kernel(
        "stride forgotten in the gradient",
        "window.pxd",
        "if i < 0 or i % a.stride != 0:",
        "if i < 0:",
        RECORDED,
        *WINDOWS,
    ),
    kernel(
        "last lane missing",
        "tile.pxd",
        "return max(<Py_ssize_t>0, min(lanes - j * VLEN, <Py_ssize_t>VLEN))",
        "return max(<Py_ssize_t>0, min(lanes - 1 - j * VLEN, <Py_ssize_t>VLEN))",
        CONV,
        "conv",
    ),
    kernel(
        "last channel of a block skipped",
        "tile.pxd",
        "store_edge(edge, out, outstride, mr, nv, lanes)",
        "store_edge(edge, out, outstride, mr - 1, nv, lanes)",
        CONV,
        "conv",
    ),
    kernel(
        "blocks of weights in other rows",
        "conv.pyx",
        "first_row(block, p.rows, p.blocks), first_row",
        "block * p.mr, first_row",
        CONV,
        "conv",
    ),
    kernel(
        "bias forgotten",
        "pack.pxd",
        "dst[i] = bias[row + i] if bias != NULL and i < count else 0",
        "dst[i] = 0",
        RECORDED,
        "conv",
    ),
    kernel(
        "rows of the weights too close",
        "pack.pxd",
        "Py_ssize_t fstep = taps if swapped else cols * taps",
        "Py_ssize_t fstep = taps",
        RECORDED,
        "conv",
    ),
    kernel(
        "images left over find their weights elsewhere",
        "panel.pxd",
        "dst = panel.rows + (c * channel_step(p) + t * tap_step(p)) * panel.width",
        "dst = panel.rows + (c * p.taps + t) * panel.width",
        CONV,
        "conv",
    ),
    kernel(
        "taps in the wrong order",
        "direct.pxd",
        "s.woff[taps] = (kh * p.cols.kernel + kw) *",
        "s.woff[taps] = (kw * p.rows.kernel + kh) *",
        CONV,
        "conv",
    ),
    kernel(
        "images mixed up in a panel",
        "panel.pxd",
        "position = panel.position + lane",
        "position = panel.position",
        CONV,
        "conv",
    ),
    kernel(
        "the copy begins a column late",
        "panel.pxd",
        "iw = at * step + phase - before",
        "iw = at * step + phase - before + 1",
        CONV,
        "conv",
    ),
    kernel(
        "columns of another phase in a panel",
        "panel.pxd",
        "(col % p.phases * p.width",
        "(0 * p.width",
        CONV,
        "conv",
    ),
    kernel(
        "the kernel not turned in a panel",
        "panel.pxd",
        "a.kernel - 1 - k if a.transposed else k",
        "k",
        CONV,
        "conv",
    ),
    kernel(
        "the end of x left out of a panel",
        "panel.pxd",
        "if size > 0:  # at the end",
        "if size > 99:  # at the end",
        ("test_ops_conv.py",),
        "conv",
    ),
    kernel(
        "a later part of a panel begins anew",
        "conv.pyx",
        "packed_tiles(begin > 0,",
        "packed_tiles(False,",
        CONV,
    ),
    kernel(
        "a later part of the channels begins anew",
        "direct.pxd",
        "cdef bint add = channel > 0",
        "cdef bint add = False",
        CONV,
        "conv",
    ),
    kernel(
        "relu of the first part alone",
        "conv.pyx",
        "p.relu and end == p.cg * p.taps",
        "p.relu and begin == 0",
        ("test_activation.py",),
    ),
    kernel(
        "a row of the ring is old",
        "depthwise.pyx",
        "while padded < last:",
        "while padded < last - 1:",
        ("test_depthwise.py",),
    ),
    kernel(
        "what pads a row is written",
        "depthwise.pyx",
        "band + t * p.rowsize, rowlen)",
        "band + t * rowlen, rowlen)",
        ("test_depthwise.py",),
    ),
    kernel(
        "half of the pixels picked are their neighbours",
        "panel.pxd",
        "every_second(load(src), load(src + VLEN - 1))",
        "every_second(load(src), load(src + VLEN))",
        ("test_single_image.py",),
        "conv",
    ),
    kernel(
        "a slice of the tiles forgotten",
        "winograd_weight_grad.pyx",
        "for slice in range(1, p.slices):",
        "for slice in range(2, p.slices):",
        ("test_ops_conv.py",),
    ),
    kernel(
        "features left over",
        "dense.pyx",
        "while j < d.c:",
        "while j < 0:",
        ("test_single_image.py",),
    ),
    kernel(
        "later positions begin anew", "dense.pyx", "rows_tile(first > 0,", "rows_tile(False,", CONV
    ),
    kernel(
        "last images left to nobody",
        "conv.pyx",
        "images_in_place(p, taps, 0, end) == end",
        "images_in_place(p, taps, 0, end) >= 0",
        CONV,
    ),
    kernel(
        "an edge's second vector has the first one's lanes",
        "tile.pxd",
        "                        lanes_in(j, lanes))",
        "                        lanes_in(0, lanes))",
        CONV,
        "conv",
    ),
    kernel(
        "columns of the second tap not copied",
        "panel.pxd",
        "position % a.stride < a.kernel",
        "position % a.stride < 1",
        CONV,
        *("conv", "conv_weight_grad"),
    ),
    kernel("tail skipped", "sums.pxd", "if whole < length:", "if False:", CONV, "conv_weight_grad"),
    kernel(
        "top for left",
        "conv_weight_grad.pyx",
        "stride[1], padding[1], dilation[1], False",
        "stride[1], padding[0], dilation[1], False",
        RECORDED,
    ),
    kernel(
        "columns sorted wrongly",
        "panel.pxd",
        "col % p.phases * p.width + col // p.phases",
        "col // p.phases * p.width + col % p.phases",
        RECORDED,
        "conv_weight_grad",
    ),
    kernel(
        "a later piece of a row reads the first",
        "conv_weight_grad.pyx",
        "* xrow + col * p.dout.n",
        "* xrow",
        CONV,
    ),
    kernel(
        "a slice of the rows forgotten",
        "conv_weight_grad.pyx",
        "for slice in range(1, p.slices):",
        "for slice in range(2, p.slices):",
        ("test_weight_grad_slices.py",),
    ),
    kernel(
        "each slice reads the first rows",
        "conv_weight_grad.pyx",
        "+ part.channel * plane + part.row * p.window.rowsize",
        "+ part.channel * plane",
        ("test_weight_grad_slices.py",),
    ),
    kernel(
        "sums of other lanes",
        "simd.pxd",
        "transpose(rows)",
        "keep(rows[0])",
        ("test_weight_grad_slices.py",),
        "conv_weight_grad",
    ),
    kernel(
        "copied rows of the channels overlap",
        "conv_weight_grad.pyx",
        "copied + i * plane",
        "copied",
        CONV,
    ),
    kernel(
        "label smoothing not shared out",
        *("loss.pyx", "wanted = smoothing / lp.c", "wanted = smoothing", RECORDED),
    ),
]
