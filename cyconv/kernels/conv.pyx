# Convolution forward and its gradient by the input: one micro-kernel, fed in two ways.
#
# Lanes are images of the batch or, where those do not fill a vector, output pixels:
#   direct   a block of lanes is up to 2 VLEN images at one output pixel, read in place
#   im2col   a block of lanes is 2 VLEN consecutive (row, column, image) positions of the output;
#            what they read is first copied into a panel (C * KH * KW, lanes), see panel.pxd
# The gradient by the input is the same sum with the roles of input and output swapped (window.pxd)
# and the weights packed with F and C swapped.

from cyconv.kernels.planes cimport Planes, check_apart, check_threads, extent, numbers, planes
from cyconv.kernels.pack cimport are_by_tap, blocks_of, mr_of, packed
from cyconv.kernels.direct cimport Taps, cut_direct, direct_row, find_taps, images_in_place
from cyconv.kernels.panel cimport (
    PANELS, Panel, Problem, fetch_out, fill_panels, fill_pixel, for_all_channels, from_cache_line,
    lay_out_padded, out_at, pad_row, place_of, rows_of, tap_place, weights_of,
)
from cyconv.kernels.share cimport run_rows, share
from cyconv.kernels.simd cimport VLEN, real
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport first_row, own_scratch, packed_tiles, parts_of, placed_tile
from cyconv.kernels.window cimport axis, check_window

lanes = 2 * VLEN  # of a tile

cdef enum:
    JOBS = 32  # enough for any number of threads to share the work evenly
    PART = 8192 // (VLEN * sizeof(real))  # rows of a panel that fill half of a first-level cache


# ------------------------------------------------------------------ im2col: lanes from a panel


cdef inline Panel panel_at(
    const Problem* p, Py_ssize_t group, Py_ssize_t position, real* rows
) noexcept nogil:
    # where pixels are lanes, those of one row are read where they lie: their taps overlap
    cdef Panel panel
    cdef Py_ssize_t rowlen = p.out.w * p.out.n
    panel.rows, panel.position = rows, position
    panel.lanes = min(p.out.h * rowlen - position, <Py_ssize_t>(2 * VLEN))
    panel.width = VLEN if panel.lanes <= VLEN else 2 * VLEN
    panel.in_place = p.out.n <= VLEN and position % rowlen + 2 * VLEN <= rowlen
    if panel.in_place:
        panel.rows = p.padded + group * p.cg * p.plane + place_of(p, position)
    return panel


cdef void panel_job(
    const Problem* p, Py_ssize_t group, Py_ssize_t first, Py_ssize_t last, Py_ssize_t position,
    real* scratch,
) noexcept nogil:
    # the outputs from `position` on, as many as p.panels panels hold
    cdef Panel panels[PANELS]
    cdef Py_ssize_t i = 0
    while i < p.panels and position < p.out.h * p.out.w * p.out.n:
        panels[i] = panel_at(p, group, position, scratch + i * panel_size(p.cg * p.taps))
        i, position = i + 1, position + 2 * VLEN
    fill_panels(p, group, panels, i)
    multiply_panels(p, group, first, last, panels, i)


cdef Panel filled_panel(const Problem* p, Py_ssize_t job) noexcept nogil:
    # one of the panels that lie in memory all at a time, group by group
    cdef Py_ssize_t position = job % p.jobs * 2 * VLEN
    return panel_at(p, job // p.jobs, position, p.filled + job * panel_size(p.cg * p.taps))


cdef inline Py_ssize_t panel_size(Py_ssize_t rows) noexcept nogil:
    # numbers; what is copied into the last row may reach beyond it
    return (rows + 1) * 2 * VLEN


cdef void multiply_panels(
    const Problem* p, Py_ssize_t group, Py_ssize_t first, Py_ssize_t last, const Panel* panels,
    Py_ssize_t panel_count,
) noexcept nogil:
    # A part of the panels at a time: it stays in the cache while all blocks of channels use it.
    # Each block writes what all panels give, so that its planes, too, are written in longer stretches.
    cdef Py_ssize_t count = p.cg * p.taps
    cdef Py_ssize_t parts = parts_of(count, PART)
    cdef Py_ssize_t part, begin, end, block, i
    cdef const real* w
    for part in range(parts):
        begin, end = part * count // parts, (part + 1) * count // parts
        for block in range(first, last):
            w = weights_of(p, group, block)
            if part > 0:
                w = w + (1 + begin) * p.mr
            for i in range(panel_count):
                multiply_panel(p, &panels[i], begin, end, rows_of(p, block), w,
                               out_at(p, group, block, panels[i].position))


cdef inline void multiply_panel(
    const Problem* p, const Panel* panel, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t rows,
    const real* w, real* out,
) noexcept nogil:
    cdef bint relu = p.relu and end == p.cg * p.taps
    if begin == 0:
        fetch_out(p, out, rows, panel.lanes)
    if panel.in_place:
        placed_tile(begin > 0, rows, end - begin, panel.rows, p.places + begin, w, p.weights, p.mr, out,
                    p.out.stride, panel.lanes, relu)
    else:
        packed_tiles(begin > 0, rows, end - begin, panel.rows + begin * panel.width, w, p.mr, out,
                     p.out.stride, panel.lanes, relu, 1)


# ------------------------------------------------------------------ direct: lanes in place


cdef void left_over(
    const Problem* p, Py_ssize_t group, Py_ssize_t first, Py_ssize_t last, Py_ssize_t row,
    Py_ssize_t end, real* scratch, Taps* taps,
) noexcept nogil:
    # of one row of output pixels those before image `end` that could not be read in place
    cdef Panel panel
    cdef Py_ssize_t ow, image = end - end % VLEN
    panel.rows, panel.lanes, panel.width, panel.in_place = scratch, end - image, VLEN, False
    for ow in range(p.out.w):
        find_taps(p, row, ow, 1, taps)
        if images_in_place(p, taps, 0, end) == end:
            continue
        panel.position = (row * p.out.w + ow) * p.out.n + image
        fill_pixel(p, group, row, ow, image, &panel)
        multiply_panels(p, group, first, last, &panel, 1)


# ------------------------------------------------------------------ the work, cut into jobs


cdef void run_job(
    const Problem* p, Py_ssize_t job, Py_ssize_t part, real* scratch
) noexcept nogil:
    # one part of the blocks of channels, for some rows of pixels (direct) or some panels
    cdef Py_ssize_t first = part * p.blocks // p.parts, last = (part + 1) * p.blocks // p.parts
    cdef Py_ssize_t begin, row, image, end, channel, group = job // p.jobs
    cdef Panel panel
    cdef real* panels = from_cache_line(scratch)
    cdef Taps taps
    if are_filled(p):
        panel = filled_panel(p, job)
        multiply_panels(p, group, first, last, &panel, 1)
        return
    job = job % p.jobs
    if not p.direct:
        panel_job(p, group, first, last, job * p.panels * 2 * VLEN, panels)
        return
    taps.xoff = <Py_ssize_t*>(panels + panel_size(p.cg * p.taps))
    taps.woff = taps.xoff + p.cg * p.taps
    begin = job // image_jobs(p) * p.band
    image = job % image_jobs(p) * p.images
    end = min(p.out.n, image + p.images)
    channel = 0
    while channel < p.cg:
        for row in range(begin, min(begin + p.band, p.out.h)):
            direct_row(p, group, first, last, channel, row, image, end, &taps)
        channel = channel + p.channels
    if end % VLEN != 0:
        for row in range(begin, min(begin + p.band, p.out.h)):
            left_over(p, group, first, last, row, end, panels, &taps)


cdef inline bint are_filled(const Problem* p) noexcept nogil:
    # whether all panels are filled before all are used, so that several jobs can use each
    return p.parts > 1 and not p.direct


cdef inline Py_ssize_t image_jobs(const Problem* p) noexcept nogil:
    return parts_of(p.out.n, p.images)


cdef inline Py_ssize_t jobs_of_group(const Problem* p) noexcept nogil:
    cdef Py_ssize_t lanes = p.panels * 2 * VLEN
    if p.direct:
        return image_jobs(p) * parts_of(p.out.h, p.band)
    return parts_of(p.out.h * p.out.w * p.out.n, lanes)


cdef struct Correlation:
    Task task
    Problem p
    real* scratch              # of the threads
    Py_ssize_t per_thread      # numbers of scratch


cdef void find_places(const Problem* p) noexcept nogil:
    cdef Py_ssize_t t
    for t in range(p.taps):
        p.places[t] = tap_place(p, t)
        p.weights[t] = t * p.mr
    for_all_channels(p.places, p.taps, p.cg, p.plane)
    for_all_channels(p.weights, p.taps, p.cg, p.taps * p.mr)


cdef void pad_rows(const void* task, Py_ssize_t channel, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef const Problem* p = &(<const Correlation*>task).p
    cdef Py_ssize_t row
    for row in range(begin, end):
        pad_row(p, channel, row, p.padded + channel * p.plane + row * p.rowsize)


cdef void fill_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Problem* p = &(<const Correlation*>task).p
    cdef Panel panel = filled_panel(p, job)
    fill_panels(p, job // p.jobs, &panel, 1)


cdef void part_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # those that follow each other read the same, and write beside each other
    cdef const Correlation* c = <const Correlation*>task
    cdef Py_ssize_t jobs = c.p.jobs * c.p.groups
    cdef real* own = c.scratch + thread * c.per_thread
    if c.p.by_part:
        run_job(&c.p, job % jobs, job // jobs, own)
    else:
        run_job(&c.p, job // c.p.parts, job % c.p.parts, own)


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Problem* p = &(<const Correlation*>task).p
    cdef Py_ssize_t jobs = p.jobs * p.groups
    cdef Planes padded = p.x
    if not p.direct:
        find_places(p)
        padded.h = p.height
        if not p.in_place:  # a thread pads the part of the image that it will read
            run_rows(pad_rows, task, &padded, threads)
    if are_filled(p):
        share(fill_job, task, jobs, threads)
    share(part_job, task, jobs * p.parts, threads)


cdef double product(const Planes* a) noexcept:
    return <double>max(a.n, <Py_ssize_t>1) * max(a.c, <Py_ssize_t>1) * max(a.h, <Py_ssize_t>1) \
        * max(a.w, <Py_ssize_t>1)


cdef Problem problem_of(
    tuple x, tuple out, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation, bint transposed, bint direct, int threads,
) except *:
    cdef Problem p
    check_window(kernel, stride, padding, dilation, threads)
    p.x.n, p.x.c, p.x.h, p.x.w = x
    p.out.n, p.out.c, p.out.h, p.out.w = out
    if groups < 1 or p.x.c % groups or p.out.c % groups or p.x.n != p.out.n \
            or p.x.c < 1 or min(p.x.h, p.x.w) < 0 or min(p.out.n, p.out.c, p.out.h, p.out.w) < 1 \
            or <double>p.x.c * kernel[0] * kernel[1] >= 2.0**40 \
            or max(product(&p.x), product(&p.out)) >= 2.0**50:
        raise ValueError("kernel: correlate got sizes that do not fit")
    p.groups, p.cg, p.fg = groups, p.x.c // groups, p.out.c // groups
    p.rows = axis(p.x.h, p.out.h, kernel[0], stride[0], padding[0], dilation[0], transposed)
    p.cols = axis(p.x.w, p.out.w, kernel[1], stride[1], padding[1], dilation[1], transposed)
    p.taps = p.rows.kernel * p.cols.kernel
    packed(groups, p.fg, p.cg * p.taps)  # not too many
    p.mr, p.blocks = mr_of(p.fg), blocks_of(p.fg)
    p.by_tap = are_by_tap(transposed, direct, p.rows.stride, p.cols.stride)
    cut_direct(&p, threads)
    # Those that are multiplied a part at a time stay alone in the cache; but not where one tap reads
    # each plane once, so that nothing but its stretches counts.
    p.panels = 1
    p.direct = direct or not lay_out_padded(&p)
    if not p.direct and (p.taps == 1 or p.cg * p.taps <= PART):
        p.panels = max(<Py_ssize_t>1, min(jobs_of_group(&p) // JOBS, <Py_ssize_t>PANELS))
    # where there are few jobs, the blocks of channels are shared out too, by shape alone
    p.jobs = jobs_of_group(&p)
    p.parts = min(p.blocks, parts_of(JOBS, p.jobs * groups))
    # a thread reads again what it packed or filled itself, whichever is more
    p.by_part = are_filled(&p) and p.fg > p.out.h * p.out.w * p.out.n
    return p


cdef Py_ssize_t shared_size(const Problem* p) noexcept nogil:
    # numbers of scratch that all threads read: the panels, the places of the taps, the padded copy
    cdef Py_ssize_t size = 2 * p.cg * p.taps * <Py_ssize_t>sizeof(Py_ssize_t) + 64
    size = size // <Py_ssize_t>sizeof(real)
    if p.direct:
        return 0
    if not p.in_place:
        size = size + p.x.c * p.plane + 2 * VLEN + 64 // <Py_ssize_t>sizeof(real)
    return size + filled_size(p)


cdef Py_ssize_t filled_size(const Problem* p) noexcept nogil:
    # numbers of the panels that are filled before they are used
    return p.jobs * p.groups * panel_size(p.cg * p.taps) if are_filled(p) else 0


cdef Py_ssize_t thread_size(const Problem* p) noexcept nogil:
    # numbers of scratch of each thread: panels and offsets
    cdef Py_ssize_t taps = p.cg * p.taps
    cdef Py_ssize_t offsets = 2 * taps * <Py_ssize_t>sizeof(Py_ssize_t) + 64
    return own_scratch(
        offsets // <Py_ssize_t>sizeof(real)
        + (0 if are_filled(p) else p.panels * panel_size(taps)))


def scratch_size(
    tuple x, tuple out, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation, bint transposed, bint direct, int threads,
):
    """Numbers of scratch that ``correlate`` takes for arrays of the shapes x and out."""
    cdef Problem p = problem_of(
        x, out, groups, kernel, stride, padding, dilation, transposed, direct, threads)
    return shared_size(&p) + threads * thread_size(&p)


def correlate(
    object x, object w, object out, object scratch, Py_ssize_t groups,
    tuple kernel, tuple stride, tuple padding, tuple dilation,
    bint transposed, bint direct, bint relu, int threads, bint later=False,
):
    """Fill ``out`` from ``x`` and the packed weights ``w``.

    x, out: batch-last (N, C, H, W); w: 1-d, from ``pack_weights``; scratch: 1-d, of
    ``scratch_size(...)``; padding is (top, left). ``transposed`` computes the gradient by the
    input: x is then the gradient by the output. ``relu`` replaces what is below 0 by 0.
    """
    cdef Correlation call
    cdef Planes a = planes(x, False)
    cdef Planes o = planes(out, True)
    cdef Problem p = problem_of(
        (a.n, a.c, a.h, a.w), (o.n, o.c, o.h, o.w), groups, kernel, stride, padding, dilation,
        transposed, direct, threads)
    cdef Py_ssize_t shared = shared_size(&p)
    cdef Py_ssize_t size = shared + threads * thread_size(&p)
    cdef real* base = numbers(scratch, size, True)
    check_apart(base, size, o.data, extent(o))
    p.x, p.out, p.relu = a, o, relu
    p.w = numbers(w, packed(groups, p.fg, p.cg * p.taps), False)
    p.filled = from_cache_line(base)
    p.places = <Py_ssize_t*>(p.filled + filled_size(&p))
    p.weights = p.places + p.cg * p.taps
    if p.in_place:
        p.padded, p.plane = a.data, a.stride
        p.end = a.data + extent(a)
    else:
        p.padded = from_cache_line(<real*>(p.weights + p.cg * p.taps))
        p.end = p.padded + a.c * p.plane + VLEN
    call.p, call.scratch, call.per_thread = p, base + shared, thread_size(&p)
    call.task.run, call.task.threads = run, threads
    return finish(&call.task, sizeof(call), later)
