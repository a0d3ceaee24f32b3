"""The error function, which NumPy lacks, for whole arrays.

Source: W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of
Computation 23 (1969).
"""

from __future__ import annotations

from ..autograd import Array
from ..backends import namespace_of

NEAR = 0.46875  # up to here erf(x) = x R(x^2), beyond it 1 - exp(-x^2) S(x)
ONE = 6.0  # from here on erf(x) is 1 to the last digit, as 1 - erf(6) is 2e-17

# numerators and denominators, from the highest power down
R = (
    (
        *(1.85777706184603153e-1, 3.16112374387056560, 113.864154151050156),
        *(377.485237685302021, 3209.37758913846947),
    ),
    (1.0, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062),
)
S = (
    (
        *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594),
        *(66.1191906371416295, 298.635138197400131, 881.952221241769090),
        *(1712.04761263407058, 2051.07837782607147, 1230.33935479799725),
    ),
    (
        *(1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858),
        *(1621.38957456669019, 3290.79923573345963, 4362.61909014324716),
        *(3439.36767414372164, 1230.33935480374942),
    ),
)


def erf(x: Array) -> Array:
    """erf(x) = 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, in x's own precision."""
    xp = namespace_of(x)
    size = xp.minimum(xp.abs(x), x.dtype.type(ONE))
    square = size * size
    near = size * _quotient(R, square)
    far = 1 - xp.exp(-square) * _quotient(S, size)
    return xp.copysign(xp.where(size <= NEAR, near, far), x)


def _quotient(polynomials: tuple[tuple[float, ...], ...], x: Array) -> Array:
    """The value of the first polynomial over that of the second, both by Horner's rule."""
    above, below = (x * first + second for first, second, *_ in polynomials)
    for a, b in zip(polynomials[0][2:], polynomials[1][2:]):
        above *= x
        above += a
        below *= x
        below += b
    return above / below
