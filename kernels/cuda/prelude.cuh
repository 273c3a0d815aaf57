// What generated kernels are written with. It includes nothing, so it costs a compiler little:
// names of integer types, complex numbers, lanes of neighbouring elements, 16-bit floats,
// combinations over the threads of a warp and of a block, running results, atomic operations.
//
// All memory of kernels is read and written by AD_LD and AD_ST. What has no C++ (inline PTX) has a
// twin in C++, for compilers of processors, under AUTODIFF_EMULATOR.

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define AD_INF_F32 __uint_as_float(0x7f800000u)
#define AD_NAN_F32 __uint_as_float(0x7fc00000u)
#define AD_INF_F64 __longlong_as_double(0x7ff0000000000000ll)
#define AD_NAN_F64 __longlong_as_double(0x7ff8000000000000ll)

#ifndef AD_LD
#define AD_LD(pointer) (*(pointer))
#define AD_ST(pointer, value) (*(pointer) = (value))
#endif

// ---- complex numbers, as they lie in memory

template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T real, imag;
};

template <class T>
inline __device__ Complex<T> make_complex(T real, T imag) {
  return {real, imag};
}

// ---- lanes: neighbouring elements, read and written by one instruction of at most 16 bytes

template <class T, int count>
struct alignas(sizeof(T) * count) Lanes {
  T at[count];
  __device__ T& operator[](int k) { return at[k]; }
  __device__ const T& operator[](int k) const { return at[k]; }
};

// Return elements i to i + count - 1; the first one's address is a multiple of their size.
template <int count, class T>
inline __device__ Lanes<T, count> load_lanes(const T* pointer, i64 i) {
  return AD_LD((const Lanes<T, count>*)(pointer + i));
}

// Return the first `left` of these elements, then zeros.
template <int count, class T>
inline __device__ Lanes<T, count> load_first_lanes(const T* pointer, i64 i, int left) {
  Lanes<T, count> lanes = {};
#pragma unroll
  for (int k = 0; k < count; ++k) {
    if (k < left) lanes[k] = AD_LD(&pointer[i + k]);
  }
  return lanes;
}

template <class T, int count>
inline __device__ void store_lanes(T* pointer, i64 i, const Lanes<T, count>& lanes) {
  AD_ST((Lanes<T, count>*)(pointer + i), lanes);
}

template <class T, int count>
inline __device__ void store_first_lanes(T* pointer, i64 i, const Lanes<T, count>& lanes, int left) {
#pragma unroll
  for (int k = 0; k < count; ++k) {
    if (k < left) AD_ST(&pointer[i + k], lanes[k]);
  }
}

// ---- indices

// A divisor and what takes the place of dividing by it: n / size is (n * magic >> 32) + n >> shift
// for n below 2**31 (Granlund and Montgomery, Division by invariant integers using multiplication,
// PLDI 1994, figure 4.1, with a multiplier of 33 bits whose highest bit is the sum).
struct Divisor {
  u32 size, magic, shift;
};

inline __device__ u32 quotient(u32 n, const Divisor& d) {
  return (__umulhi(n, d.magic) + n) >> d.shift;
}

// ---- 16-bit floats: their bits, and 32-bit floats of the same value

#ifdef AUTODIFF_EMULATOR

inline __device__ float half_value(u16 bits) {
  const u32 placed = u32(bits & 0x7fff) << 13;
  // Shifted into place the exponent is too small by 127 - 15 = 112.
  const float finite = __uint_as_float(placed) * 0x1p112f;
  const float size = placed >= 0x0f800000u ? __uint_as_float(placed | 0x7f800000u) : finite;
  return bits & 0x8000 ? -size : size;
}

inline __device__ u16 half_bits(float x) {
  const u32 sign = __float_as_uint(x) >> 16 & 0x8000;
  const float size = fabsf(x);
  if (x != x) return u16(sign | 0x7e00);
  if (size >= 65520.0f) return u16(sign | 0x7c00);
  // Below 2**-14 float16 is a fixed point of 2**-24, the last place of numbers from 1/2 to 1.
  if (size < 0x1p-14f) return u16(sign | (__float_as_uint(size + 0.5f) - 0x3f000000u));
  const u32 bits = __float_as_uint(size);
  return u16(sign | ((bits + 0xfff + (bits >> 13 & 1)) >> 13) - (112 << 10));
}

#else

inline __device__ float half_value(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

inline __device__ u16 half_bits(float x) {
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

#endif

inline __device__ float bfloat16_value(u16 bits) { return __uint_as_float(u32(bits) << 16); }

inline __device__ u16 bfloat16_bits(float x) {
#if !defined(AUTODIFF_EMULATOR) && __CUDA_ARCH__ >= 800
  u16 bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#else
  const u32 bits = __float_as_uint(x);
  return x != x ? u16(0x7fc0) : u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

inline __device__ float round_to_half(float x) { return half_value(half_bits(x)); }
inline __device__ float round_to_bfloat16(float x) { return bfloat16_value(bfloat16_bits(x)); }

// ---- the value of another thread of the warp

// Return x of the thread numbered `lane` among `threads` neighbouring ones (a power of 2, at most
// 32), counted modulo these. Every thread of the warp must call it.
template <class T>
inline __device__ T from_lane(T x, int lane, int threads = 32) {
  return __shfl_sync(0xffffffffu, x, lane, threads);
}
inline __device__ bool from_lane(bool x, int lane, int threads = 32) {
  return from_lane(int(x), lane, threads) != 0;
}
inline __device__ u8 from_lane(u8 x, int lane, int threads = 32) {
  return u8(from_lane(u32(x), lane, threads));
}
inline __device__ u16 from_lane(u16 x, int lane, int threads = 32) {
  return u16(from_lane(u32(x), lane, threads));
}
template <class T>
inline __device__ Complex<T> from_lane(Complex<T> x, int lane, int threads = 32) {
  return {from_lane(x.real, lane, threads), from_lane(x.imag, lane, threads)};
}

// ---- reductions: `R::combine` over threads, in an order that does not change from run to run

inline __device__ bool shuffled(bool x, int mask) {
  return __shfl_xor_sync(0xffffffffu, int(x), mask) != 0;
}
inline __device__ u8 shuffled(u8 x, int mask) {
  return u8(__shfl_xor_sync(0xffffffffu, u32(x), mask));
}
inline __device__ u16 shuffled(u16 x, int mask) {
  return u16(__shfl_xor_sync(0xffffffffu, u32(x), mask));
}
template <class T>
inline __device__ T shuffled(T x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}
template <class T>
inline __device__ Complex<T> shuffled(Complex<T> x, int mask) {
  return {shuffled(x.real, mask), shuffled(x.imag, mask)};
}

// Return, in each of `threads` neighbouring threads (a power of 2, at most 32), x of all of them
// combined. Every thread of the warp must call it.
template <class R, int threads, class T>
inline __device__ T over_warp(T x) {
#pragma unroll
  for (int mask = threads / 2; mask > 0; mask /= 2) x = R::combine(x, shuffled(x, mask));
  return x;
}

// Return, in each thread of a block of `threads` (a multiple of 32) along x, x of all combined.
// `shared` has room for one T a warp. Two barriers, which every thread of the block must meet.
template <class R, int threads, class T>
inline __device__ T over_block(T x, T* shared) {
  x = over_warp<R, 32>(x);
  if (threadIdx.x % 32 == 0) AD_ST(&shared[threadIdx.x / 32], x);
  __syncthreads();
  x = AD_LD(&shared[0]);
#pragma unroll
  for (int warp = 1; warp < threads / 32; ++warp) x = R::combine(x, AD_LD(&shared[warp]));
  __syncthreads();  // before the next one writes there
  return x;
}

// Return, in each thread of a block of (32, threads), x of those of one threadIdx.x combined.
// `shared` has room for one T a thread. Two barriers, which every thread of the block must meet.
template <class R, int threads, class T>
inline __device__ T over_columns(T x, T* shared) {
  AD_ST(&shared[threadIdx.y * 32 + threadIdx.x], x);
  __syncthreads();
  x = AD_LD(&shared[threadIdx.x]);
#pragma unroll
  for (int row = 1; row < threads; ++row) {
    x = R::combine(x, AD_LD(&shared[row * 32 + threadIdx.x]));
  }
  __syncthreads();  // before the next one writes there
  return x;
}

// Return, in each thread of a block, whether the block is the last of `blocks` to get here. What
// threads of the blocks have written before is then seen by all threads of the last one. The counter
// is 0 before and after. `shared`: one u32. Two barriers, which every thread of the block must meet.
inline __device__ bool is_last_block(u32* counter, u32 blocks, u32* shared) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    AD_ST(shared, atomicInc(counter, blocks - 1) == blocks - 1);
  }
  __syncthreads();
  __threadfence();
  return AD_LD(shared);
}

// ---- running results: what comes before the points of a thread, in an order that does not change
//
// A stretch is some neighbouring points of a row. `S` has a type Part, what is known of a stretch;
// `combine(x, y)` of a stretch x and the one after it; `identity()`, which leaves the other one as
// it is; `value(x)`, the running result at the end of a stretch that begins where the row does.

// mantissa * 2**exponent, so that no product of a few billion factors leaves the range: the larger
// part of the mantissa is in [1/2, 1), or 0, infinite or NaN. Where nothing is multiplied yet the
// mantissa is 1.
template <class T>
struct Scaled {
  T mantissa;
  int exponent;
};

// y -> factor * y + term.
template <class T>
struct Affine {
  Scaled<T> factor;
  T term;
};

// Return e of x = m * 2**e with m in [1/2, 1), 0 if x is 0, infinite or NaN.
inline __device__ int exponent_of(float x) {
  const u32 bits = __float_as_uint(x) & 0x7fffffffu;
  if (bits >= 0x7f800000u || bits == 0) return 0;
  return bits >= 0x00800000u ? int(bits >> 23) - 126 : -117 - __clz(int(bits));
}
inline __device__ int exponent_of(double x) {
  const u64 bits = u64(__double_as_longlong(x)) & 0x7fffffffffffffffull;
  if (bits >= 0x7ff0000000000000ull || bits == 0) return 0;
  return bits >= 0x0010000000000000ull ? int(bits >> 52) - 1022 : -1010 - __clzll(i64(bits));
}
template <class T>
inline __device__ int exponent_of(const Complex<T>& x) {
  return exponent_of(fmax(fabs(x.real), fabs(x.imag)));
}

// Return x * 2**n, for x of a size in [1/4, 2) rounded once.
inline __device__ float by_power(float x, int n) {
  const int bounded = n < -240 ? -240 : n > 240 ? 240 : n, half = bounded / 2;
  return x * __int_as_float((half + 127) << 23) * __int_as_float((bounded - half + 127) << 23);
}
inline __device__ double by_power(double x, int n) {
  const int bounded = n < -2000 ? -2000 : n > 2000 ? 2000 : n, half = bounded / 2;
  return x * __longlong_as_double(i64(half + 1023) << 52) *
         __longlong_as_double(i64(bounded - half + 1023) << 52);
}
template <class T>
inline __device__ Complex<T> by_power(const Complex<T>& x, int n) {
  return {by_power(x.real, n), by_power(x.imag, n)};
}

// Return mantissa * 2**exponent, exponents beyond a billion as if they were that.
template <class T>
inline __device__ Scaled<T> normalized(const T& mantissa, int exponent) {
  const int own = exponent_of(mantissa), sum = exponent + own, most = 1000000000;
  return {by_power(mantissa, -own), sum > most ? most : sum < -most ? -most : sum};
}

template <class T>
inline __device__ bool is_nothing(const Scaled<T>& x) {
  return x.mantissa == T(1);
}
template <class T>
inline __device__ bool is_nothing(const Scaled<Complex<T>>& x) {
  return x.mantissa.real == T(1);
}
template <class T>
inline __device__ bool is_nothing(const Affine<T>& x) {
  return is_nothing(x.factor);
}

template <class T>
inline __device__ Scaled<T> from_lane(Scaled<T> x, int lane, int threads) {
  return {from_lane(x.mantissa, lane, threads), from_lane(x.exponent, lane, threads)};
}
template <class T>
inline __device__ Affine<T> from_lane(Affine<T> x, int lane, int threads) {
  return {from_lane(x.factor, lane, threads), from_lane(x.term, lane, threads)};
}

// Return what is known of the stretches of the threads before this one, of `threads` neighbouring
// ones (a power of 2, at most 32); x, this thread's, becomes what is known up to its end (Hillis and
// Steele, Data parallel algorithms, Communications of the ACM 29, 1986, section 3). Every thread of
// the warp must call it.
template <class S, int threads, class P>
inline __device__ P before_in_warp(P& x) {
  const int lane = threadIdx.x % threads;
#pragma unroll
  for (int distance = 1; distance < threads; distance *= 2) {
    const P other = from_lane(x, lane - distance, threads);
    if (lane >= distance) x = S::combine(other, x);
  }
  const P before = from_lane(x, lane - 1, threads);
  return lane > 0 ? before : S::identity();
}

// Of a thread's stretches, k of all threads come before k + 1 of all. `part[k]`, what is known of
// one, becomes what is known of all points before it; `carried`, of all before the first stretches,
// becomes what is known of all to the end of the last ones. For `threads` neighbouring threads, as
// above.
template <class S, int threads, int steps, class P>
inline __device__ void carry_over_warp(P (&part)[steps], P& carried) {
#pragma unroll
  for (int k = 0; k < steps; ++k) {
    P known = part[k];
    part[k] = S::combine(carried, before_in_warp<S, threads>(known));
    carried = S::combine(carried, from_lane(known, threads - 1, threads));
  }
}

// The same for a block of `threads` (32 times a power of 2) along x, where all stretches of a warp
// come before those of the next one. `shared` has room for one P a warp. Two barriers, which every
// thread of the block must meet.
template <class S, int threads, int steps, class P>
inline __device__ void carry_over_block(P (&part)[steps], P& carried, P* shared) {
  const int warps = threads / 32;
  P known = S::identity();
  carry_over_warp<S, 32>(part, known);
  if (threadIdx.x % 32 == 0) AD_ST(&shared[threadIdx.x / 32], known);
  __syncthreads();
  known = AD_LD(&shared[threadIdx.x % warps]);
  P before = before_in_warp<S, warps>(known);
  before = S::combine(carried, from_lane(before, threadIdx.x / 32, warps));
#pragma unroll
  for (int k = 0; k < steps; ++k) part[k] = S::combine(before, part[k]);
  carried = S::combine(carried, from_lane(known, warps - 1, warps));
  __syncthreads();  // before the next one writes there
}

// The same for the threads of one threadIdx.x of a block of (32, threads), one stretch a thread.
// `shared` has room for one P a thread. Two barriers, which every thread of the block must meet.
template <class S, int threads, class P>
inline __device__ void carry_over_columns(P (&part)[1], P& carried, P* shared) {
  AD_ST(&shared[threadIdx.y * 32 + threadIdx.x], part[0]);
  __syncthreads();
#pragma unroll
  for (int row = 0; row < threads; ++row) {
    if (row == threadIdx.y) part[0] = carried;
    carried = S::combine(carried, AD_LD(&shared[row * 32 + threadIdx.x]));
  }
  __syncthreads();  // before the next one writes there
}

// Return what is known of those of a row's `all` parts, `apart` elements from each other, that come
// before number `count` and are this thread's: neighbours, as many for each of `threads`.
template <class S, int threads, class P>
inline __device__ P of_parts(const P* parts, int apart, int count, int all, int thread) {
  const int each = (all + threads - 1) / threads, first = each * thread;
  P known = S::identity();
  for (int k = first; k < first + each && k < count; ++k) {
    known = S::combine(known, AD_LD(&parts[i64(k) * apart]));
  }
  return known;
}

// ---- atomic operations on integers of 32 or 64 bits, and on smaller ones

template <class T>
inline __device__ void atomic_add(T* to, T x) { atomicAdd(to, x); }
inline __device__ void atomic_add(i64* to, i64 x) { atomicAdd((u64*)to, u64(x)); }
template <class T>
inline __device__ void atomic_min(T* to, T x) { atomicMin(to, x); }
template <class T>
inline __device__ void atomic_max(T* to, T x) { atomicMax(to, x); }

// Let *to, an integer of at least 16 bits, become R::combine(*to, x) in one step.
template <class R, class T>
inline __device__ void combine_atomically(T* to, T x) {
  for (T seen = 0;;) {
    const T found = atomicCAS(to, seen, R::combine(seen, x));
    if (found == seen) return;
    seen = found;
  }
}
