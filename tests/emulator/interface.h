// What a kernel and the emulator's runtime know of each other.
//
// `current` describes the thread that runs now. A kernel calls `meet` where CUDA threads wait for
// each other, and `record` before each access of memory where a program is built to be checked.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ad_emulator {

struct Index {
  unsigned x, y, z;
};

struct Current {
  Index thread, block, block_size, grid_size;
  unsigned number;       // of the thread within its block, x fastest
  volatile int line;     // of the CUDA text: the last access of memory or meeting
  unsigned char* shared; // the dynamic shared memory
};

extern Current current;

// Where threads wait for others. Those named by the mask must all come to the same line.
enum class Meeting : uint8_t { block_barrier, warp_barrier, shuffle, ballot, match, active_mask };

// Wait for the threads in `mask` of this thread's warp (for all of the block at a block barrier).
// `value` is what this thread gives, `source` the lane whose value a shuffle returns. A ballot
// returns the lanes whose value is not 0, a match the lanes whose value is this thread's.
uint64_t meet(Meeting, unsigned mask, uint64_t value, unsigned source, int line);

enum class Access : uint8_t { read, write, atomic };

// Check an access against the bounds of allocations and against earlier ones of other threads.
void record(const volatile void*, size_t size, Access, int line);

// Note a `__threadfence`: what this thread wrote can be published by an atomic operation.
void record_fence(int line);

// End the launch with an error of the thread that runs now.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

[[noreturn]] void fail_misaligned(size_t alignment, size_t bytes_past);

}  // namespace ad_emulator
