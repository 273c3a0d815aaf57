// CUDA's bfloat16 as far as CuPy's kernels use it: a number that is computed with as float.

#pragma once

class __nv_bfloat16 {
 public:
  __nv_bfloat16() = default;
  __nv_bfloat16(float value) {  // rounded to the nearest, ties to even
    unsigned bits = ad_emulator::bits<unsigned>(value);
    bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    word = is_nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  }
  operator float() const { return ad_emulator::bits<float>(unsigned{word} << 16); }

  unsigned short word;
};

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.word; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) {
  __nv_bfloat16 made;
  made.word = x;
  return made;
}

inline bool __hisnan(__nv_bfloat16 x) { return isnan(static_cast<float>(x)); }
inline int __hisinf(__nv_bfloat16 x) { return isinf(static_cast<float>(x)); }
