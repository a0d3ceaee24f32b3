# What this processor has, and how the kernels were built. Compiled once, for any processor.

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
      static int has_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
      }
      static int has_avx512(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512cd") && has_avx2();
      }
    #else
      static int has_avx2(void) { return 0; }
      static int has_avx512(void) { return 0; }
    #endif
    #ifdef _OPENMP
      #define CYCONV_OPENMP _OPENMP
    #else
      #define CYCONV_OPENMP 0
    #endif
    #if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
      #define PAUSE() __builtin_ia32_pause()
    #elif defined(__GNUC__)
      #define PAUSE() __asm__ volatile("" ::: "memory")
    #else
      #define PAUSE() do { volatile int looks = 0; (void)looks; } while (0)
    #endif
    #if defined(__VERSION__)
      #define CYCONV_COMPILER __VERSION__
    #else
      #define CYCONV_COMPILER "unknown"
    #endif
    """
    bint has_avx2() noexcept nogil
    bint has_avx512() noexcept nogil
    void pause "PAUSE"() noexcept nogil
    const int CYCONV_OPENMP
    const char* CYCONV_COMPILER

openmp = CYCONV_OPENMP
compiler = CYCONV_COMPILER.decode("ascii", "replace")


def supports(str isa):
    """True if the processor runs code built for "avx512" or "avx2"; any other is the baseline."""
    if isa == "avx512":
        return bool(has_avx512())
    if isa == "avx2":
        return bool(has_avx2())
    return True


def wait(int times):
    """Do what GNU's OpenMP does so often while a thread waits for another one, and nothing else."""
    cdef int i
    for i in range(times):
        pause()
