// CUDA's half precision as far as CuPy's kernels use it: a number that is computed with as float.

#pragma once

struct __half_raw {
  unsigned short x;
};

class half {
 public:
  half() = default;
  half(float value) : value(static_cast<_Float16>(value)) {}
  template <class T>
  explicit half(T value) : value(static_cast<_Float16>(value)) {}
  explicit half(const __half_raw& raw) : value(ad_emulator::bits<_Float16>(raw.x)) {}
  operator float() const { return value; }
  operator __half_raw() const { return {ad_emulator::bits<unsigned short>(value)}; }

 private:
  _Float16 value;
};

typedef half __half;

inline unsigned short __half_as_ushort(half x) { return static_cast<__half_raw>(x).x; }
inline half __ushort_as_half(unsigned short x) { return half(__half_raw{x}); }
