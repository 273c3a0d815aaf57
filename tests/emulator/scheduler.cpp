// Runs the threads of a launch, one at a time, in an order drawn from the seed.
//
// Blocks run one after another. Within a block every thread has a fiber (a stack of its own) once
// it has to wait; until then threads run one after another on the same fiber, so a kernel without
// barriers is a plain loop. A thread that comes to a meeting gives way to the scheduler:
//
//   run_block    starts the threads, warp by warp; when all wait at the block barrier, goes on
//   settle       runs one warp until all its threads have returned or wait at the block barrier
//   resolve      lets the threads go on that have all met
//
// Reading order: Thread, meet, worker, run_block, settle, resolve, then fibers and the entry point.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "runtime.h"

namespace ad_emulator {

Current current;
Launch launch;

enum class State : uint8_t { unstarted, running, waiting, returned };

struct Fiber;

struct Thread {
  Index index;
  Fiber* fiber;
  State state;
  Meeting meeting;
  int line;
  unsigned mask, source;
  uint64_t value;  // given to the meeting, then what it returns
};

static Thread threads[MOST_THREADS];
static unsigned thread_count, warp_count;
static unsigned warps[MOST_THREADS / LANES];    // in the order of this block
static unsigned lanes[LANES];                   // in the order of this block
static unsigned warp_at, lane_at;               // the next thread to start, in those orders
static bool is_starting;
static unsigned started;                        // the thread that a worker is to run

static Fiber* idle_fiber();
static void enter(Fiber*);
static void give_way();
static Fiber* own_fiber();
static void retire();

// ---- Order

static uint64_t random_state;

static uint64_t random_bits() {  // Steele, Lea, Flood, Fast splittable pseudorandom generators, 2014
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

// Numbers below `count` in random order; seed 0 leaves them in ascending order.
template <class T>
static void draw_order(T* numbers, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t j = launch.seed ? random_bits() % (i + 1) : i;
    numbers[i] = numbers[j];
    numbers[j] = T(i);
  }
}

Index index_of(uint64_t linear, Index extents) {
  uint64_t plane = uint64_t(extents.x) * extents.y;
  return {unsigned(linear % extents.x), unsigned(linear % plane / extents.x),
          unsigned(linear / plane)};
}

static unsigned lanes_of(unsigned warp) {
  unsigned after = thread_count - warp * LANES;
  return after < LANES ? after : LANES;
}

// ---- Threads

static void make_current(unsigned number) {
  current.number = number;
  current.thread = threads[number].index;
  current.line = threads[number].line;
}

uint64_t meet(Meeting meeting, unsigned mask, uint64_t value, unsigned source, int line) {
  Thread& self = threads[current.number];
  current.line = line;
  bool is_of_warp = meeting != Meeting::block_barrier && meeting != Meeting::active_mask;
  if (is_of_warp && !(mask >> current.number % LANES & 1))
    fail("a mask must name the thread that uses it, got mask 0x%08x", mask);
  self.meeting = meeting;
  self.mask = mask;
  self.value = value;
  self.source = source;
  self.line = line;
  self.state = State::waiting;
  self.fiber = own_fiber();
  give_way();
  return self.value;
}

static bool is_any_waiting(unsigned warp) {
  for (unsigned lane = 0; lane < lanes_of(warp); ++lane)
    if (threads[warp * LANES + lane].state == State::waiting) return true;
  return false;
}

// Let `started` be the next thread that can start; false if a warp has to settle first.
static bool next_to_start() {
  while (is_starting && warp_at < warp_count) {
    unsigned warp = warps[warp_at];
    while (lane_at < LANES) {
      unsigned number = warp * LANES + lanes[lane_at++];
      if (number < thread_count) {
        started = number;
        return true;
      }
    }
    if (is_any_waiting(warp)) return false;
    ++warp_at, lane_at = 0;
  }
  return false;
}

// The body of every fiber.
static void worker() {
  for (;;) {
    do {
      unsigned number = started;
      make_current(number);
      threads[number].state = State::running;
      launch.kernel(launch.parameters);
      // Another thread cannot be current here: this one was made so when it went on.
      threads[current.number].state = State::returned;
      threads[current.number].line = current.line;
    } while (next_to_start());
    retire();
    give_way();
  }
}

// ---- Meetings

static const char* name_of(Meeting meeting) {
  switch (meeting) {
    case Meeting::block_barrier: return "__syncthreads";
    case Meeting::warp_barrier: return "__syncwarp";
    case Meeting::shuffle: return "shuffle";
    case Meeting::ballot: return "vote";
    case Meeting::match: return "match";
    case Meeting::active_mask: return "__activemask";
  }
  return "";
}

// Say where another thread is, which should have been where `self` waits.
[[noreturn]] static void fail_to_meet(const Thread& self, unsigned other, const char* whom) {
  char where[256];
  if (other >= thread_count) {
    snprintf(where, sizeof(where), "lane %u, of which the block has no thread", other % LANES);
  } else {
    const Thread& thread = threads[other];
    int size = snprintf(where, sizeof(where), "thread (%u, %u, %u) ", thread.index.x,
                        thread.index.y, thread.index.z);
    if (thread.state == State::returned)
      snprintf(where + size, sizeof(where) - size, "returned from the kernel");
    else
      snprintf(where + size, sizeof(where) - size, "at %s in line %d", name_of(thread.meeting),
               thread.line);
  }
  fail_at(&self.index, self.line, "%s must come to the same %s, got %s", whom,
          name_of(self.meeting), where);
}

static bool is_at(const Thread& self, unsigned other) {
  if (other >= thread_count) return false;
  const Thread& thread = threads[other];
  return thread.state == State::waiting && thread.meeting == self.meeting &&
         thread.mask == self.mask && thread.line == self.line;
}

// The lowest lane of the mask that is not where `self` waits, LANES if all are.
static unsigned absent(const Thread& self, unsigned first) {
  for (unsigned lane = 0; lane < LANES; ++lane)
    if (self.mask >> lane & 1 && !is_at(self, first + lane)) return lane;
  return LANES;
}

static void complete(unsigned first, const Thread met) {
  uint64_t values[LANES] = {}, ballot = 0;
  for (unsigned lane = 0; lane < LANES; ++lane) {
    if (!(met.mask >> lane & 1)) continue;
    values[lane] = threads[first + lane].value;
    ballot |= uint64_t(values[lane] != 0) << lane;
  }
  if (launch.is_checked && met.meeting == Meeting::warp_barrier)
    races_warp_barrier(first / LANES, met.mask);
  for (unsigned lane = 0; lane < LANES; ++lane) {
    if (!(met.mask >> lane & 1)) continue;
    Thread& thread = threads[first + lane];
    thread.state = State::running;
    if (met.meeting == Meeting::ballot) thread.value = ballot;
    if (met.meeting == Meeting::match) {
      thread.value = 0;
      for (unsigned other = 0; other < LANES; ++other)
        if (met.mask >> other & 1 && values[other] == values[lane])
          thread.value |= uint64_t(1) << other;
    }
    if (met.meeting == Meeting::shuffle) {
      if (thread.source >= LANES || !(met.mask >> thread.source & 1))
        fail_at(&thread.index, thread.line,
                "a shuffle must read a lane that its mask names, got lane %u and mask 0x%08x",
                thread.source, met.mask);
      thread.value = values[thread.source];
    }
  }
}

// Tell threads at one `__activemask` which they are. Any grouping is possible on a device, so with
// a seed some are left for the next round.
static bool resolve_active_mask(unsigned first) {
  for (unsigned lane = 0; lane < lanes_of(first / LANES); ++lane) {
    const Thread& self = threads[first + lane];
    if (self.state != State::waiting || self.meeting != Meeting::active_mask) continue;
    unsigned group = 0, kept = launch.seed && random_bits() & 1 ? unsigned(random_bits()) : ~0u;
    for (unsigned other = 0; other < LANES; ++other)
      if (is_at(self, first + other)) group |= 1u << other;
    group &= kept | 1u << lane;
    for (unsigned other = 0; other < LANES; ++other)
      if (group >> other & 1) {
        threads[first + other].value = group;
        threads[first + other].state = State::running;
      }
    return true;
  }
  return false;
}

// Let threads of a warp go on that have met; false if the warp waits for the block or is done.
static bool resolve(unsigned warp) {
  unsigned first = warp * LANES;
  bool any = false;
  const Thread* stuck = nullptr;
  unsigned missing = 0;
  for (unsigned lane = 0; lane < lanes_of(warp); ++lane) {
    const Thread& self = threads[first + lane];
    if (self.state != State::waiting || self.meeting == Meeting::block_barrier ||
        self.meeting == Meeting::active_mask)
      continue;
    unsigned other = absent(self, first);
    if (other == LANES)
      complete(first, self), any = true;
    else if (!stuck)
      stuck = &self, missing = first + other;
  }
  if (any || resolve_active_mask(first)) return true;
  if (stuck) fail_to_meet(*stuck, missing, "every thread that a mask names");
  return false;
}

static void go_on(unsigned warp) {
  for (unsigned at = 0; at < LANES; ++at) {
    unsigned number = warp * LANES + lanes[at];
    if (number >= thread_count || threads[number].state != State::running) continue;
    make_current(number);
    enter(threads[number].fiber);
  }
}

static void settle(unsigned warp) {
  while (resolve(warp)) go_on(warp);
}

// Whether all threads wait at one block barrier; false if all have returned.
static bool is_at_barrier() {
  const Thread* self = nullptr;
  for (unsigned number = 0; number < thread_count; ++number)
    if (threads[number].state == State::waiting) {
      self = &threads[number];
      break;
    }
  if (!self) return false;
  Thread expected = *self;
  expected.mask = 0;
  for (unsigned number = 0; number < thread_count; ++number)
    if (!is_at(expected, number)) fail_to_meet(*self, number, "every thread of a block");
  return true;
}

static void run_block() {
  is_starting = true;
  warp_at = lane_at = 0;
  draw_order(warps, warp_count);
  draw_order(lanes, LANES);
  while (warp_at < warp_count) {
    while (next_to_start()) enter(idle_fiber());
    if (warp_at == warp_count) break;
    is_starting = false;
    settle(warps[warp_at]);
    is_starting = true;
    ++warp_at, lane_at = 0;
  }
  is_starting = false;
  while (is_at_barrier()) {
    if (launch.is_checked) races_block_barrier();
    for (unsigned number = 0; number < thread_count; ++number)
      threads[number].state = State::running;
    draw_order(warps, warp_count);
    for (unsigned at = 0; at < warp_count; ++at) {
      go_on(warps[at]);
      settle(warps[at]);
    }
  }
}

// ---- Fibers

constexpr size_t STACK = 128 * 1024, PAGE = 4096;

#if defined(__x86_64__) && !defined(AD_EMULATOR_UCONTEXT)

struct Context {
  void* stack_pointer;
};

// Keeps what the System V ABI has a function keep (AMD64 supplement, figure 3.4), on the stack.
extern "C" void ad_emulator_switch(Context* from, const Context* to);
asm(R"(
.text
.globl ad_emulator_switch
.hidden ad_emulator_switch
.type ad_emulator_switch, @function
ad_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ad_emulator_switch, . - ad_emulator_switch
)");

static void prepare(Context* context, unsigned char* stack) {
  void** top = reinterpret_cast<void**>(stack + STACK);
  *--top = nullptr;  // where a worker would return to; a function starts 8 bytes off alignment
  *--top = reinterpret_cast<void*>(&worker);
  top -= 6;  // registers
  memset(top, 0, 6 * sizeof(void*));
  context->stack_pointer = top;
}

#else

typedef ucontext_t Context;

static void ad_emulator_switch(Context* from, const Context* to) { swapcontext(from, to); }

static void prepare(Context* context, unsigned char* stack) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = STACK;
  context->uc_link = nullptr;
  makecontext(context, &worker, 0);
}

#endif

struct Fiber {
  Context context;
  unsigned char* stack;
};

static Fiber fibers[MOST_THREADS];
static Fiber* idle[MOST_THREADS];
static unsigned idle_count;
static unsigned char* stacks;
static Context scheduler;
static Fiber* running;

static unsigned char* reserve(size_t size) {
  void* found = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) fail_at(nullptr, 0, "memory must suffice for the emulator");
  return static_cast<unsigned char*>(found);
}

// Make every fiber idle and at its beginning; stacks end at a page that cannot be accessed.
static void prepare_fibers() {
  if (!stacks) {
    stacks = reserve(MOST_THREADS * (STACK + PAGE));
    for (unsigned i = 0; i < MOST_THREADS; ++i) {
      fibers[i].stack = stacks + i * (STACK + PAGE) + PAGE;
      mprotect(fibers[i].stack - PAGE, PAGE, PROT_NONE);
    }
  }
  idle_count = 0;
  for (unsigned i = MOST_THREADS; i-- > 0;) {
    if (i < thread_count) prepare(&fibers[i].context, fibers[i].stack);
    if (i < thread_count) idle[idle_count++] = &fibers[i];
  }
}

bool is_stack(uint64_t address) {
  return address - reinterpret_cast<uint64_t>(stacks) < MOST_THREADS * (STACK + PAGE);
}

static Fiber* idle_fiber() { return idle[--idle_count]; }
static Fiber* own_fiber() { return running; }
static void retire() { idle[idle_count++] = running; }

static void enter(Fiber* fiber) {
  running = fiber;
  ad_emulator_switch(&scheduler, &fiber->context);
}

static void give_way() { ad_emulator_switch(&running->context, &scheduler); }

// ---- Shared memory

constexpr size_t MOST_SHARED = 228 * 1024;
static unsigned char* dynamic_shared;  // of that size, then a page that cannot be accessed

static void prepare_shared() {
  if (!dynamic_shared) {
    dynamic_shared = reserve(MOST_SHARED + PAGE);
    mprotect(dynamic_shared + MOST_SHARED, PAGE, PROT_NONE);
  }
  uint64_t bytes = launch.shared_bytes + launch.declared_shared_bytes;
  if (bytes > MOST_SHARED)
    fail_at(nullptr, 0, "shared memory must be at most %zu bytes, got %llu", MOST_SHARED,
            (unsigned long long)bytes);
  current.shared = dynamic_shared + ((MOST_SHARED - launch.shared_bytes) & ~size_t(15));
}

static bool is_within(uint64_t address, const unsigned char* begin, uint64_t size) {
  return address - reinterpret_cast<uint64_t>(begin) < size;
}

bool is_shared(uint64_t address) {
  return is_within(address, current.shared, launch.shared_bytes) ||
         is_within(address, launch.declared_shared, launch.declared_shared_bytes);
}

bool is_past_shared(uint64_t address) {
  return is_within(address, current.shared, dynamic_shared + MOST_SHARED + PAGE - current.shared);
}

// ---- The entry point

static void run_launch() {
  Index grid = launch.grid, block = launch.block;
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail_at(nullptr, 0, "a grid must have 1 to 2147483647, 65535 and 65535 blocks, got (%u, %u, %u)",
            grid.x, grid.y, grid.z);
  uint64_t size = uint64_t(block.x) * block.y * block.z;
  if (!size || block.x > MOST_THREADS || block.y > MOST_THREADS || block.z > 64 ||
      size > MOST_THREADS)
    fail_at(nullptr, 0, "a block must have 1 to 1024 threads, at most 64 along z, got (%u, %u, %u)",
            block.x, block.y, block.z);
  random_state = launch.seed;
  thread_count = unsigned(size);
  warp_count = (thread_count + LANES - 1) / LANES;
  current.block_size = block;
  current.grid_size = grid;
  prepare_shared();
  prepare_fibers();
  for (unsigned number = 0; number < thread_count; ++number)
    threads[number].index = index_of(number, block);

  uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  static uint64_t* order;
  free(order);  // of the launch before
  order = static_cast<uint64_t*>(malloc(blocks * sizeof(uint64_t)));
  if (!order) fail_at(nullptr, 0, "memory must suffice for the order of the blocks");
  draw_order(order, blocks);
  if (launch.is_checked) races_begin_launch();
  for (uint64_t at = 0; at < blocks; ++at) {
    current.block = index_of(order[at], grid);
    memset(launch.declared_shared, 0xff, launch.declared_shared_bytes);
    memset(current.shared, 0xff, launch.shared_bytes);
    for (unsigned number = 0; number < thread_count; ++number) {
      threads[number].state = State::unstarted;
      threads[number].line = 0;
    }
    if (launch.is_checked) races_begin_block(order[at]);
    run_block();
  }
}

}  // namespace ad_emulator

extern "C" int ad_emulator_launch(
    const ad_emulator::Launch* launch, ad_emulator::Failure* failure) {
  ad_emulator::launch = *launch;
  return ad_emulator::guarded(ad_emulator::run_launch, launch->seconds, failure);
}
