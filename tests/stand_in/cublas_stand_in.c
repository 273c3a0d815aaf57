// Products of matrices and vectors in place of cuBLAS, as far as CuPy calls them for arrays.
//
// This library is called as cuBLAS is, and has all names that CuPy's module asks for: those that
// are not here are added by install.py, and report CUBLAS_STATUS_NOT_SUPPORTED. Matrices are in
// column order, as cuBLAS has them. Everything is computed in double precision, element by
// element, and rounded once. What is put on a stream has happened when the call returns.

#include <complex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

enum { SUCCESS = 0, NOT_SUPPORTED = 15 };

// Types of elements, by the numbers of CUDA's library_types.h.
enum { F32 = 0, F64 = 1, F16 = 2, C64 = 4, C128 = 5, BF16 = 14 };

typedef double complex Number;

typedef struct {
  void* stream;
  int pointer_mode, math_mode;
} Handle;

API int cublasCreate_v2(Handle** handle) {
  return *handle = calloc(1, sizeof **handle), SUCCESS;
}
API int cublasDestroy_v2(Handle* handle) { return free(handle), SUCCESS; }
API int cublasGetVersion_v2(Handle* handle, int* version) { return *version = 130000, SUCCESS; }
API int cublasSetStream_v2(Handle* handle, void* stream) {
  return handle->stream = stream, SUCCESS;
}
API int cublasGetStream_v2(Handle* handle, void** stream) {
  return *stream = handle->stream, SUCCESS;
}
API int cublasSetPointerMode_v2(Handle* handle, int mode) {
  return handle->pointer_mode = mode, SUCCESS;
}
API int cublasGetPointerMode_v2(Handle* handle, int* mode) {
  return *mode = handle->pointer_mode, SUCCESS;
}
API int cublasSetMathMode(Handle* handle, int mode) { return handle->math_mode = mode, SUCCESS; }
API int cublasGetMathMode(Handle* handle, int* mode) {
  return *mode = handle->math_mode, SUCCESS;
}

static Number read_at(const void* p, int64_t i, int type) {
  unsigned word;
  float value;
  switch (type) {
    case F32: return ((const float*)p)[i];
    case F64: return ((const double*)p)[i];
    case F16: return (double)((const _Float16*)p)[i];
    case C64: return ((const float complex*)p)[i];
    case C128: return ((const double complex*)p)[i];
  }
  word = (unsigned)((const uint16_t*)p)[i] << 16;
  memcpy(&value, &word, 4);
  return value;
}

static void write_at(void* p, int64_t i, int type, Number x) {
  unsigned word;
  float value = (float)creal(x);
  switch (type) {
    case F32: ((float*)p)[i] = value; return;
    case F64: ((double*)p)[i] = creal(x); return;
    case F16: ((_Float16*)p)[i] = (_Float16)creal(x); return;
    case C64: ((float complex*)p)[i] = (float complex)x; return;
    case C128: ((double complex*)p)[i] = x; return;
  }
  memcpy(&word, &value, 4);  // to the nearest bfloat16, ties to even
  ((uint16_t*)p)[i] = (word + 0x7fff + (word >> 16 & 1)) >> 16;
}

// Of a product: the type of its factors alpha and beta.
static int scale_of(int type, int compute) {
  if (type == C64 || type == C128) return type;
  return compute == 64 || compute == 65 ? F16 : type == F64 ? F64 : F32;
}

// How a matrix is taken: 0 as it is, 1 transposed, 2 transposed and conjugate.
static Number element(const void* a, int how, int64_t row, int64_t column, int64_t ld, int type) {
  Number x = how ? read_at(a, column + row * ld, type) : read_at(a, row + column * ld, type);
  return how == 2 ? conj(x) : x;
}

static int size_of(int type) {
  return type == C128 ? 16 : type == F64 || type == C64 ? 8 : type == F32 ? 4 : 2;
}

static void product(
    int how_a, int how_b, int64_t m, int64_t n, int64_t k, Number alpha, const void* a,
    int type_a, int64_t lda, const void* b, int type_b, int64_t ldb, Number beta, void* c,
    int type, int64_t ldc) {
  for (int64_t j = 0; j < n; j++)
    for (int64_t i = 0; i < m; i++) {
      Number sum = 0;
      for (int64_t l = 0; l < k; l++)
        sum += element(a, how_a, i, l, lda, type_a) * element(b, how_b, l, j, ldb, type_b);
      sum *= alpha;
      if (beta != 0) sum += beta * read_at(c, i + j * ldc, type);
      write_at(c, i + j * ldc, type, sum);
    }
}

API int cublasGemmStridedBatchedEx(
    Handle* handle, int how_a, int how_b, int m, int n, int k, const void* alpha, const void* a,
    int type_a, int lda, long long stride_a, const void* b, int type_b, int ldb,
    long long stride_b, const void* beta, void* c, int type, int ldc, long long stride, int count,
    int compute, int algorithm) {
  int scale = scale_of(type, compute);
  for (int i = 0; i < count; i++)
    product(how_a, how_b, m, n, k, read_at(alpha, 0, scale),
            (const char*)a + i * stride_a * size_of(type_a), type_a, lda,
            (const char*)b + i * stride_b * size_of(type_b), type_b, ldb, read_at(beta, 0, scale),
            (char*)c + i * stride * size_of(type), type, ldc);
  return SUCCESS;
}

API int cublasGemmEx(
    Handle* handle, int how_a, int how_b, int m, int n, int k, const void* alpha, const void* a,
    int type_a, int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type,
    int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(handle, how_a, how_b, m, n, k, alpha, a, type_a, lda, 0, b,
                                    type_b, ldb, 0, beta, c, type, ldc, 0, 1, compute, algorithm);
}

// For each type of elements: products of matrices, one, many at strides, many at addresses, of a
// matrix and a vector, and of vectors.
#define PRODUCTS(letter, type)                                                                  \
  API int cublas##letter##gemm_v2(                                                              \
      Handle* handle, int how_a, int how_b, int m, int n, int k, const void* alpha,             \
      const void* a, int lda, const void* b, int ldb, const void* beta, void* c, int ldc) {     \
    product(how_a, how_b, m, n, k, read_at(alpha, 0, type), a, type, lda, b, type, ldb,         \
            read_at(beta, 0, type), c, type, ldc);                                              \
    return SUCCESS;                                                                             \
  }                                                                                             \
  API int cublas##letter##gemmStridedBatched(                                                   \
      Handle* handle, int how_a, int how_b, int m, int n, int k, const void* alpha,             \
      const void* a, int lda, long long stride_a, const void* b, int ldb, long long stride_b,   \
      const void* beta, void* c, int ldc, long long stride, int count) {                        \
    for (int64_t i = 0; i < count; i++)                                                         \
      product(how_a, how_b, m, n, k, read_at(alpha, 0, type),                                   \
              (const char*)a + i * stride_a * size_of(type), type, lda,                         \
              (const char*)b + i * stride_b * size_of(type), type, ldb, read_at(beta, 0, type), \
              (char*)c + i * stride * size_of(type), type, ldc);                                \
    return SUCCESS;                                                                             \
  }                                                                                             \
  API int cublas##letter##gemmBatched(                                                          \
      Handle* handle, int how_a, int how_b, int m, int n, int k, const void* alpha,             \
      const void* const* a, int lda, const void* const* b, int ldb, const void* beta,           \
      void* const* c, int ldc, int count) {                                                     \
    for (int i = 0; i < count; i++)                                                             \
      product(how_a, how_b, m, n, k, read_at(alpha, 0, type), a[i], type, lda, b[i], type, ldb, \
              read_at(beta, 0, type), c[i], type, ldc);                                         \
    return SUCCESS;                                                                             \
  }                                                                                             \
  API int cublas##letter##gemv_v2(                                                              \
      Handle* handle, int how, int m, int n, const void* alpha, const void* a, int lda,         \
      const void* x, int step_x, const void* beta, void* y, int step_y) {                       \
    for (int64_t i = 0; i < (how ? n : m); i++) {                                               \
      Number sum = 0, scale = read_at(beta, 0, type);                                           \
      for (int64_t l = 0; l < (how ? m : n); l++)                                               \
        sum += element(a, how, i, l, lda, type) * read_at(x, l * step_x, type);                 \
      sum *= read_at(alpha, 0, type);                                                           \
      if (scale != 0) sum += scale * read_at(y, i * step_y, type);                              \
      write_at(y, i * step_y, type, sum);                                                       \
    }                                                                                           \
    return SUCCESS;                                                                             \
  }

#define DOT(name, type, first)                                                                 \
  API int name(                                                                                \
      Handle* handle, int n, const void* x, int step_x, const void* y, int step_y, void* out) { \
    Number sum = 0;                                                                            \
    for (int64_t i = 0; i < n; i++)                                                            \
      sum += first(read_at(x, i * step_x, type)) * read_at(y, i * step_y, type);               \
    write_at(out, 0, type, sum);                                                               \
    return SUCCESS;                                                                            \
  }

PRODUCTS(S, F32)
PRODUCTS(D, F64)
PRODUCTS(C, C64)
PRODUCTS(Z, C128)
DOT(cublasSdot_v2, F32, )
DOT(cublasDdot_v2, F64, )
DOT(cublasCdotu_v2, C64, )
DOT(cublasZdotu_v2, C128, )
DOT(cublasCdotc_v2, C64, conj)
DOT(cublasZdotc_v2, C128, conj)

#define ABSENT(name) \
  API int name(void) { return NOT_SUPPORTED; }
