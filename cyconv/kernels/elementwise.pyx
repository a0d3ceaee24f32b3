# One pass over each array: relu, sums, the optimisers' updates, and the change of memory layout.

from libc.math cimport sqrt
from libc.stdlib cimport free, realloc

from cyconv.kernels.pack cimport pack_rows
from cyconv.kernels.planes cimport Planes, all_numbers, check_threads, numbers, planes, same_shape
from cyconv.kernels.share cimport run_rows, share, share_in_turn
from cyconv.kernels.simd cimport SMALLEST_NORMAL, inlined, real
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport end_of_run, parts_of

cdef enum:
    CHUNK = 16384  # numbers of a parameter that a job updates
    SQUARE = 32    # pixels of all images that a job transposes


cdef enum:
    RELU, GATE, ADD, ADD_RELU, ADD_GATE  # what is done with each number
    RELU_SEARCH  # as RELU, and `zero` is set if there is one


cdef struct Elementwise:
    Task task
    Planes a, b, gate, out  # b and gate where they are read
    int what
    bint* zero


cdef inline inlined run_of(
    const int what, const real* a, const real* b, const real* gate, real* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i, begin = 0, end
    cdef real x
    while begin < count:
        end = end_of_run(out, begin, count)
        for i in range(begin, end):
            x = a[i] if what == RELU or what == GATE else a[i] + b[i]
            if what == GATE or what == ADD_GATE:
                out[i] = 0 if gate[i] <= 0 else x
            else:
                out[i] = 0 if what != ADD and x < 0 else x  # NaN is not below 0: it stays
        begin = end


cdef bint run_and_search(const real* a, real* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef bint found = False
    for i in range(count):
        found = found | (a[i] == 0)
        out[i] = 0 if a[i] < 0 else a[i]
    return found


cdef void run_job(
    const void* task, Py_ssize_t channel, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    # what is done becomes a constant
    cdef const Elementwise* e = <const Elementwise*>task
    cdef Py_ssize_t row = e.out.w * e.out.n, first = begin * row, count = (end - begin) * row
    cdef const real* a = e.a.data + channel * e.a.stride + first
    cdef const real* b = e.b.data + channel * e.b.stride + first
    cdef const real* gate = e.gate.data + channel * e.gate.stride + first
    cdef real* out = e.out.data + channel * e.out.stride + first
    if e.what == RELU: run_of(RELU, a, b, gate, out, count)
    elif e.what == GATE: run_of(GATE, a, b, gate, out, count)
    elif e.what == ADD: run_of(ADD, a, b, gate, out, count)
    elif e.what == ADD_RELU: run_of(ADD_RELU, a, b, gate, out, count)
    elif e.what == ADD_GATE: run_of(ADD_GATE, a, b, gate, out, count)
    elif run_and_search(a, out, count): e.zero[0] = True


cdef void run(const void* task, int threads) noexcept nogil:
    run_rows(run_job, task, &(<const Elementwise*>task).out, threads)


cdef object elementwise(
    int what, object a, object b, object gate, object out, int threads, bint later, bint* zero=NULL
):
    cdef Elementwise e
    check_threads(threads)
    e.a = planes(a, False)
    e.b = planes(b, False)
    e.gate = planes(gate, False)
    e.out = planes(out, True)
    same_shape(e.a, e.b)
    same_shape(e.b, e.gate)
    same_shape(e.gate, e.out)
    e.what, e.zero = what, zero
    e.task.run, e.task.threads = run, threads
    return finish(&e.task, sizeof(e), later)


def relu(object x, object out, int threads, bint later=False):
    """Fill out with max(x, 0); batch-last arrays of one shape."""
    return elementwise(RELU, x, x, x, out, threads, later)


def relu_and_search(object x, object out, int threads):
    """As relu; returns True if one of the numbers of x is 0 or -0."""
    cdef bint zero = False
    elementwise(RELU_SEARCH, x, x, x, out, threads, False, &zero)
    return zero


def relu_backward(object dout, object out, object dx, int threads, bint later=False):
    """Fill dx with dout where out is not at most 0, else 0; batch-last arrays of one shape."""
    return elementwise(GATE, dout, dout, out, dx, threads, later)


def add(object a, object b, object gate, object out, bint relu, int threads, bint later=False):
    """Fill out with a + b, or with max(a + b, 0) if ``relu``; batch-last arrays of one shape.

    Or, if there is a gate, with 0 where that is at most 0, and else a + b.
    """
    if gate is None:
        return elementwise(ADD_RELU if relu else ADD, a, b, a, out, threads, later)
    return elementwise(ADD_GATE, a, b, gate, out, threads, later)


# ------------------------------------------------------------------ optimisers


cdef struct Piece:
    # of a parameter: numbers, the gradients by them, and what is kept for each of them
    real* w
    const real* grad
    real* first
    real* second
    Py_ssize_t count


cdef struct Pieces:
    Piece* begin
    Py_ssize_t count


cdef struct Sgd:
    Pieces pieces
    real lr, momentum, fresh, decay
    bint nesterov


cdef struct Adam:
    Pieces pieces
    real rate, scale, old1, new1, old2, new2, eps, coupled, shrink


cdef real* numbers_of(object array, Py_ssize_t count, bint writable) except? NULL:
    # of an array that has so many
    cdef Py_ssize_t size
    cdef real* data = all_numbers(array, &size, writable)
    if size != count:
        raise ValueError(f"kernel: need {count} numbers, got {size}")
    return data


cdef int add_pieces(Pieces* pieces, Piece whole) except -1:
    # cut one parameter
    cdef Py_ssize_t i, more = parts_of(whole.count, CHUNK)
    cdef size_t size = (pieces.count + more + 1) * sizeof(Piece)
    cdef Piece* begin = <Piece*>realloc(pieces.begin, size)
    cdef Piece* piece
    if begin == NULL:
        raise MemoryError("kernel: no memory for the list of parameters")
    pieces.begin = begin
    for i in range(more):
        piece = begin + pieces.count
        piece.w, piece.grad = whole.w + i * CHUNK, whole.grad + i * CHUNK
        piece.first = whole.first + i * CHUNK if whole.first != NULL else NULL
        piece.second = whole.second + i * CHUNK if whole.second != NULL else NULL
        piece.count = min(<Py_ssize_t>CHUNK, whole.count - i * CHUNK)
        pieces.count = pieces.count + 1
    return 0


cdef int cut(Pieces* pieces, object ws, object grads, object firsts, object seconds) except -1:
    # of all parameters; seconds is None if one array at most is kept for each, firsts has None where
    # not even that. pieces.begin is to be freed.
    cdef tuple w = tuple(ws), grad = tuple(grads), first = tuple(firsts)
    cdef tuple second = first if seconds is None else tuple(seconds)
    cdef Py_ssize_t i, count = len(w)
    cdef Piece whole
    pieces.begin, pieces.count = NULL, 0
    for arrays in (grad, first, second):
        if len(arrays) != count:
            raise ValueError(f"kernel: got {len(arrays)} arrays for {count} parameters")
    try:
        for i in range(count):
            whole.w = all_numbers(w[i], &whole.count, True)
            whole.grad = numbers_of(grad[i], whole.count, False)
            whole.first = whole.second = NULL
            if seconds is not None or first[i] is not None:
                whole.first = numbers_of(first[i], whole.count, True)
            if seconds is not None:
                whole.second = numbers_of(second[i], whole.count, True)
            add_pieces(pieces, whole)
    except BaseException:
        free(pieces.begin)
        raise
    return 0


cdef inline real kept(real x) noexcept nogil:
    # Where gradients are 0, of a ReLU that lets nothing through, say, what is kept of them would fade
    # for hundreds of steps below what processors compute with quickly.
    return 0 if -SMALLEST_NORMAL < x < SMALLEST_NORMAL else x


cdef void sgd_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Sgd* s = <const Sgd*>task
    cdef const Piece* p = s.pieces.begin + job
    cdef real* w = p.w
    cdef const real* grad = p.grad
    cdef real* velocity = p.first
    cdef real lr = s.lr, momentum = s.momentum, fresh = s.fresh, decay = s.decay
    cdef bint nesterov = s.nesterov
    cdef Py_ssize_t i
    cdef real g
    if velocity == NULL:
        for i in range(p.count):
            w[i] = w[i] - lr * (grad[i] + decay * w[i])
    else:
        for i in range(p.count):
            g = grad[i] + decay * w[i]
            velocity[i] = kept(momentum * velocity[i] + fresh * g)
            w[i] = w[i] - lr * (g + momentum * velocity[i] if nesterov else velocity[i])


def sgd_step(
    object ws, object grads, object velocities, double lr, double momentum, double dampening,
    double weight_decay, bint nesterov, int threads,
):
    """Update parameters and velocities in place from gradients: lists of arrays in C order.

    A velocity is None if that parameter has no momentum.
    """
    cdef Sgd s
    check_threads(threads)
    s.lr, s.momentum, s.fresh = <real>lr, <real>momentum, <real>(1 - dampening)
    s.decay, s.nesterov = <real>weight_decay, nesterov
    cut(&s.pieces, ws, grads, velocities, None)
    with nogil:
        share_in_turn(sgd_job, &s, s.pieces.count, 1, threads)
    free(s.pieces.begin)


cdef void adam_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Adam* a = <const Adam*>task
    cdef const Piece* p = a.pieces.begin + job
    cdef real* w = p.w
    cdef const real* grad = p.grad
    cdef real* m = p.first
    cdef real* v = p.second
    cdef real old1 = a.old1, new1 = a.new1, old2 = a.old2, new2 = a.new2, eps = a.eps
    cdef real rate = a.rate, scale = a.scale, coupled = a.coupled, shrink = a.shrink
    cdef Py_ssize_t i
    cdef real g
    for i in range(p.count):
        w[i] = w[i] * shrink
        g = grad[i] + coupled * w[i]
        m[i] = kept(old1 * m[i] + new1 * g)
        v[i] = kept(old2 * v[i] + new2 * g * g)
        w[i] = w[i] - rate * m[i] / (<real>sqrt(v[i]) * scale + eps)


def adam_step(
    object ws, object grads, object ms, object vs, Py_ssize_t step, double lr, double beta1,
    double beta2, double eps, double weight_decay, bint decoupled, int threads,
):
    """Update parameters, ms and vs in place from gradients: lists of arrays in C order."""
    cdef Adam a
    check_threads(threads)
    # the differences in double: of a rounded beta little is left
    a.rate, a.scale = <real>(lr / (1 - beta1 ** step)), <real>(1 / sqrt(1 - beta2 ** step))
    a.old1, a.new1, a.old2, a.new2 = <real>beta1, <real>(1 - beta1), <real>beta2, <real>(1 - beta2)
    a.eps, a.coupled, a.shrink = <real>eps, <real>weight_decay, 1
    if decoupled:
        a.coupled, a.shrink = 0, <real>(1 - lr * weight_decay)
    cut(&a.pieces, ws, grads, ms, tuple(vs))
    with nogil:
        share_in_turn(adam_job, &a, a.pieces.count, 1, threads)
    free(a.pieces.begin)


# ------------------------------------------------------------------ layout


cdef struct Transposition:
    const real* src
    Planes dst
    Py_ssize_t pixels, blocks  # of a plane


cdef void transpose_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Transposition* t = <const Transposition*>task
    cdef Py_ssize_t plane = job // t.blocks, first = job % t.blocks * SQUARE
    pack_rows(t.src + plane * t.pixels + first, t.dst.c * t.pixels, t.dst.n,
              min(<Py_ssize_t>SQUARE, t.pixels - first),
              t.dst.data + plane * t.dst.stride + first * t.dst.n, t.dst.n)


def to_batch_last(object src, object dst, int threads):
    """Fill dst, batch-last (N, C, H, W), from src, 1-d: the same images in C order."""
    check_threads(threads)
    cdef Planes d = planes(dst, True)
    cdef Py_ssize_t pixels = d.h * d.w
    cdef const real* a = numbers(src, d.n * d.c * pixels, False)
    cdef Transposition t
    if d.n == 0:
        return
    if d.stride == pixels * d.n:  # no gaps: the pixels of all planes are as those of one
        d.c, pixels = 1, d.c * pixels
    t.src, t.dst, t.pixels = a, d, pixels
    t.blocks = parts_of(pixels, SQUARE)
    with nogil:
        share(transpose_job, &t, d.c * t.blocks, threads)
