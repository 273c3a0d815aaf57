// What the files of the runtime know of each other: scheduler.cpp, races.cpp and failures.cpp.

#pragma once

#include "interface.h"

namespace ad_emulator {

constexpr unsigned MOST_THREADS = 1024;
constexpr unsigned LANES = 32;

// A launch as Python describes it; fields and order as in launcher.py.
struct Launch {
  void (*kernel)(void** parameters);
  void** parameters;
  Index grid, block;
  uint64_t shared_bytes;  // of dynamic shared memory
  unsigned char* declared_shared;
  uint64_t declared_shared_bytes;
  uint64_t seed;
  uint64_t seconds;       // of processor time, after which the launch has failed
  uint64_t is_checked;    // whether the kernel calls `record`
  const uint64_t* bounds; // begin and end of every allocation, in ascending order
  uint64_t allocations;
};

// The end of a launch that went wrong.
struct Failure {
  char text[1024];
  Index block, thread;
  int line;            // 0: not known
  int has_thread;
};

extern Launch launch;

// ---- scheduler.cpp

// Whether an address is of the block's shared memory, of the page after it, of a thread's stack.
bool is_shared(uint64_t address);
bool is_past_shared(uint64_t address);
bool is_stack(uint64_t address);
Index index_of(uint64_t linear, Index extents);

// ---- races.cpp

void races_begin_launch();
void races_begin_block(uint64_t block);
void races_block_barrier();
void races_warp_barrier(unsigned warp, unsigned mask);

// ---- failures.cpp

// Say where an address is that cannot be accessed.
void describe(uint64_t address, char* text, size_t size);

// Run `body`; return false if it ended by `fail`, `fail_at` or a signal, which `failure` describes.
bool guarded(void (*body)(), uint64_t seconds, Failure* failure);

// End the launch with an error of another thread than the one that runs, or of none.
[[noreturn]] void fail_at(const Index* thread, int line, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

}  // namespace ad_emulator
