# A kernel call that was checked and is kept to be run again and again: a struct of the kernel's own,
# which begins with a Task. `task_of` makes a Python object of it, which `program.pyx` runs. The
# arrays that it works on are not kept alive.
#
# A def entry fills the struct and calls `finish` with what it was given as ``later``: False runs the
# task now, True does nothing now but gives it, for a program.

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

ctypedef void (*Runner)(const void* task, int threads) noexcept nogil


cdef struct Task:
    Runner run    # gets the address of the struct, and how many threads it may take at most
    int threads   # that it wants, and has scratch memory for


cdef inline void free_task(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, "cyconv.task"))


cdef inline object task_of(const void* task, size_t size):
    cdef void* copy = malloc(size)
    if copy == NULL:
        raise MemoryError("kernel: no memory for a task")
    memcpy(copy, task, size)
    return PyCapsule_New(copy, "cyconv.task", free_task)


cdef inline object finish(const Task* task, size_t size, bint later):
    if later:
        return task_of(task, size)
    with nogil:
        task.run(task, task.threads)
    return None
