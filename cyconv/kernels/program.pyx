# Many kernel calls as one: the tasks that kernels give with ``later=True``, run one after the other
# without the interpreter between them. Compiled once, for any processor: all it does is call.

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from libc.stdlib cimport free, malloc

from cyconv.kernels.task cimport Task


def run(tuple tasks not None, int threads):
    """Run tasks in order, on at most so many threads. What they work on must still be there."""
    cdef Py_ssize_t i, count = len(tasks)
    if not 1 <= threads <= 1024:
        raise ValueError(f"kernel: {threads} threads are out of range")
    for task in tasks:
        if not PyCapsule_IsValid(task, "cyconv.task"):
            raise TypeError(f"kernel: a program consists of tasks, got {task!r}")
    cdef const Task** calls = <const Task**>malloc((count + 1) * sizeof(Task*))
    if calls == NULL:
        raise MemoryError("kernel: no memory for a program")
    for i in range(count):
        calls[i] = <const Task*>PyCapsule_GetPointer(tasks[i], "cyconv.task")
    with nogil:
        for i in range(count):
            calls[i].run(calls[i], min(threads, calls[i].threads))
    free(<void*>calls)
