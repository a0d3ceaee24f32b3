/* One vector of numbers. The build says what a number is (CYCONV_REAL), how many fill a vector
   register of the instruction set (CYCONV_VLEN) and how many vector registers there are. */
#ifndef CYCONV_SIMD_H
#define CYCONV_SIMD_H

#include <float.h>
#include <stdint.h>

typedef CYCONV_REAL real;
#define SMALLEST_NORMAL (sizeof(real) == sizeof(float) ? (real)FLT_MIN : (real)DBL_MIN)

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
/* A tile of the weight gradient: TR taps by FR1 to FR6 output channels, accumulated in registers. */
enum { TR_MAX = 9 };
#if CYCONV_REGISTERS >= 32
enum { FR1 = 12, FR2 = 10, FR3 = 8, FR4 = 6, FR5 = 5, FR6 = 4 };
#else
enum { FR1 = 6, FR2 = 4, FR3 = 3, FR4 = 2, FR5 = 2, FR6 = 2 };
#endif

/* Masks of the first lanes, where there are instructions that read or write no others. (AVX2 has one to
   write, too, but on some processors that takes longer than one number after the other.) */
#if CYCONV_VLEN > 1 && defined(__GNUC__) && defined(__AVX512F__)
#include <immintrin.h>
#define FIRST(count) ((1u << (count)) - 1)
#if CYCONV_VLEN == 16
#define MASKED_LOAD(p, mask) _mm512_maskz_loadu_ps((__mmask16)(mask), p)
#define MASKED_STORE(p, mask, v) _mm512_mask_storeu_ps(p, (__mmask16)(mask), (__m512)(v))
#else
#define MASKED_LOAD(p, mask) _mm512_maskz_loadu_pd((__mmask8)(mask), p)
#define MASKED_STORE(p, mask, v) _mm512_mask_storeu_pd(p, (__mmask8)(mask), (__m512d)(v))
#endif
#elif CYCONV_VLEN > 1 && defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
static const int lanes_on[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
#define FIRST(count) _mm256_loadu_si256((const __m256i *)(lanes_on + 8 - (count) * (8 / CYCONV_VLEN)))
#if CYCONV_VLEN == 8
#define MASKED_LOAD(p, mask) _mm256_maskload_ps(p, mask)
#else
#define MASKED_LOAD(p, mask) _mm256_maskload_pd(p, mask)
#endif
#endif

static inline vreal broadcast(real x) {
  vreal zeros = {0};
  return x - zeros; /* which is x, also for -0; the sum would be 0 for -0 */
}

#if CYCONV_VLEN > 1
typedef __typeof__((vreal){0} < (vreal){0}) lane_numbers; /* comparisons give 0 or -1 */
/* as many integers as there are lanes, of 32 bits whatever a number has */
typedef int32_t vint __attribute__((vector_size(CYCONV_VLEN * sizeof(int32_t)), aligned(4), may_alias));
#else
typedef int32_t vint;
#endif

/* max(v, 0) in each lane; NaN is not below 0: it stays. */
static inline vreal rectified(vreal v) {
#if CYCONV_VLEN > 1
  return (vreal)((lane_numbers)v & ~(v < 0));
#else
  return v < 0 ? 0 : v;
#endif
}

/* v in the lanes where gate is not at most 0, and 0 in the others. */
static inline vreal gated(vreal v, vreal gate) {
#if CYCONV_VLEN > 1
  return (vreal)((lane_numbers)v & ~(gate <= 0));
#else
  return gate <= 0 ? 0 : v;
#endif
}

static inline vint every(int32_t x) {
  vint zeros = {0};
  return x + zeros;
}

/* v and its number, in the lanes where v is larger than the best so far, or NaN, which is not equal to
   itself. */
static inline void take_larger(vreal *best, vint *numbers, vreal v, int32_t number) {
#if CYCONV_VLEN > 1
  lane_numbers wins = (v > *best) | (v != v);
  vint chosen = __builtin_convertvector(wins, vint);
  *best = (vreal)(((lane_numbers)v & wins) | ((lane_numbers)*best & ~wins));
  *numbers = (number & chosen) | (*numbers & ~chosen);
#else
  if (v > *best || v != v) *best = v, *numbers = number;
#endif
}

/* The first `count` numbers of v, or all VLEN. */
static inline void store_ints(int32_t *p, vint v, Py_ssize_t count) {
  const int32_t *lanes = (const int32_t *)&v;
  Py_ssize_t i;
  if (count >= CYCONV_VLEN)
    *(vint *)p = v;
  else
    for (i = 0; i < count; i++) p[i] = lanes[i];
}

/* v in the lanes whose number is the one that is looked for, and 0 in the others. No more than the first
   `count` numbers are read. */
static inline vreal where_equal(vreal v, const int32_t *numbers, int32_t number, Py_ssize_t count) {
#if CYCONV_VLEN > 1
  int32_t first[CYCONV_VLEN] = {0};
  Py_ssize_t i;
  if (count < CYCONV_VLEN) {
    for (i = 0; i < count; i++) first[i] = numbers[i];
    numbers = first;
  }
  return (vreal)((lane_numbers)v & __builtin_convertvector(*(const vint *)numbers == number, lane_numbers));
#else
  return *numbers == number ? v : 0;
#endif
}

/* The first `count` numbers, and zeros behind them. */
static inline vreal load_first(const real *p, Py_ssize_t count) {
#if defined(FIRST)
  return (vreal)MASKED_LOAD(p, FIRST(count));
#elif CYCONV_VLEN > 1
  vreal v = {0};
  Py_ssize_t i;
  for (i = 0; i < count; i++) v[i] = p[i];
  return v;
#else
  return count > 0 ? *p : 0;
#endif
}

static inline void store_first(real *p, vreal v, Py_ssize_t count) {
#if defined(MASKED_STORE)
  MASKED_STORE(p, FIRST(count), v);
#else
  const real *lanes = (const real *)&v;
  Py_ssize_t i;
  for (i = 0; i < count; i++) p[i] = lanes[i];
#endif
}

/* Makes the compiler hold v in a register: gcc would load it again for each of its uses. */
#if CYCONV_VLEN > 1 && defined(__GNUC__) && defined(__x86_64__)
#define KEEP(v) __asm__("" : "+v"(v))
#elif CYCONV_VLEN > 1 && defined(__GNUC__) && defined(__aarch64__)
#define KEEP(v) __asm__("" : "+w"(v))
#else
#define KEEP(v) ((void)0)
#endif

/* Hides from the compiler where p points: it would compute all addresses of a loop before it, and keep them
   in more registers than there are. And the same of what lies there: it is in memory, not in registers. */
#if defined(__GNUC__)
#define HIDE(p) __asm__("" : "+r"(p))
#define SET_ASIDE(p) __asm__("" : "+r"(p) : : "memory")
#else
#define HIDE(p) ((void)0)
#define SET_ASIDE(p) ((void)0)
#endif

/* Orders of lanes from two vectors: every second one, beginning with the first of a and with the second
   of b; the lower halves of both, one lane of each in turn; and the upper halves. */
#if CYCONV_VLEN == 16
#define SECOND 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif CYCONV_VLEN == 8
#define SECOND 0, 2, 4, 6, 9, 11, 13, 15
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif CYCONV_VLEN == 4
#define SECOND 0, 2, 5, 7
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#elif CYCONV_VLEN == 2
#define SECOND 0, 3
#define LOW 0, 2
#define HIGH 1, 3
#endif
#if CYCONV_VLEN > 1
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, order) __builtin_shufflevector(a, b, order)
#endif
#endif
#ifndef SHUFFLE /* gcc before 12 */
#define SHUFFLE(a, b, order) __builtin_shuffle(a, b, (lane_numbers){order})
#endif
#endif

static inline vreal every_second(vreal a, vreal b) {
#if CYCONV_VLEN > 1
  return SHUFFLE(a, b, SECOND);
#else
  (void)b;
  return a;
#endif
}

/* Transposes a square of VLEN vectors in place: log2(VLEN) rounds, each of which interleaves the
   first half of the vectors with the second. */
static inline void transpose(vreal *rows) {
#if CYCONV_VLEN > 1
  vreal mixed[CYCONV_VLEN];
  int round, i;
  for (round = 1; round < CYCONV_VLEN; round *= 2) {
    for (i = 0; i < CYCONV_VLEN / 2; i++) {
      mixed[2 * i] = SHUFFLE(rows[i], rows[i + CYCONV_VLEN / 2], LOW);
      mixed[2 * i + 1] = SHUFFLE(rows[i], rows[i + CYCONV_VLEN / 2], HIGH);
    }
    for (i = 0; i < CYCONV_VLEN; i++) rows[i] = mixed[i];
  }
#else
  (void)rows;
#endif
}

#if defined(__GNUC__)
#define ALWAYS_INLINE __attribute__((always_inline))
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define ALWAYS_INLINE
#define PREFETCH(p) ((void)0)
#endif

#endif
