/* A vector register of floats. gcc and clang turn + and * on this type into vector instructions,
   and a product and a sum into one fused multiply-add. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
/* Rows of the tile: 2 * ROWS sums and 2 inputs must fit into the vector registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS 12 /* of 32 registers */
#else
#define ROWS 6 /* of 16 registers */
#endif
typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
