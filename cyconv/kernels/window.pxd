# Where a sliding window meets its input, along one axis. Forward, output position o and kernel
# position k meet input position o * stride - before + k * dilation. Transposed (gradients by the
# input), the roles of input and output are swapped.

from cyconv.kernels.tile cimport parts_of


cdef struct Axis:
    Py_ssize_t size      # of the array that is read
    Py_ssize_t out       # of the array that is written
    Py_ssize_t kernel, stride, before, dilation
    bint transposed


cdef inline Axis axis(
    Py_ssize_t size, Py_ssize_t out, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t before,
    Py_ssize_t dilation, bint transposed,
) noexcept nogil:
    cdef Axis a
    a.size, a.out, a.kernel, a.stride = size, out, kernel, stride
    a.before, a.dilation, a.transposed = before, dilation, transposed
    return a


cdef inline int check_sizes(tuple sizes, Py_ssize_t least) except -1:
    cdef Py_ssize_t value
    for size in sizes:
        value = size
        if not least <= value < 2147483648:
            raise ValueError(f"kernel: {value} in a window is out of range")
    return 0


cdef inline int check_window(
    tuple kernel, tuple stride, tuple padding, tuple dilation, int threads
) except -1:
    # bounds within which no product of a position and a step leaves 64 bits
    check_sizes(kernel, 1)
    check_sizes(stride, 1)
    check_sizes(dilation, 1)
    check_sizes(padding, 0)
    if len(kernel) != 2 or len(stride) != 2 or len(dilation) != 2 or len(padding) < 2:
        raise ValueError("kernel: a window has two sizes each")
    if not 1 <= threads <= 1024:
        raise ValueError(f"kernel: {threads} threads are out of range")
    return 0


cdef inline Py_ssize_t source(const Axis* a, Py_ssize_t o, Py_ssize_t k) noexcept nogil:
    # the position read for written position o and kernel position k, or -1 if there is none
    cdef Py_ssize_t i
    if a.transposed:
        i = o + a.before - k * a.dilation
        if a.stride > 1:  # a division takes as long as ten multiplications
            if i < 0 or i % a.stride != 0:
                return -1
            i = i // a.stride
    else:
        i = o * a.stride - a.before + k * a.dilation
    return i if 0 <= i < a.size else -1


cdef struct Sources:
    # the kernel positions that have a source for one written position: they lie evenly apart, and so do
    # their sources
    Py_ssize_t of                 # the written position
    Py_ssize_t count
    Py_ssize_t k, k_step          # the first of them
    Py_ssize_t place, place_step  # its source


cdef inline Sources sources(const Axis* a, Py_ssize_t o) noexcept nogil:
    # found once for many uses: divisions take longer than what is done with a source
    cdef Sources found
    cdef Py_ssize_t k, place
    found.of, found.count = o, 0
    found.k = found.place = found.k_step = found.place_step = 0
    for k in range(first_k(a, o), end_k(a, o)):
        place = source(a, o, k)
        if place < 0:
            continue
        if found.count == 0:
            found.k, found.place = k, place
        elif found.count == 1:
            found.k_step, found.place_step = k - found.k, place - found.place
        found.count = found.count + 1
    return found


cdef inline Py_ssize_t k_at(const Sources* s, Py_ssize_t i) noexcept nogil:
    return s.k + i * s.k_step


cdef inline Py_ssize_t place_at(const Sources* s, Py_ssize_t i) noexcept nogil:
    return s.place + i * s.place_step


cdef inline Py_ssize_t pace(const Axis* a) noexcept nogil:
    # how far the positions that are read move on from one written position to the next, ...
    return 1 if a.transposed else a.stride


cdef inline Py_ssize_t spread(const Axis* a) noexcept nogil:
    # ... and how far apart those written positions lie that the same kernel positions serve
    return a.stride if a.transposed else 1


cdef inline bint is_inner(const Axis* a, Py_ssize_t o) noexcept nogil:
    # whether no kernel position falls outside of what is read
    cdef Py_ssize_t reach = (a.kernel - 1) * a.dilation, i
    if a.transposed:
        i = o + a.before
        return i >= reach and i < a.size * a.stride
    i = o * a.stride - a.before
    return i >= 0 and i + reach < a.size


cdef inline Py_ssize_t first_k(const Axis* a, Py_ssize_t o) noexcept nogil:
    # no kernel position before this one has a source
    cdef Py_ssize_t reach
    if a.transposed:
        reach = o + a.before - (a.size - 1) * a.stride
    else:
        reach = a.before - o * a.stride
    return parts_of(reach, a.dilation) if reach > 0 else 0


cdef inline Py_ssize_t end_k(const Axis* a, Py_ssize_t o) noexcept nogil:
    # no kernel position from this one on has a source
    cdef Py_ssize_t reach
    if a.transposed:
        reach = o + a.before
    else:
        reach = a.size - 1 + a.before - o * a.stride
    return min(a.kernel, reach // a.dilation + 1) if reach >= 0 else 0
