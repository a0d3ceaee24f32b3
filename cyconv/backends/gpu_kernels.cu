// The GPU's kernels, in plain C; here those that look at images through a window, and what all of
// them share. gpu_arithmetic.cu goes on. NVRTC compiles them for the card, and the tests' C compiler
// for the CPU, where they run one thread after the other (tests/emulation.py).
//
// Compiled once per number type and width of index: CYCONV_REAL is float or double, CYCONV_INDEX int
// or, where a size needs it, long long. `count` is how many results there are; every result is
// written by one thread, which adds up in one order, so that the bits never depend on the timing.
//
// Arrays have no gaps. Images lie as (C, H, W, N): neighbouring threads read neighbouring images.
// The letters are those of geometry.py; r and s are the row and column of an output pixel, y and x
// those of a pixel of the image, i and j those of a tap.

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#endif

typedef CYCONV_REAL real;
typedef CYCONV_INDEX index_t;

// As many threads as the grid has share the results out.
#define EACH(k, count)                                                                       \
  for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < (count);          \
       k += (long long)gridDim.x * blockDim.x)

#define WINDOW                                                                               \
  index_t h, index_t w, index_t kh, index_t kw, index_t sh, index_t sw, index_t top,         \
      index_t left, index_t dh, index_t dw, index_t oh, index_t ow

// Result k of an array (channels, height, width, N) as its channel, row, column and image b.
#define SPLIT(channel, row, height, column, width)                                           \
  index_t b = (index_t)k % n, column = (index_t)k / n % width;                               \
  index_t row = (index_t)k / n / width % height, channel = (index_t)k / n / width / height

#define TILE 4  // channels that a thread of a direct convolution makes at a time

// The output position whose tap `tap` reads `pixel`, or -1.
DEVICE index_t output_of(index_t pixel, index_t tap, index_t stride, index_t before,
                         index_t dilation, index_t outputs) {
  index_t at = pixel + before - tap * dilation;
  return at >= 0 && at % stride == 0 && at / stride < outputs ? at / stride : -1;
}

// ------------------------------------------------------------------ convolution

// cols (C * KH * KW, length): what the window sees at the positions first, first + 1, ... of the
// flat output (OH, OW, N).
KERNEL im2col(long long count, real *cols, const real *image, index_t n, WINDOW, index_t first,
              index_t length) {
  EACH(k, count) {
    index_t q = first + (index_t)k % length, tap = (index_t)k / length;
    index_t j = tap % kw, i = tap / kw % kh, c = tap / (kw * kh);
    index_t y = q / n / ow * sh - top + i * dh;
    index_t x = q / n % ow * sw - left + j * dw;
    bool inside = y >= 0 && y < h && x >= 0 && x < w;
    cols[k] = inside ? image[((c * h + y) * w + x) * n + q % n] : 0;
  }
}

// dx (C, H, W, N) += the columns of gradients, for the `rows` rows of the image from `row` on.
KERNEL col2im(long long count, real *dx, const real *cols, index_t n, WINDOW, index_t first,
              index_t length, index_t row, index_t rows) {
  EACH(k, count) {
    SPLIT(c, above, rows, x, w);
    index_t y = row + above;
    real total = 0;
    for (index_t i = 0; i < kh; i++) {
      index_t r = output_of(y, i, sh, top, dh, oh);
      if (r < 0) continue;
      for (index_t j = 0; j < kw; j++) {
        index_t s = output_of(x, j, sw, left, dw, ow);
        index_t q = (r * ow + s) * n + b;
        if (s < 0 || q < first || q >= first + length) continue;
        total += cols[((c * kh + i) * kw + j) * length + (q - first)];
      }
    }
    dx[((c * h + y) * w + x) * n + b] += total;
  }
}

// out (F, OH, OW, N): a thread makes TILE filters of one group at one pixel of one image.
KERNEL conv_direct(long long count, real *out, const real *image, const real *weight,
                   const real *bias, index_t n, index_t cg, index_t fg, WINDOW) {
  index_t tiles = (fg + TILE - 1) / TILE;
  EACH(k, count) {
    SPLIT(tile, r, oh, s, ow);
    index_t group = tile / tiles, f = tile % tiles * TILE;
    index_t filters = fg - f < TILE ? fg - f : TILE;
    f += group * fg;
    real sums[TILE];
    for (index_t t = 0; t < TILE; t++) sums[t] = bias && t < filters ? bias[f + t] : 0;
    for (index_t c = 0; c < cg; c++)
      for (index_t i = 0; i < kh; i++) {
        index_t y = r * sh - top + i * dh;
        if (y < 0 || y >= h) continue;
        for (index_t j = 0; j < kw; j++) {
          index_t x = s * sw - left + j * dw;
          if (x < 0 || x >= w) continue;
          real value = image[(((group * cg + c) * h + y) * w + x) * n + b];
          for (index_t t = 0; t < TILE; t++)
            if (t < filters) sums[t] += value * weight[(((f + t) * cg + c) * kh + i) * kw + j];
        }
      }
    for (index_t t = 0; t < TILE; t++)
      if (t < filters) out[(((f + t) * oh + r) * ow + s) * n + b] = sums[t];
  }
}

// dx (C, H, W, N): a thread makes TILE channels of one group at one pixel of one image.
KERNEL conv_direct_input_grad(long long count, real *dx, const real *dout, const real *weight,
                              index_t n, index_t cg, index_t fg, WINDOW) {
  index_t tiles = (cg + TILE - 1) / TILE;
  EACH(k, count) {
    SPLIT(tile, y, h, x, w);
    index_t group = tile / tiles, c = tile % tiles * TILE;
    index_t channels = cg - c < TILE ? cg - c : TILE;
    real sums[TILE];
    for (index_t t = 0; t < TILE; t++) sums[t] = 0;
    for (index_t f = group * fg; f < (group + 1) * fg; f++)
      for (index_t i = 0; i < kh; i++) {
        index_t r = output_of(y, i, sh, top, dh, oh);
        if (r < 0) continue;
        for (index_t j = 0; j < kw; j++) {
          index_t s = output_of(x, j, sw, left, dw, ow);
          if (s < 0) continue;
          real value = dout[((f * oh + r) * ow + s) * n + b];
          for (index_t t = 0; t < TILE; t++)
            if (t < channels) sums[t] += value * weight[((f * cg + c + t) * kh + i) * kw + j];
        }
      }
    for (index_t t = 0; t < TILE; t++)
      if (t < channels) dx[(((group * cg + c + t) * h + y) * w + x) * n + b] = sums[t];
  }
}

// partials (F * C/G * KH * KW, chunks): for each weight the sum over every chunks-th position.
KERNEL conv_direct_weight_grad(long long count, real *partials, const real *image,
                               const real *dout, index_t n, index_t cg, index_t fg, WINDOW,
                               index_t chunks) {
  EACH(k, count) {
    index_t weight = (index_t)k / chunks;
    index_t j = weight % kw, i = weight / kw % kh, c = weight / kw / kh % cg;
    index_t f = weight / kw / kh / cg;
    const real *plane = image + (f / fg * cg + c) * h * w * n;
    const real *gradient = dout + f * oh * ow * n;
    real total = 0;
    for (index_t q = (index_t)k % chunks; q < oh * ow * n; q += chunks) {
      index_t y = q / n / ow * sh - top + i * dh;
      index_t x = q / n % ow * sw - left + j * dw;
      if (y < 0 || y >= h || x < 0 || x >= w) continue;
      total += plane[(y * w + x) * n + q % n] * gradient[q];
    }
    partials[k] = total;
  }
}

// ------------------------------------------------------------------ pooling

// out and where (C, OH, OW, N): the largest value and its tap i * KW + j. The first of equals
// wins; NaN wins over all, the last of several. A window beside the image gives `lowest` and 0.
KERNEL max_pool(long long count, real *out, int *where, const real *image, index_t n, WINDOW,
                real lowest) {
  EACH(k, count) {
    SPLIT(c, r, oh, s, ow);
    bool found = false;
    real best = lowest;
    int tap = 0;
    for (index_t i = 0; i < kh; i++) {
      index_t y = r * sh - top + i * dh;
      if (y < 0 || y >= h) continue;
      for (index_t j = 0; j < kw; j++) {
        index_t x = s * sw - left + j * dw;
        if (x < 0 || x >= w) continue;
        real value = image[((c * h + y) * w + x) * n + b];
        if (found && !(value > best) && value == value) continue;
        found = true;
        best = value;
        tap = (int)(i * kw + j);
      }
    }
    out[k] = best;
    where[k] = tap;
  }
}

// dx (C, H, W, N): the gradients of the windows in which this pixel won.
KERNEL max_pool_backward(long long count, real *dx, const real *dout, const int *where,
                         index_t n, WINDOW) {
  EACH(k, count) {
    SPLIT(c, y, h, x, w);
    real total = 0;
    for (index_t i = 0; i < kh; i++) {
      index_t r = output_of(y, i, sh, top, dh, oh);
      if (r < 0) continue;
      for (index_t j = 0; j < kw; j++) {
        index_t s = output_of(x, j, sw, left, dw, ow);
        if (s < 0) continue;
        index_t q = ((c * oh + r) * ow + s) * n + b;
        if (where[q] == i * kw + j) total += dout[q];
      }
    }
    dx[k] = total;
  }
}

// How many pixels along one axis the mean at output position `at` counts: of the image, or with
// `pads` of image and padding, but never beyond the padding.
DEVICE index_t counted(index_t at, index_t kernel, index_t stride, index_t before, index_t after,
                       index_t size, index_t pads) {
  index_t start = at * stride - before, stop = start + kernel;
  if (stop > size + (pads ? after : 0)) stop = size + (pads ? after : 0);
  if (!pads && start < 0) start = 0;
  return stop - start;
}

KERNEL avg_pool(long long count, real *out, const real *image, index_t n, WINDOW, index_t bottom,
                index_t right, index_t pads) {
  EACH(k, count) {
    SPLIT(c, r, oh, s, ow);
    real total = 0;
    for (index_t i = 0; i < kh; i++) {
      index_t y = r * sh - top + i * dh;
      if (y < 0 || y >= h) continue;
      real line = 0;  // first, as one sum over a large window would lose digits
      for (index_t j = 0; j < kw; j++) {
        index_t x = s * sw - left + j * dw;
        if (x >= 0 && x < w) line += image[((c * h + y) * w + x) * n + b];
      }
      total += line;
    }
    real rows = (real)counted(r, kh, sh, top, bottom, h, pads);
    out[k] = total / (rows * (real)counted(s, kw, sw, left, right, w, pads));
  }
}

KERNEL avg_pool_backward(long long count, real *dx, const real *dout, index_t n, WINDOW,
                         index_t bottom, index_t right, index_t pads) {
  EACH(k, count) {
    SPLIT(c, y, h, x, w);
    real total = 0;
    for (index_t i = 0; i < kh; i++) {
      index_t r = output_of(y, i, sh, top, dh, oh);
      if (r < 0) continue;
      real rows = (real)counted(r, kh, sh, top, bottom, h, pads);
      for (index_t j = 0; j < kw; j++) {
        index_t s = output_of(x, j, sw, left, dw, ow);
        if (s < 0) continue;
        total += dout[((c * oh + r) * ow + s) * n + b] /
                 (rows * (real)counted(s, kw, sw, left, right, w, pads));
      }
    }
    dx[k] = total;
  }
}
