/* One vector of numbers. The build says what a number is (CYCONV_REAL), how many fill a vector
   register of the instruction set (CYCONV_VLEN) and how many vector registers there are. */
#ifndef CYCONV_SIMD_H
#define CYCONV_SIMD_H

typedef CYCONV_REAL real;

#if CYCONV_VLEN > 1
/* gcc and clang turn arithmetic on this type into vector instructions; a scalar operand is
   broadcast. aligned: may lie at any address of a real. may_alias: may overlay an array of reals. */
typedef real vreal __attribute__((vector_size(CYCONV_VLEN * sizeof(real)), aligned(sizeof(real)), may_alias));
#else
typedef real vreal; /* a compiler without vector types: the same source, one number at a time */
#endif

enum { VLEN = CYCONV_VLEN };
/* A tile of the convolution: MR_MAX output channels by 2 vectors, accumulated in registers. Two
   registers hold the input, the rest the accumulators. */
enum { MR_MAX = CYCONV_REGISTERS >= 32 ? 14 : 6 };
/* A tile of the weight gradient: TR taps by FR_OF(TR) output channels, accumulated in registers. */
enum { TR_MAX = 6 };
#if CYCONV_REGISTERS >= 32
enum { FR1 = 12, FR2 = 9, FR3 = 7, FR4 = 6, FR5 = 5, FR6 = 4 };
#else
enum { FR1 = 6, FR2 = 4, FR3 = 3, FR4 = 2, FR5 = 2, FR6 = 2 };
#endif

static inline vreal broadcast(real x) {
  vreal zeros = {0};
  return zeros + x;
}

#if defined(__GNUC__)
#define ALWAYS_INLINE __attribute__((always_inline))
#else
#define ALWAYS_INLINE
#endif

#endif
