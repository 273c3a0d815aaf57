// The CUDA C++ language for a host compiler: stands before the text of a kernel, which then
// compiles as it is. What NVRTC provides without any header is provided here, and nothing else.
//
// Defines AUTODIFF_EMULATOR. AD_LD(pointer) and AD_ST(pointer, value) are the accesses of memory
// that errors give the line of, and that AD_EMULATOR_CHECKED has checked for bounds and races.

#pragma once

#include <math.h>
#include <string.h>

#include "interface.h"

#define AUTODIFF_EMULATOR 1

// ---- Qualifiers. Memory declared `__shared__` is in one section, which the runtime fills with NaN
// before each block. Declarations `extern __shared__` have been rewritten to AD_EMULATOR_DYNAMIC.

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static __attribute__((section("ad_emulator_shared"), aligned(16)))
#define AD_EMULATOR_DYNAMIC(type, name) \
  type* const name = reinterpret_cast<type*>(::ad_emulator::current.shared)

// ---- Built-in variables and types.

typedef ad_emulator::Index uint3;
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define threadIdx (::ad_emulator::current.thread)
#define blockIdx (::ad_emulator::current.block)
#define blockDim (::ad_emulator::current.block_size)
#define gridDim (::ad_emulator::current.grid_size)
#define warpSize 32

#define AD_EMULATOR_VECTORS(type, name, align2, align4)                                        \
  struct __align__(align2) name##2 {                                                           \
    type x, y;                                                                                 \
  };                                                                                           \
  struct __align__(align4) name##4 {                                                           \
    type x, y, z, w;                                                                           \
  };                                                                                           \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                             \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
AD_EMULATOR_VECTORS(signed char, char, 2, 4)
AD_EMULATOR_VECTORS(unsigned char, uchar, 2, 4)
AD_EMULATOR_VECTORS(short, short, 4, 8)
AD_EMULATOR_VECTORS(unsigned short, ushort, 4, 8)
AD_EMULATOR_VECTORS(int, int, 8, 16)
AD_EMULATOR_VECTORS(unsigned, uint, 8, 16)
AD_EMULATOR_VECTORS(long long, longlong, 16, 16)
AD_EMULATOR_VECTORS(unsigned long long, ulonglong, 16, 16)
AD_EMULATOR_VECTORS(float, float, 8, 16)
AD_EMULATOR_VECTORS(double, double, 16, 16)

namespace ad_emulator {

// ---- Accesses of memory.

inline void access(const volatile void* pointer, size_t size, size_t alignment, Access kind,
                   int line) {
  current.line = line;
  size_t past = reinterpret_cast<size_t>(pointer) % alignment;
  if (__builtin_expect(past != 0, 0)) fail_misaligned(alignment, past);
#ifdef AD_EMULATOR_CHECKED
  record(pointer, size, kind, line);
#endif
}

template <class T>
inline T* accessed(T* pointer, Access kind, int line) {
  access(pointer, sizeof(T), alignof(T), kind, line);
  return pointer;
}

template <class T>
struct Same {
  typedef T type;
};

template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits are taken over");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

}  // namespace ad_emulator

#define AD_LD(pointer) \
  (*::ad_emulator::accessed((pointer), ::ad_emulator::Access::read, __LINE__))
#define AD_ST(pointer, value) \
  (*::ad_emulator::accessed((pointer), ::ad_emulator::Access::write, __LINE__) = (value))

#define AD_EMULATOR_LINE int line = __builtin_LINE()

#define AD_EMULATOR_LOAD(name)                                                     \
  template <class T>                                                               \
  inline T name(const T* pointer, AD_EMULATOR_LINE) {                              \
    return *::ad_emulator::accessed(pointer, ::ad_emulator::Access::read, line);   \
  }
AD_EMULATOR_LOAD(__ldg)
AD_EMULATOR_LOAD(__ldca)
AD_EMULATOR_LOAD(__ldcg)
AD_EMULATOR_LOAD(__ldcs)
AD_EMULATOR_LOAD(__ldcv)
AD_EMULATOR_LOAD(__ldlu)

#define AD_EMULATOR_STORE(name)                                                         \
  template <class T>                                                                    \
  inline void name(T* pointer, typename ad_emulator::Same<T>::type x, AD_EMULATOR_LINE) { \
    *::ad_emulator::accessed(pointer, ::ad_emulator::Access::write, line) = x;          \
  }
AD_EMULATOR_STORE(__stcg)
AD_EMULATOR_STORE(__stcs)
AD_EMULATOR_STORE(__stwb)
AD_EMULATOR_STORE(__stwt)

// ---- Meetings of threads.

inline void __syncthreads(AD_EMULATOR_LINE) {
  ad_emulator::meet(ad_emulator::Meeting::block_barrier, 0, 0, 0, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, AD_EMULATOR_LINE) {
  ad_emulator::meet(ad_emulator::Meeting::warp_barrier, mask, 0, 0, line);
}
inline unsigned __activemask(AD_EMULATOR_LINE) {
  return ad_emulator::meet(ad_emulator::Meeting::active_mask, 0, 0, 0, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, AD_EMULATOR_LINE) {
  return ad_emulator::meet(ad_emulator::Meeting::ballot, mask, predicate != 0, 0, line);
}
inline int __any_sync(unsigned mask, int predicate, AD_EMULATOR_LINE) {
  return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, AD_EMULATOR_LINE) {
  return __ballot_sync(mask, predicate, line) == mask;
}

namespace ad_emulator {

// A value of at most eight bytes as those bytes, zeros after them.
template <class T>
inline uint64_t as_word(T value) {
  static_assert(sizeof(T) <= 8, "a warp's exchange is of 8 bytes at most");
  uint64_t word = 0;
  memcpy(&word, &value, sizeof(value));
  return word;
}

template <class T>
inline T exchanged(unsigned mask, T value, unsigned source, int line) {
  uint64_t word = meet(Meeting::shuffle, mask, as_word(value), source, line);
  memcpy(&value, &word, sizeof(value));
  return value;
}

inline unsigned lane() { return current.number % 32; }

}  // namespace ad_emulator

template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, AD_EMULATOR_LINE) {
  using namespace ad_emulator;
  return meet(Meeting::match, mask, as_word(value), 0, line);
}
// Lanes are counted within segments of `width`; a lane without a partner there keeps its value.
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, AD_EMULATOR_LINE) {
  unsigned first = ad_emulator::lane() & ~(width - 1);
  return ad_emulator::exchanged(mask, value, first + (source & (width - 1)), line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, AD_EMULATOR_LINE) {
  unsigned lane = ad_emulator::lane(), within = lane & (width - 1);
  return ad_emulator::exchanged(mask, value, within >= delta ? lane - delta : lane, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          AD_EMULATOR_LINE) {
  unsigned lane = ad_emulator::lane(), within = lane & (width - 1);
  return ad_emulator::exchanged(mask, value, within + delta < unsigned(width) ? lane + delta : lane,
                                line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, AD_EMULATOR_LINE) {
  unsigned lane = ad_emulator::lane(), source = lane ^ unsigned(lanes);
  // Lanes of later segments cannot be reached, those of earlier ones can.
  if (source >= (lane & ~unsigned(width - 1)) + unsigned(width)) source = lane;
  return ad_emulator::exchanged(mask, value, source, line);
}

// ---- Atomic operations: threads run one at a time, so nothing can come in between.

#define AD_EMULATOR_ATOMIC(name, updated)                                                      \
  template <class T>                                                                           \
  inline T name(T* pointer, typename ad_emulator::Same<T>::type x, AD_EMULATOR_LINE) {         \
    T* at = ::ad_emulator::accessed(pointer, ::ad_emulator::Access::atomic, line);             \
    T old = *at;                                                                               \
    *at = updated;                                                                             \
    return old;                                                                                \
  }
AD_EMULATOR_ATOMIC(atomicAdd, old + x)
AD_EMULATOR_ATOMIC(atomicSub, old - x)
AD_EMULATOR_ATOMIC(atomicExch, x)
AD_EMULATOR_ATOMIC(atomicMax, old < x ? x : old)
AD_EMULATOR_ATOMIC(atomicMin, x < old ? x : old)
AD_EMULATOR_ATOMIC(atomicAnd, old & x)
AD_EMULATOR_ATOMIC(atomicOr, old | x)
AD_EMULATOR_ATOMIC(atomicXor, old ^ x)
AD_EMULATOR_ATOMIC(atomicInc, old >= x ? T(0) : T(old + 1))
AD_EMULATOR_ATOMIC(atomicDec, old == 0 || old > x ? x : T(old - 1))

template <class T>
inline T atomicCAS(T* pointer, typename ad_emulator::Same<T>::type expected,
                   typename ad_emulator::Same<T>::type x, AD_EMULATOR_LINE) {
  T* at = ::ad_emulator::accessed(pointer, ::ad_emulator::Access::atomic, line);
  T old = *at;
  if (old == expected) *at = x;
  return old;
}

inline void __threadfence(AD_EMULATOR_LINE) {
#ifdef AD_EMULATOR_CHECKED
  ad_emulator::record_fence(line);
#endif
}
inline void __threadfence_system(AD_EMULATOR_LINE) { __threadfence(line); }
inline void __threadfence_block() {}

[[noreturn]] inline void __trap(AD_EMULATOR_LINE) {
  ad_emulator::current.line = line;
  ad_emulator::fail("the kernel called __trap");
}

#include "cuda_math.h"

// ---- How the runtime calls a kernel: with an array of the addresses of its parameters.

namespace ad_emulator {

template <size_t... numbers>
struct Numbers {};
template <size_t count, size_t... numbers>
struct Count : Count<count - 1, count - 1, numbers...> {};
template <size_t... numbers>
struct Count<0, numbers...> {
  typedef Numbers<numbers...> type;
};

template <class... P, size_t... numbers>
inline void call(void (*kernel)(P...), void** parameters, Numbers<numbers...>) {
  kernel(*static_cast<P*>(parameters[numbers])...);
}

template <class... P>
inline void call(void (*kernel)(P...), void** parameters) {
  call(kernel, parameters, typename Count<sizeof...(P)>::type());
}

// The number of parameters and the bytes of each.
template <class... P>
inline const unsigned* sizes(void (*)(P...)) {
  static const unsigned found[] = {unsigned(sizeof...(P)), unsigned(sizeof(P))...};
  return found;
}

}  // namespace ad_emulator

#define AD_EMULATOR_KERNEL(name)                                                           \
  extern "C" __attribute__((visibility("default"))) void ad_emulator_run_##name(           \
      void** parameters) {                                                                 \
    ::ad_emulator::call(&name, parameters);                                                \
  }                                                                                        \
  extern "C" __attribute__((visibility("default"))) const unsigned*                        \
      ad_emulator_sizes_##name() {                                                         \
    return ::ad_emulator::sizes(&name);                                                    \
  }

// Where the memory declared `__shared__` lies: the linker's names of the section's ends.
extern "C" unsigned char __start_ad_emulator_shared[]
    __attribute__((weak, visibility("hidden")));
extern "C" unsigned char __stop_ad_emulator_shared[]
    __attribute__((weak, visibility("hidden")));

extern "C" inline __attribute__((used, visibility("default"))) size_t ad_emulator_declared(
    unsigned char** begin) {
  *begin = __start_ad_emulator_shared;
  return __start_ad_emulator_shared ? __stop_ad_emulator_shared - __start_ad_emulator_shared : 0;
}
