// CUDA's functions of numbers, by those of the C library: part of cuda.h.
//
// Rounding is the C library's. What CUDA only approximates (`__expf`) is computed accurately.

#pragma once

// ---- Bits.

inline int __float_as_int(float x) { return ad_emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return ad_emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return ad_emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return ad_emulator::bits<float>(x); }
inline long long __double_as_longlong(double x) { return ad_emulator::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return ad_emulator::bits<double>(x); }
inline int __double2hiint(double x) { return int(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return int(__double_as_longlong(x)); }
inline double __hiloint2double(int high, int low) {
  return __longlong_as_double((long long)(uint64_t(unsigned(high)) << 32 | unsigned(low)));
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) { return __builtin_bitreverse32(x); }
inline unsigned long long __brevll(unsigned long long x) { return __builtin_bitreverse64(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
inline int __mulhi(int x, int y) { return int(int64_t(x) * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)(x) * y >> 64);
}
inline long long __mul64hi(long long x, long long y) { return (long long)((__int128)(x) * y >> 64); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  uint64_t both = uint64_t(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned pick = selector >> 4 * i & 15, byte = both >> 8 * (pick & 7) & 255;
    if (pick & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
}

// ---- Conversions: towards zero, to nearest, down and up; beyond the type's range to its end, and
// NaN to 0.

namespace ad_emulator {

template <class To, class From>
inline To saturated(From whole) {
  To least = To(-1) < To(0) ? To(To(1) << (8 * sizeof(To) - 1)) : To(0), greatest = To(~least);
  if (whole != whole) return 0;
  if (whole <= From(least)) return least;
  if (whole >= From(greatest)) return greatest;
  return To(whole);
}

}  // namespace ad_emulator

#define AD_EMULATOR_CONVERSION(from, to, name, function) \
  inline to name(from x) { return ad_emulator::saturated<to>(function(x)); }
#define AD_EMULATOR_CONVERSIONS(from, prefix, to, name, suffix)               \
  AD_EMULATOR_CONVERSION(from, to, prefix##name##_rz, trunc##suffix)          \
  AD_EMULATOR_CONVERSION(from, to, prefix##name##_rn, rint##suffix)           \
  AD_EMULATOR_CONVERSION(from, to, prefix##name##_rd, floor##suffix)          \
  AD_EMULATOR_CONVERSION(from, to, prefix##name##_ru, ceil##suffix)
AD_EMULATOR_CONVERSIONS(float, __float2, int, int, f)
AD_EMULATOR_CONVERSIONS(float, __float2, unsigned, uint, f)
AD_EMULATOR_CONVERSIONS(float, __float2, long long, ll, f)
AD_EMULATOR_CONVERSIONS(float, __float2, unsigned long long, ull, f)
AD_EMULATOR_CONVERSIONS(double, __double2, int, int, )
AD_EMULATOR_CONVERSIONS(double, __double2, unsigned, uint, )
AD_EMULATOR_CONVERSIONS(double, __double2, long long, ll, )
AD_EMULATOR_CONVERSIONS(double, __double2, unsigned long long, ull, )
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }
inline double __int2double_rn(int x) { return double(x); }
inline double __ll2double_rn(long long x) { return double(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }
inline float __double2float_rn(double x) { return float(x); }

// ---- Arithmetic with the rounding in its name.

#define AD_EMULATOR_ARITHMETIC(type, letter, suffix)                                  \
  inline type __##letter##add_rn(type x, type y) { return x + y; }                    \
  inline type __##letter##sub_rn(type x, type y) { return x - y; }                    \
  inline type __##letter##mul_rn(type x, type y) { return x * y; }                    \
  inline type __##letter##div_rn(type x, type y) { return x / y; }                    \
  inline type __##letter##rcp_rn(type x) { return 1 / x; }                            \
  inline type __##letter##sqrt_rn(type x) { return sqrt##suffix(x); }
AD_EMULATOR_ARITHMETIC(float, f, f)
AD_EMULATOR_ARITHMETIC(double, d, )
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __frsqrt_rn(float x) { return float(1 / sqrt(double(x))); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

// ---- Approximations of the hardware.

#define AD_EMULATOR_APPROXIMATE(name) \
  inline float __##name##f(float x) { return name##f(x); }
AD_EMULATOR_APPROXIMATE(exp)
AD_EMULATOR_APPROXIMATE(log)
AD_EMULATOR_APPROXIMATE(log2)
AD_EMULATOR_APPROXIMATE(log10)
AD_EMULATOR_APPROXIMATE(sin)
AD_EMULATOR_APPROXIMATE(cos)
AD_EMULATOR_APPROXIMATE(tan)
AD_EMULATOR_APPROXIMATE(exp10)
inline float __powf(float x, float y) { return powf(x, y); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }

// ---- Functions of CUDA that C has not.

#define AD_EMULATOR_PI 3.14159265358979323846

// Sine and cosine of pi*x: x is brought into [-1/4, 1/4] exactly, then multiplied.
inline double sinpi(double x) {
  if (!isfinite(x)) return x - x;
  double rest = fmod(fabs(x), 2), nearest = rint(2 * rest), angle = (rest - nearest / 2);
  int quarter = int(nearest) & 3;
  double part = quarter & 1 ? cos(AD_EMULATOR_PI * angle) : sin(AD_EMULATOR_PI * angle);
  double result = quarter & 2 ? -part : part;
  if (result == 0) return copysign(0.0, x);
  return x < 0 ? -result : result;
}
inline double cospi(double x) {
  if (!isfinite(x)) return x - x;
  double rest = fmod(fabs(x), 2), nearest = rint(2 * rest), angle = (rest - nearest / 2);
  int quarter = int(nearest) & 3;
  double part = quarter & 1 ? sin(AD_EMULATOR_PI * angle) : cos(AD_EMULATOR_PI * angle);
  return (quarter == 1 || quarter == 2 ? -part : part) + 0.0;
}
inline float sinpif(float x) { return float(sinpi(double(x))); }
inline float cospif(float x) { return float(cospi(double(x))); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrtf(float x) { return float(1 / sqrt(double(x))); }
inline double rcbrt(double x) { return 1 / cbrt(x); }
inline float rcbrtf(float x) { return float(1 / cbrt(double(x))); }
inline double rhypot(double x, double y) { return 1 / hypot(x, y); }
inline float rhypotf(float x, float y) { return float(1 / hypot(double(x), double(y))); }
inline double normcdf(double x) { return erfc(-x * 0.70710678118654752440) / 2; }
inline float normcdff(float x) { return float(normcdf(double(x))); }

// The inverse error function: Winitzki's approximation (A handy approximation for the error
// function and its inverse, 2008), then steps of Halley's method until they are below rounding.
inline double erfcinv(double y) {
  if (!(y > 0 && y < 2)) return y == 0 ? HUGE_VAL : y == 2 ? -HUGE_VAL : NAN;
  double z = y < 1 ? y : 2 - y, a = 0.147;  // z is exact: y in [1, 2) has no bits below 2^-52
  double l = log(z * (2 - z)), b = 2 / (AD_EMULATOR_PI * a) + l / 2;
  double x = sqrt(sqrt(b * b - l / a) - b);
  for (int step = 0; step < 4; ++step) {
    double slope = -2 / sqrt(AD_EMULATOR_PI) * exp(-x * x), error = (erfc(x) - z) / slope;
    x -= error / (1 + x * error);
  }
  return y < 1 ? x : -x;
}
inline double erfinv(double y) {
  if (fabs(y) >= 0.5) return y > 0 ? erfcinv(1 - y) : -erfcinv(1 + y);
  double l = log1p(-y * y), b = 2 / (AD_EMULATOR_PI * 0.147) + l / 2;
  double x = copysign(sqrt(sqrt(b * b - l / 0.147) - b), y);
  for (int step = 0; step < 3 && x != 0; ++step) {
    double slope = 2 / sqrt(AD_EMULATOR_PI) * exp(-x * x), error = (erf(x) - y) / slope;
    x -= error / (1 + x * error);
  }
  return x == 0 ? y * (sqrt(AD_EMULATOR_PI) / 2) : x;
}
inline float erfinvf(float y) { return float(erfinv(double(y))); }
inline float erfcinvf(float y) { return float(erfcinv(double(y))); }
inline double normcdfinv(double p) { return -1.41421356237309504880 * erfcinv(2 * p); }
inline float normcdfinvf(float p) { return float(normcdfinv(double(p))); }

// exp(x^2) erfc(x): by the definition, and where erfc would be subnormal by the asymptotic series
// (Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 7.1.23). Within 2e-13.
inline double erfcx(double x) {
  if (x < 25) return exp(x * x) * erfc(x);
  double sum = 1;
  for (int k = 7; k > 0; --k) sum = 1 - (2 * k - 1) / (2 * x * x) * sum;
  return sum / (x * sqrt(AD_EMULATOR_PI));
}
inline float erfcxf(float x) { return float(erfcx(double(x))); }

// ---- CUDA's names are for both types, C's each for one.

#undef isnan
#undef isinf
#undef isfinite
#undef signbit
#define AD_EMULATOR_PREDICATE(name, builtin)                   \
  inline bool name(float x) { return builtin(x) != 0; }        \
  inline bool name(double x) { return builtin(x) != 0; }
AD_EMULATOR_PREDICATE(isnan, __builtin_isnan)
AD_EMULATOR_PREDICATE(isinf, __builtin_isinf)
AD_EMULATOR_PREDICATE(isfinite, __builtin_isfinite)
AD_EMULATOR_PREDICATE(signbit, __builtin_signbit)

#define AD_EMULATOR_UNARY(name) \
  inline float name(float x) { return name##f(x); }
AD_EMULATOR_UNARY(acos)
AD_EMULATOR_UNARY(acosh)
AD_EMULATOR_UNARY(asin)
AD_EMULATOR_UNARY(asinh)
AD_EMULATOR_UNARY(atan)
AD_EMULATOR_UNARY(atanh)
AD_EMULATOR_UNARY(cbrt)
AD_EMULATOR_UNARY(ceil)
AD_EMULATOR_UNARY(cos)
AD_EMULATOR_UNARY(cosh)
AD_EMULATOR_UNARY(cospi)
AD_EMULATOR_UNARY(erf)
AD_EMULATOR_UNARY(erfc)
AD_EMULATOR_UNARY(erfcinv)
AD_EMULATOR_UNARY(erfcx)
AD_EMULATOR_UNARY(erfinv)
AD_EMULATOR_UNARY(exp)
AD_EMULATOR_UNARY(exp10)
AD_EMULATOR_UNARY(exp2)
AD_EMULATOR_UNARY(expm1)
AD_EMULATOR_UNARY(fabs)
AD_EMULATOR_UNARY(floor)
AD_EMULATOR_UNARY(j0)
AD_EMULATOR_UNARY(j1)
AD_EMULATOR_UNARY(lgamma)
AD_EMULATOR_UNARY(log)
AD_EMULATOR_UNARY(log10)
AD_EMULATOR_UNARY(log1p)
AD_EMULATOR_UNARY(log2)
AD_EMULATOR_UNARY(logb)
AD_EMULATOR_UNARY(nearbyint)
AD_EMULATOR_UNARY(normcdf)
AD_EMULATOR_UNARY(normcdfinv)
AD_EMULATOR_UNARY(rcbrt)
AD_EMULATOR_UNARY(rint)
AD_EMULATOR_UNARY(round)
AD_EMULATOR_UNARY(rsqrt)
AD_EMULATOR_UNARY(sin)
AD_EMULATOR_UNARY(sinh)
AD_EMULATOR_UNARY(sinpi)
AD_EMULATOR_UNARY(sqrt)
AD_EMULATOR_UNARY(tan)
AD_EMULATOR_UNARY(tanh)
AD_EMULATOR_UNARY(tgamma)
AD_EMULATOR_UNARY(trunc)
AD_EMULATOR_UNARY(y0)
AD_EMULATOR_UNARY(y1)

#define AD_EMULATOR_BINARY(name) \
  inline float name(float x, float y) { return name##f(x, y); }
AD_EMULATOR_BINARY(atan2)
AD_EMULATOR_BINARY(copysign)
AD_EMULATOR_BINARY(fdim)
AD_EMULATOR_BINARY(fmax)
AD_EMULATOR_BINARY(fmin)
AD_EMULATOR_BINARY(fmod)
AD_EMULATOR_BINARY(hypot)
AD_EMULATOR_BINARY(nextafter)
AD_EMULATOR_BINARY(pow)
AD_EMULATOR_BINARY(remainder)
AD_EMULATOR_BINARY(rhypot)
inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float frexp(float x, int* exponent) { return frexpf(x, exponent); }
inline float ldexp(float x, int exponent) { return ldexpf(x, exponent); }
inline float scalbn(float x, int exponent) { return scalbnf(x, exponent); }
inline float modf(float x, float* whole) { return modff(x, whole); }
inline int ilogb(float x) { return ilogbf(x); }
inline void sincos(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }

#define AD_EMULATOR_EXTREMES(type)                                \
  inline type min(type x, type y) { return y < x ? y : x; }       \
  inline type max(type x, type y) { return x < y ? y : x; }
AD_EMULATOR_EXTREMES(int)
AD_EMULATOR_EXTREMES(unsigned)
AD_EMULATOR_EXTREMES(long)
AD_EMULATOR_EXTREMES(unsigned long)
AD_EMULATOR_EXTREMES(long long)
AD_EMULATOR_EXTREMES(unsigned long long)
inline float min(float x, float y) { return fminf(x, y); }
inline float max(float x, float y) { return fmaxf(x, y); }
inline double min(double x, double y) { return fmin(x, y); }
inline double max(double x, double y) { return fmax(x, y); }
inline long long abs(long long x) { return x < 0 ? -x : x; }
inline int abs(int x) { return x < 0 ? -x : x; }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }
