// CUDA's runtime and driver as far as CuPy asks for them, with two devices in the host's memory.
//
// Runtime functions (cuda...) are put in the place of CuPy's own by install.py; the driver's
// (cu...) are found by their names, since this library is called libcuda.so.1. All that is put
// on a stream has happened when the call returns. Programs are loaded and kernels are run by
// the functions that `stand_in_connect` is given. What is not here fails: a function of the
// runtime with cudaErrorNotSupported, one of the driver by not being found.

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define API __attribute__((visibility("default")))

enum { DEVICES = 2, MOST = 1 << 16, TOTAL_MEMORY = 1 << 30 };

// Error codes; the runtime's and the driver's have the same numbers.
enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700,
  PEER_ALREADY_ENABLED = 704,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
};

static __thread int current;
static __thread int last_error;
static __thread char explanation[4096];  // of the last failure, beside its code

static int failed(int code, const char* why) {
  last_error = code;
  snprintf(explanation, sizeof explanation, "%s", why);
  return code;
}

// ---- memory

typedef struct {
  char* begin;
  size_t size;
  int device;  // -1: pinned, of the host
} Allocation;

static Allocation allocations[MOST];
static int allocated;
static size_t used[DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static Allocation* found(const void* p) {
  for (int i = 0; i < allocated; i++) {
    Allocation* a = &allocations[i];
    if ((char*)p >= a->begin && (char*)p < a->begin + a->size) return a;
  }
  return NULL;
}

// Returns the device on which an address lies, -1 if on none.
API int stand_in_device_of(const void* p) {
  pthread_mutex_lock(&lock);
  Allocation* a = found(p);
  int device = a ? a->device : -1;
  pthread_mutex_unlock(&lock);
  return device;
}

static int allocate(void** p, size_t size, int device) {
  if (!size) return *p = NULL, SUCCESS;
  if (device >= 0 && used[device] + size > TOTAL_MEMORY)
    return failed(OUT_OF_MEMORY, "the stand-in's device has 1 GiB");
  void* made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (made == MAP_FAILED) return failed(OUT_OF_MEMORY, "the host has no memory left");
  memset(made, 0xFF, size);  // NaN, that what is never written is seen
  pthread_mutex_lock(&lock);
  if (allocated == MOST) abort();
  allocations[allocated++] = (Allocation){made, size, device};
  if (device >= 0) used[device] += size;
  pthread_mutex_unlock(&lock);
  return *p = made, SUCCESS;
}

static int release(void* p, int is_of_host) {
  if (!p) return SUCCESS;
  pthread_mutex_lock(&lock);
  Allocation* a = found(p);
  int is_known = a && a->begin == (char*)p && (a->device < 0) == is_of_host;
  if (is_known) {
    munmap(a->begin, a->size);
    if (a->device >= 0) used[a->device] -= a->size;
    *a = allocations[--allocated];
  }
  pthread_mutex_unlock(&lock);
  return is_known ? SUCCESS : failed(INVALID_VALUE, "what is freed was not allocated");
}

API int cudaMalloc(void** p, size_t size) { return allocate(p, size, current); }
API int cudaFree(void* p) { return release(p, 0); }
API int cudaHostAlloc(void** p, size_t size, unsigned flags) { return allocate(p, size, -1); }
API int cudaFreeHost(void* p) { return release(p, 1); }

API int cudaMemGetInfo(size_t* available, size_t* total) {
  *total = TOTAL_MEMORY;
  *available = TOTAL_MEMORY - used[current];
  return SUCCESS;
}

// Returns whether `size` bytes from `p` on lie in one allocation of a device, or outside all.
static int is_placed(const void* p, size_t size, int is_on_device) {
  pthread_mutex_lock(&lock);
  Allocation* a = found(p);
  int is_there = a && a->device >= 0;
  int is_inside = is_there && (char*)p + size <= a->begin + a->size;
  pthread_mutex_unlock(&lock);
  return is_on_device ? is_inside : !is_there;
}

API int cudaMemcpy(void* to, const void* from, size_t size, int kind) {
  if (!size) return SUCCESS;
  int to_device = kind == 1 || kind == 3, from_device = kind == 2 || kind == 3;
  if (kind != 4 && !(is_placed(to, size, to_device) && is_placed(from, size, from_device)))
    return failed(INVALID_VALUE, "a copy is not between the kinds of memory that it says");
  memmove(to, from, size);
  return SUCCESS;
}

API int cudaMemset(void* p, int value, size_t size) {
  if (size && !is_placed(p, size, 1)) return failed(INVALID_VALUE, "memset of other memory");
  memset(p, value, size);
  return SUCCESS;
}

API int cudaMemcpyPeer(void* to, int device, const void* from, int other, size_t size) {
  return cudaMemcpy(to, from, size, 3);
}

typedef struct {
  int type;  // 0: the host's, 1: the host's, pinned, 2: a device's
  int device;
  void* on_device;
  void* on_host;
  long reserved[8];
} PointerAttributes;

API int cudaPointerGetAttributes(PointerAttributes* attributes, const void* p) {
  pthread_mutex_lock(&lock);
  Allocation* a = found(p);
  attributes->type = !a ? 0 : a->device < 0 ? 1 : 2;
  attributes->device = a && a->device >= 0 ? a->device : a ? 0 : -2;
  attributes->on_device = a ? (void*)p : NULL;
  attributes->on_host = a && a->device < 0 ? (void*)p : NULL;
  pthread_mutex_unlock(&lock);
  return SUCCESS;
}

// ---- devices

API int cudaGetDeviceCount(int* count) { return *count = DEVICES, SUCCESS; }
API int cudaGetDevice(int* device) { return *device = current, SUCCESS; }
API int cudaDeviceSynchronize(void) { return SUCCESS; }
API int cudaDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
API int cudaRuntimeGetVersion(int* version) { return *version = 13000, SUCCESS; }

API int cudaSetDevice(int device) {
  if (device < 0 || device >= DEVICES) return failed(INVALID_DEVICE, "there are two devices");
  current = device;
  return SUCCESS;
}

API int cudaDeviceGetAttribute(int* value, int attribute, int device) {
  if (device < 0 || device >= DEVICES) return failed(INVALID_DEVICE, "there are two devices");
  switch (attribute) {
    case 1: return *value = 1024, SUCCESS;    // threads of a block
    case 8: return *value = 48 << 10, SUCCESS;  // bytes of shared memory of a block
    case 10: return *value = 32, SUCCESS;     // threads of a warp
    case 16: return *value = 4, SUCCESS;      // multiprocessors
    case 75: return *value = 9, SUCCESS;      // compute capability, major
    case 76: return *value = 0, SUCCESS;      // minor
  }
  return *value = 0, SUCCESS;  // what it has not, such as memory pools of the driver
}

// The fields before the last one, as CUDA 13 has them.
typedef struct {
  char name[256], uuid[16], luid[8];
  unsigned luid_mask;
  size_t memory, shared_memory;
  int registers, warp;
  size_t pitch;
  int threads, block[3], grid[3];
  size_t constant_memory;
  int major, minor;
  size_t alignment, pitch_alignment;
  int multiprocessors;
} Properties;

API int cudaGetDeviceProperties(Properties* properties, int device) {
  if (device < 0 || device >= DEVICES) return failed(INVALID_DEVICE, "there are two devices");
  memset(properties, 0, sizeof *properties);
  snprintf(properties->name, sizeof properties->name, "stand-in %d", device);
  properties->memory = TOTAL_MEMORY;
  properties->shared_memory = 48 << 10;
  properties->warp = 32;
  properties->threads = 1024;
  properties->major = 9;
  properties->multiprocessors = 4;
  return SUCCESS;
}

API int cudaDeviceCanAccessPeer(int* can, int device, int peer) { return *can = 0, SUCCESS; }

// ---- streams and events

typedef struct {
  int device;
  unsigned flags;
} Stream;

API int cudaStreamCreateWithFlags(Stream** stream, unsigned flags) {
  *stream = malloc(sizeof **stream);
  **stream = (Stream){current, flags};
  return SUCCESS;
}

API int cudaStreamCreate(Stream** stream) { return cudaStreamCreateWithFlags(stream, 0); }

API int cudaStreamCreateWithPriority(Stream** stream, unsigned flags, int priority) {
  return cudaStreamCreateWithFlags(stream, flags);
}

API int cudaStreamDestroy(Stream* stream) { return free(stream), SUCCESS; }
API int cudaStreamSynchronize(Stream* stream) { return SUCCESS; }
API int cudaStreamQuery(Stream* stream) { return SUCCESS; }
API int cudaStreamIsCapturing(Stream* stream, int* status) { return *status = 0, SUCCESS; }
API int cudaStreamWaitEvent(Stream* stream, void* event, unsigned flags) { return SUCCESS; }

API int cudaStreamGetFlags(Stream* stream, unsigned* flags) {
  return *flags = (uintptr_t)stream > 2 ? stream->flags : 0, SUCCESS;
}

API int cudaMemcpyAsync(void* to, const void* from, size_t size, int kind, Stream* stream) {
  return cudaMemcpy(to, from, size, kind);
}

API int cudaMemsetAsync(void* p, int value, size_t size, Stream* stream) {
  return cudaMemset(p, value, size);
}

API int cudaMemcpyPeerAsync(
    void* to, int device, const void* from, int other, size_t size, Stream* stream) {
  return cudaMemcpy(to, from, size, 3);
}

typedef struct timespec Event;

API int cudaEventCreateWithFlags(Event** event, unsigned flags) {
  return *event = calloc(1, sizeof **event), SUCCESS;
}

API int cudaEventCreate(Event** event) { return cudaEventCreateWithFlags(event, 0); }
API int cudaEventDestroy(Event* event) { return free(event), SUCCESS; }
API int cudaEventQuery(Event* event) { return SUCCESS; }
API int cudaEventSynchronize(Event* event) { return SUCCESS; }
API int cudaEventRecord(Event* event, Stream* stream) {
  return clock_gettime(CLOCK_MONOTONIC, event), SUCCESS;
}

API int cudaEventElapsedTime(float* milliseconds, Event* start, Event* end) {
  *milliseconds =
      (end->tv_sec - start->tv_sec) * 1e3f + (end->tv_nsec - start->tv_nsec) / 1e6f;
  return SUCCESS;
}

// ---- errors

API int stand_in_not_supported(void) {
  return failed(NOT_SUPPORTED, "the stand-in has no such function");
}

// In place of the runtime's functions in libraries of compiled kernels, whose errors CuPy does not
// always ask for.
API void stand_in_absent(void) {
  fputs("stand-in: a library of compiled CUDA kernels was called, which cannot run.\n", stderr);
  abort();
}

API int cudaGetLastError(void) {
  int code = last_error;
  last_error = SUCCESS;
  return code;
}

API int cudaPeekAtLastError(void) { return last_error; }

static const char* name_of(int code) {
  switch (code) {
    case SUCCESS: return "SUCCESS";
    case INVALID_VALUE: return "INVALID_VALUE";
    case OUT_OF_MEMORY: return "OUT_OF_MEMORY";
    case INVALID_DEVICE: return "INVALID_DEVICE";
    case INVALID_IMAGE: return "INVALID_IMAGE";
    case INVALID_CONTEXT: return "INVALID_CONTEXT";
    case INVALID_HANDLE: return "INVALID_HANDLE";
    case NOT_FOUND: return "NOT_FOUND";
    case ILLEGAL_ADDRESS: return "ILLEGAL_ADDRESS";
    case LAUNCH_FAILED: return "LAUNCH_FAILED";
    case NOT_SUPPORTED: return "NOT_SUPPORTED";
  }
  return "UNKNOWN";
}

API const char* cudaGetErrorName(int code) { return name_of(code); }
API const char* cudaGetErrorString(int code) { return explanation; }

API int cuGetErrorName(int code, const char** name) { return *name = name_of(code), SUCCESS; }
API int cuGetErrorString(int code, const char** text) { return *text = explanation, SUCCESS; }

// ---- programs and kernels, the driver's

typedef struct {
  int device;
  uintptr_t handle;  // of the functions that `stand_in_connect` was given
} Module, Function;

typedef struct {
  unsigned grid[3], block[3], shared_bytes;
  uintptr_t stream;
  void* parameters;
} Launch;

// Each returns an error code, and writes what went wrong.
static int (*load)(const void* image, uintptr_t* handle, char* why);
static int (*get)(uintptr_t handle, const char* name, uintptr_t* function, char* why);
static int (*run)(uintptr_t function, const Launch* launch, int device, char* why);

API void stand_in_connect(void* loads, void* gets, void* runs) {
  load = loads;
  get = gets;
  run = runs;
}

// Kernels are not run while this is set: what remains of a launch is the host's share.
API int stand_in_is_idle;

static int contexts[DEVICES];

API int cuCtxGetCurrent(void** context) { return *context = &contexts[current], SUCCESS; }
API int cuCtxSetCurrent(void* context) {
  return cudaSetDevice((int)((int*)context - contexts));
}
API int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
API int cuDevicePrimaryCtxRelease(int device) { return SUCCESS; }

API int cuModuleLoadData(Module** module, const void* image) {
  if (!load) return failed(NOT_SUPPORTED, "the stand-in is not connected with an emulator");
  Module* made = malloc(sizeof *made);
  made->device = current;
  int code = load(image, &made->handle, explanation);
  if (code) return free(made), code;
  return *module = made, SUCCESS;
}

API int cuModuleUnload(Module* module) { return free(module), SUCCESS; }

API int cuModuleGetFunction(Function** function, Module* module, const char* name) {
  Function* made = malloc(sizeof *made);
  made->device = module->device;
  int code = get(module->handle, name, &made->handle, explanation);
  if (code) return free(made), code;
  return *function = made, SUCCESS;
}

API int cuFuncGetAttribute(int* value, int attribute, Function* function) {
  return stand_in_not_supported();
}

API int cuFuncSetAttribute(Function* function, int attribute, int value) {
  return stand_in_not_supported();
}

API int cuLaunchKernel(
    Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
    unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream* stream, void* parameters,
    void* extra) {
  if (extra) return failed(INVALID_VALUE, "parameters come as addresses");
  int device = (uintptr_t)stream > 2 ? stream->device : current;
  if (device != current) return failed(INVALID_CONTEXT, "the stream is of another device");
  if (function->device != device)
    return failed(INVALID_HANDLE, "the kernel has been loaded for another device");
  if (stand_in_is_idle) return SUCCESS;
  Launch launch = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes,
                   (uintptr_t)stream, parameters};
  return run(function->handle, &launch, device, explanation);
}
