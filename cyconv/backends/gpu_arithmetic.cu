// The GPU's kernels without a window: sums, batch norm, losses, steps of optimisers, elementwise.
// Compiled behind gpu_kernels.cu, with its definitions.

// ------------------------------------------------------------------ sums over rows, batch norm

// partials (rows, chunks): the sum of every chunks-th number of each row of a (rows, length).
KERNEL sum_partials(long long count, real *partials, const real *a, index_t length,
                    index_t chunks) {
  EACH(k, count) {
    const real *row = a + (index_t)k / chunks * length;
    real total = 0;
    for (index_t i = (index_t)k % chunks; i < length; i += chunks) total += row[i];
    partials[k] = total;
  }
}

// As sum_partials, of the squared distances from the row's mean.
KERNEL square_partials(long long count, real *partials, const real *a, const real *mean,
                       index_t length, index_t chunks) {
  EACH(k, count) {
    index_t c = (index_t)k / chunks;
    real total = 0;
    for (index_t i = (index_t)k % chunks; i < length; i += chunks) {
      real distance = a[c * length + i] - mean[c];
      total += distance * distance;
    }
    partials[k] = total;
  }
}

// As sum_partials, of dout and of dout times the normalised x.
KERNEL gradient_partials(long long count, real *dgamma, real *dbeta, const real *dout,
                         const real *a, const real *mean, const real *inv_std, index_t length,
                         index_t chunks) {
  EACH(k, count) {
    index_t c = (index_t)k / chunks;
    real along = 0, total = 0;
    for (index_t i = (index_t)k % chunks; i < length; i += chunks) {
      real d = dout[c * length + i];
      along += d * ((a[c * length + i] - mean[c]) * inv_std[c]);
      total += d;
    }
    dgamma[k] = along;
    dbeta[k] = total;
  }
}

// out (rows,): the sum of each row's partials over a divisor.
KERNEL sum_rows(long long count, real *out, const real *partials, index_t chunks, real divisor) {
  EACH(k, count) {
    real total = 0;
    for (index_t i = 0; i < chunks; i++) total += partials[k * chunks + i];
    out[k] = total / divisor;
  }
}

KERNEL inverse_std(long long count, real *inv_std, const real *var, real eps) {
  EACH(k, count) inv_std[k] = 1 / sqrt(var[k] + eps);
}

KERNEL normalise(long long count, real *out, const real *a, const real *mean,
                 const real *inv_std, const real *gamma, const real *beta, index_t length) {
  EACH(k, count) {
    index_t c = (index_t)k / length;
    real scale = gamma ? inv_std[c] * gamma[c] : inv_std[c];
    out[k] = (a[k] - mean[c]) * scale + (beta ? beta[c] : 0);
  }
}

KERNEL normalise_backward(long long count, real *dx, const real *dout, const real *a,
                          const real *gamma, const real *mean, const real *inv_std,
                          const real *dgamma, const real *dbeta, index_t length, real divisor) {
  EACH(k, count) {
    index_t c = (index_t)k / length;
    real scale = gamma ? inv_std[c] * gamma[c] : inv_std[c];
    real normalised = (a[k] - mean[c]) * inv_std[c];
    dx[k] = (dout[k] - dbeta[c] / divisor - normalised * (dgamma[c] / divisor)) * scale;
  }
}

// ------------------------------------------------------------------ loss and steps

// losses (N,) and log_probs (K, N) of logits (K, N); a thread takes an image. `peak` is
// 1 - smoothing and `share` smoothing / K. A label that is no class gives `invalid`, NaN.
KERNEL cross_entropy(long long count, real *losses, real *log_probs, const real *logits,
                     const long long *target, index_t classes, real peak, real share,
                     real invalid) {
  EACH(k, count) {
    real largest = logits[k], total = 0, all = 0;
    for (index_t c = 1; c < classes; c++) {
      real value = logits[c * count + k];
      if (value > largest) largest = value;
    }
    for (index_t c = 0; c < classes; c++) total += exp(logits[c * count + k] - largest);
    total = log(total);
    for (index_t c = 0; c < classes; c++) {
      real value = logits[c * count + k] - largest - total;
      log_probs[c * count + k] = value;
      all += value;
    }
    bool known = target[k] >= 0 && target[k] < classes;
    real loss = known ? -log_probs[target[k] * count + k] : invalid;
    losses[k] = share ? peak * loss - share * all : loss;
  }
}

// dlogits (K, N) = dlosses (N,) * (softmax - smoothed target)
KERNEL cross_entropy_backward(long long count, real *dlogits, const real *dlosses,
                              const real *log_probs, const long long *target, index_t n,
                              real peak, real share) {
  EACH(k, count) {
    real wanted = target[k % n] == k / n ? share + peak : share;
    dlogits[k] = (exp(log_probs[k]) - wanted) * dlosses[k % n];
  }
}

// ------------------------------------------------------------------ elementwise

KERNEL relu(long long count, real *out, const real *a) {
  EACH(k, count) out[k] = a[k] <= 0 ? 0 : a[k];  // NaN stays
}

KERNEL relu_backward(long long count, real *dx, const real *dout, const real *out) {
  EACH(k, count) dx[k] = out[k] <= 0 ? 0 : dout[k];
}

// `fresh` is 1 - dampening; velocity is null without momentum.
KERNEL sgd_step(long long count, real *w, const real *grad, real *velocity, real lr,
                real momentum, real fresh, real decay, index_t nesterov) {
  EACH(k, count) {
    real g = grad[k] + decay * w[k];
    if (velocity) {
      real v = velocity[k] = momentum * velocity[k] + fresh * g;
      g = nesterov ? g + momentum * v : v;
    }
    w[k] -= lr * g;
  }
}

// `shrink` multiplies the weights first (AdamW), `decay` is Adam's own; `root` is
// sqrt(1 - beta2^t) and `rate` lr / (1 - beta1^t).
KERNEL adam_step(long long count, real *w, const real *grad, real *m, real *v, real fresh1,
                 real fresh2, real root, real rate, real eps, real decay, real shrink) {
  EACH(k, count) {
    real weight = w[k] * shrink;
    real g = grad[k] + decay * weight;
    m[k] += fresh1 * (g - m[k]);
    v[k] += fresh2 * (g * g - v[k]);
    w[k] = weight - rate * m[k] / (sqrt(v[k]) / root + eps);
  }
}
