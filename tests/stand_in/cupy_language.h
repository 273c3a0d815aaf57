// What NVRTC has built in beyond the emulator's cuda.h, and CuPy's own kernels use.

#pragma once

#define __CUDACC_RTC__ 1
#define __CUDACC_VER_MAJOR__ 13
#define assert(condition) ((condition) ? (void)0 : __builtin_trap())

namespace std {

template <class T>
class initializer_list {
 public:
  const T* begin() const { return first; }
  const T* end() const { return first + count; }
  size_t size() const { return count; }

 private:
  const T* first;
  size_t count;
};

}  // namespace std
