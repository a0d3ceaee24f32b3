# Sums over channels, and batch normalisation. A channel's plane is contiguous. A job is one channel, which
# is read twice while it is in the cache; or of sums, where it is read once, a part of one.

from libc.math cimport sqrt

from cyconv.kernels.planes cimport Planes, check_threads, numbers, planes, same_shape
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport VLEN, broadcast, gated, inlined, lane_sum, load, real, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport end_of_run, first_row, rows_in

cdef enum:
    SUMMED = 256 * VLEN  # numbers added up in one precision before they join the total in double
    PARTS = 8         # of a plane, but no ...
    LEAST = 64 * VLEN # ... smaller ones, for sums ...
    GROUP = 64        # ... of so many channels at a time


cdef inline double sum_of(const real* x, Py_ssize_t count, real origin) noexcept nogil:
    # the sum of x - origin
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d
    while i + 4 * VLEN <= count:
        end = min(count, i + SUMMED)
        a = b = c = d = broadcast(0)
        while i + 4 * VLEN <= end:
            a = a + (load(x + i) - origin)
            b = b + (load(x + i + VLEN) - origin)
            c = c + (load(x + i + 2 * VLEN) - origin)
            d = d + (load(x + i + 3 * VLEN) - origin)
            i = i + 4 * VLEN
        total = total + lane_sum((a + b) + (c + d))
    while i < count:
        total = total + (x[i] - origin)
        i = i + 1
    return total


cdef double squares_of(const real* x, Py_ssize_t count, real mean) noexcept nogil:
    # the sum of (x - mean)^2
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d, u
    while i + 4 * VLEN <= count:
        end = min(count, i + SUMMED)
        a = b = c = d = broadcast(0)
        while i + 4 * VLEN <= end:
            u = load(x + i) - mean
            a = a + u * u
            u = load(x + i + VLEN) - mean
            b = b + u * u
            u = load(x + i + 2 * VLEN) - mean
            c = c + u * u
            u = load(x + i + 3 * VLEN) - mean
            d = d + u * u
            i = i + 4 * VLEN
        total = total + lane_sum((a + b) + (c + d))
    while i < count:
        total = total + (x[i] - mean) * (x[i] - mean)
        i = i + 1
    return total


cdef void moments_of(const real* x, Py_ssize_t count, double* mean, double* var) noexcept nogil:
    # of all numbers; each run is read twice while it is in the cache, the first one three times. A
    # number near the mean is subtracted, so that few digits are lost to a large one. Source: Chan,
    # Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
    # 1979.
    cdef double squares = 0, run_mean, beside, shift
    cdef Py_ssize_t i = 0, run
    cdef real origin
    run = min(<Py_ssize_t>SUMMED, count)
    mean[0] = sum_of(x, run, 0) / run
    if not mean[0] - mean[0] == 0:  # infinite or NaN
        mean[0] = 0
    while i < count:
        run = min(<Py_ssize_t>SUMMED, count - i)
        origin = <real>mean[0]
        run_mean = origin + sum_of(x + i, run, origin) / run
        origin = <real>run_mean
        beside = run_mean - origin
        shift = run_mean - mean[0]
        squares = squares + squares_of(x + i, run, origin) - beside * beside * run
        squares = squares + shift * shift * i * run / (i + run)
        mean[0] = mean[0] + shift * run / (i + run)
        i = i + run
    var[0] = squares / count


cdef struct Sums:
    Task task
    Planes a
    real* out


cdef struct PartSums:
    const Sums* sums
    double* found             # (parts, group)
    Py_ssize_t first, group   # channels
    Py_ssize_t parts          # of each


cdef void sum_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # a thread takes the same parts of all channels, as other kernels share out rows
    cdef const PartSums* p = <const PartSums*>task
    cdef const Planes* a = &p.sums.a
    cdef Py_ssize_t count = a.n * a.h * a.w, part = job // p.group
    cdef const real* plane = a.data + (p.first + job % p.group) * a.stride
    p.found[job] = sum_of(plane + first_row(part, count, p.parts), rows_in(part, count, p.parts), 0)


cdef void run_sums(const void* task, int threads) noexcept nogil:
    cdef const Sums* s = <const Sums*>task
    cdef double found[GROUP * PARTS]
    cdef PartSums p
    cdef Py_ssize_t part, c
    p.sums, p.found, p.first = s, found, 0
    p.parts = max(<Py_ssize_t>1, min(<Py_ssize_t>PARTS, s.a.n * s.a.h * s.a.w // LEAST))
    while p.first < s.a.c:
        p.group = min(<Py_ssize_t>GROUP, s.a.c - p.first)
        share(sum_job, &p, p.group * p.parts, threads)
        for c in range(p.group):
            for part in range(1, p.parts):
                found[c] = found[c] + found[part * p.group + c]
            s.out[p.first + c] = <real>found[c]
        p.first = p.first + p.group


def channel_sum(object a, object out, int threads, bint later=False):
    """Fill out, 1-d (C,), with the sums of a, batch-last (N, C, H, W), over all axes but C."""
    cdef Sums s
    check_threads(threads)
    s.a = planes(a, False)
    s.out = numbers(out, s.a.c, True)
    s.task.run, s.task.threads = run_sums, threads
    return finish(&s.task, sizeof(s), later)


cdef struct Affine:
    real mean, scale, shift  # out = (x - mean) * scale + shift


cdef inline real normal(const Affine* to_out, real x) noexcept nogil:
    return (x - to_out.mean) * to_out.scale + to_out.shift


cdef inline vreal normal_lanes(const Affine* to_out, vreal x) noexcept nogil:
    # the same bits
    return (x - to_out.mean) * to_out.scale + to_out.shift


cdef struct Norm:
    Task task
    Planes x, residual, out
    const real* gamma
    const real* beta
    real* mean
    real* var
    real* inv_std
    real* running_mean
    real* running_var
    real momentum
    double eps
    bint relu, by_running


cdef void norm_channel(const void* task, Py_ssize_t c, int thread) noexcept nogil:
    cdef const Norm* norm = <const Norm*>task
    cdef const real* x = norm.x.data + c * norm.x.stride
    cdef const real* residual = NULL
    cdef real* out = norm.out.data + c * norm.out.stride
    cdef Py_ssize_t i, begin = 0, end, count = norm.x.n * norm.x.h * norm.x.w
    cdef Affine to_out
    cdef double mean_, var_
    cdef real y
    if norm.residual.data != NULL:
        residual = norm.residual.data + c * norm.residual.stride
    if norm.by_running:
        mean_, var_ = norm.running_mean[c], norm.running_var[c]
    else:
        moments_of(x, count, &mean_, &var_)
    cdef real m = <real>mean_
    cdef real s = <real>(1 / sqrt(var_ + norm.eps))
    to_out.mean = m
    to_out.scale = s * norm.gamma[c] if norm.gamma != NULL else s
    to_out.shift = norm.beta[c] if norm.beta != NULL else 0
    while begin < count:
        end = end_of_run(out, begin, count)
        for i in range(begin, end):
            y = normal(&to_out, x[i])
            if residual != NULL:
                y = y + residual[i]
            out[i] = 0 if norm.relu and y < 0 else y
        begin = end
    norm.mean[c] = m
    norm.var[c] = <real>var_
    norm.inv_std[c] = s
    cdef real share = norm.momentum
    if norm.running_mean != NULL and not norm.by_running:
        norm.running_mean[c] = (1 - share) * norm.running_mean[c] + share * m
        norm.running_var[c] = (1 - share) * norm.running_var[c] \
            + share * <real>(var_ * count / (count - 1))


cdef void run_norm(const void* task, int threads) noexcept nogil:
    share(norm_channel, task, (<const Norm*>task).x.c, threads)


def batch_norm(
    object x, object residual, object out, object gamma, object beta, object mean, object var,
    object inv_std, object running_mean, object running_var, object momentum, double eps,
    bint relu, int threads, bint later=False,
):
    """Fill out, and mean, var and inv_std (C,), from x, batch-last; gamma, beta (C,) or None.

    running_mean and running_var, (C,) or both None, become (1 - momentum) times what they are plus
    momentum times the mean and the unbiased variance; if momentum is None they stay, and are taken
    for mean and var. residual, as x or None, is added to out; then ``relu`` replaces what is below 0
    by 0.
    """
    cdef Norm norm
    check_threads(threads)
    norm.x = planes(x, False)
    norm.out = planes(out, True)
    same_shape(norm.x, norm.out)
    norm.residual.data = NULL
    if residual is not None:
        norm.residual = planes(residual, False)
        same_shape(norm.x, norm.residual)
    norm.gamma = NULL if gamma is None else numbers(gamma, norm.x.c, False)
    norm.beta = NULL if beta is None else numbers(beta, norm.x.c, False)
    norm.mean = numbers(mean, norm.x.c, True)
    norm.var = numbers(var, norm.x.c, True)
    norm.inv_std = numbers(inv_std, norm.x.c, True)
    norm.running_mean = norm.running_var = NULL
    if running_mean is not None:
        norm.running_mean = numbers(running_mean, norm.x.c, momentum is not None)
        norm.running_var = numbers(running_var, norm.x.c, momentum is not None)
    norm.by_running, norm.eps, norm.relu = momentum is None, eps, relu
    norm.momentum = <real>(0 if norm.by_running else <double>momentum)
    if norm.by_running and running_mean is None:
        raise ValueError("kernel: batch_norm needs a momentum or running statistics")
    if norm.x.n * norm.x.h * norm.x.w < (1 if running_mean is None or norm.by_running else 2):
        raise ValueError("kernel: batch_norm needs at least one value, a running variance two")
    norm.task.run, norm.task.threads = run_norm, threads
    return finish(&norm.task, sizeof(norm), later)


# ------------------------------------------------------------------ backward


cdef inline vreal arriving(
    const bint relu, const real* dout, const real* x, const Affine* to_out, Py_ssize_t i
) noexcept nogil:
    # the gradient before the ReLU behind out, if any: out is computed again, rather than read
    if not relu:
        return load(dout + i)
    return gated(load(dout + i), normal_lanes(to_out, load(x + i)))


cdef inline real arriving_number(
    const bint relu, const real* dout, const real* x, const Affine* to_out, Py_ssize_t i
) noexcept nogil:
    return 0 if relu and normal(to_out, x[i]) <= 0 else dout[i]


cdef inline inlined grad_sums(
    const bint relu, const real* dout, const real* x, Py_ssize_t count, const Affine* to_out,
    double* total, double* along,
) noexcept nogil:
    # the sums of dout and of dout * (x - mean)
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d, u, v
    cdef real last, mean = to_out.mean
    total[0] = along[0] = 0
    while i + 2 * VLEN <= count:
        end = min(count, i + SUMMED)
        a = b = c = d = broadcast(0)
        while i + 2 * VLEN <= end:
            u, v = arriving(relu, dout, x, to_out, i), arriving(relu, dout, x, to_out, i + VLEN)
            a, b = a + u, b + v
            c = c + u * (load(x + i) - mean)
            d = d + v * (load(x + i + VLEN) - mean)
            i = i + 2 * VLEN
        total[0] = total[0] + lane_sum(a + b)
        along[0] = along[0] + lane_sum(c + d)
    while i < count:
        last = arriving_number(relu, dout, x, to_out, i)
        total[0] = total[0] + last
        along[0] = along[0] + last * (x[i] - mean)
        i = i + 1


cdef struct NormGradient:
    Task task
    Planes dout, x, dx
    const real* gamma
    const real* beta
    const real* mean
    const real* inv_std
    real* dgamma
    real* dbeta
    bint relu


cdef inline inlined norm_grad_channel(
    const bint relu, const NormGradient* g, Py_ssize_t c
) noexcept nogil:
    # dx = gamma inv_std (dout - mean(dout) - xhat mean(dout xhat)), xhat = (x - mean) inv_std
    cdef const real* dout = g.dout.data + c * g.dout.stride
    cdef const real* x = g.x.data + c * g.x.stride
    cdef real* dx = g.dx.data + c * g.dx.stride
    cdef real mean = g.mean[c], inv_std = g.inv_std[c]
    cdef Affine to_out
    cdef double total, along
    cdef Py_ssize_t i, begin = 0, end, count = g.x.n * g.x.h * g.x.w
    to_out.mean = mean
    to_out.scale = inv_std * g.gamma[c] if g.gamma != NULL else inv_std
    to_out.shift = g.beta[c] if g.beta != NULL else 0
    grad_sums(relu, dout, x, count, &to_out, &total, &along)
    along = along * inv_std
    cdef real shift = <real>(total / count)
    cdef real slope = <real>(along / count) * inv_std
    while begin < count:
        end = end_of_run(dx, begin, count)
        for i in range(begin, end):
            dx[i] = to_out.scale * (
                arriving_number(relu, dout, x, &to_out, i) - shift - (x[i] - mean) * slope)
        begin = end
    g.dgamma[c] = <real>along
    g.dbeta[c] = <real>total


cdef void norm_grad_job(const void* task, Py_ssize_t c, int thread) noexcept nogil:
    # whether there was a ReLU becomes a constant
    cdef const NormGradient* g = <const NormGradient*>task
    if g.relu:
        norm_grad_channel(True, g, c)
    else:
        norm_grad_channel(False, g, c)


cdef void run_norm_grad(const void* task, int threads) noexcept nogil:
    share(norm_grad_job, task, (<const NormGradient*>task).x.c, threads)


def batch_norm_backward(
    object dout, object x, object dx, object gamma, object beta, object mean, object inv_std,
    object dgamma, object dbeta, bint relu, int threads, bint later=False,
):
    """Fill dx, and dgamma and dbeta (C,), from dout, what ``batch_norm`` was given, and found."""
    cdef NormGradient g
    check_threads(threads)
    g.dout = planes(dout, False)
    g.x = planes(x, False)
    g.dx = planes(dx, True)
    same_shape(g.dout, g.x)
    same_shape(g.x, g.dx)
    g.relu = relu
    g.gamma = NULL if gamma is None else numbers(gamma, g.x.c, False)
    g.beta = NULL if beta is None else numbers(beta, g.x.c, False)
    g.mean = numbers(mean, g.x.c, False)
    g.inv_std = numbers(inv_std, g.x.c, False)
    g.dgamma = numbers(dgamma, g.x.c, True)
    g.dbeta = numbers(dbeta, g.x.c, True)
    if g.x.n * g.x.h * g.x.w < 1:
        raise ValueError("kernel: batch_norm_backward needs at least one value")
    g.task.run, g.task.threads = run_norm_grad, threads
    return finish(&g.task, sizeof(g), later)
