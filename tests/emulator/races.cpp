// Finds accesses out of bounds, and accesses of one address by two threads that nothing orders.
//
// Every byte (or word, where only whole words are accessed) remembers its last write and two last
// reads by different threads. An access races with an earlier one by another thread if one of them
// writes, they are not both atomic, and the earlier one does not happen before it:
//
//   block barriers   order all accesses of a block before all later ones; they are counted.
//   warp barriers    order accesses of the lanes in their mask; each lane has a clock, and knows the
//                    clocks of others as of their last common barrier (Lamport, Time, Clocks, and
//                    the Ordering of Events in a Distributed System, 1978; Mattern, Virtual Time and
//                    Global States of Distributed Systems, 1989).
//   blocks           are ordered by a release, `__threadfence` and then an atomic operation on an
//                    address, and an acquire by the other block, an atomic operation on the same
//                    address and then `__threadfence` (NVIDIA, PTX ISA, Memory Consistency Model,
//                    Release and Acquire Patterns). Only direct releases count, not those passed
//                    on by a third block.
//
// Shuffles and votes order nothing, as CUDA has it.

#include <stdlib.h>
#include <string.h>

#include "runtime.h"

namespace ad_emulator {

// A thread at a point of its run.
struct Stamp {
  uint32_t run;      // of a block, counted over all launches from 1; 0: never
  uint32_t barriers; // of the block before
  uint32_t clock;    // of the lane
  uint32_t sequence; // of all accesses of the run
  uint16_t thread;
  bool is_atomic;
  int line;
};

struct Cell {
  Stamp write, read, other_read;
};

// ---- The table of addresses

constexpr unsigned PAGE_BITS = 12;

struct Page {
  uint64_t number;  // address >> PAGE_BITS
  unsigned log_size; // of what a cell stands for: 2 until a part of a word is accessed, then 0
  Cell* cells;
};

static Page* pages;  // a hash table with linear probing
static uint64_t capacity, page_count;

static void* zeroed(size_t count, size_t size) {
  void* found = calloc(count, size);
  if (!found) fail_at(nullptr, 0, "memory must suffice for the table of accesses");
  return found;
}

static Page* place_of(Page* table, uint64_t size, uint64_t number) {
  uint64_t at = (number * 0x9e3779b97f4a7c15 >> 20) % size;
  while (table[at].cells && table[at].number != number) at = (at + 1) % size;
  return &table[at];
}

static Page* page_of(uint64_t number) {
  static Page* last;
  if (last && last->number == number) return last;
  if (2 * page_count >= capacity) {
    uint64_t size = capacity ? 2 * capacity : 1024;
    Page* grown = static_cast<Page*>(zeroed(size, sizeof(Page)));
    for (uint64_t i = 0; i < capacity; ++i)
      if (pages[i].cells) *place_of(grown, size, pages[i].number) = pages[i];
    free(pages);
    pages = grown, capacity = size;
  }
  last = place_of(pages, capacity, number);
  if (!last->cells) {
    *last = {number, 2, static_cast<Cell*>(zeroed(1 << (PAGE_BITS - 2), sizeof(Cell)))};
    ++page_count;
  }
  return last;
}

static void divide_words(Page* page) {
  Cell* cells = static_cast<Cell*>(zeroed(1 << PAGE_BITS, sizeof(Cell)));
  for (unsigned i = 0; i < 1 << PAGE_BITS; ++i) cells[i] = page->cells[i >> 2];
  free(page->cells);
  page->cells = cells;
  page->log_size = 0;
}

// ---- What happened before

static uint32_t run, first_run;              // of this block, and of the launch's first one
static uint64_t* blocks;                     // by run of this launch: the block that ran
static uint32_t barriers, sequence;
static uint32_t clocks[MOST_THREADS][LANES]; // what each thread knows of its warp's lanes

static Stamp now(Access access, int line) {
  unsigned thread = current.number;
  return {run, barriers, clocks[thread][thread % LANES], ++sequence, uint16_t(thread),
          access == Access::atomic, line};
}

// Whether a point of this block's run happened before the present of the thread that runs.
static bool is_before_here(const Stamp& earlier) {
  if (earlier.thread == current.number || earlier.barriers < barriers) return true;
  return earlier.thread / LANES == current.number / LANES &&
         clocks[current.number][earlier.thread % LANES] >= earlier.clock;
}

// A release: for each thread of a block that has run, the last of its accesses that is published.
struct Release {
  uint32_t run;
  uint64_t address;
  uint32_t* published;
  Release* next;  // of the same run
};

static Release** releases;  // by run of this launch
static Stamp fences[MOST_THREADS];
static bool has_new_fence;

// When what of this block first was at an address, for each thread that no barrier told of it.
struct Events {
  struct Event {
    uint64_t address;
    Stamp when;
  };
  Event* list;
  uint64_t count, capacity;

  bool happened(uint64_t address) const {
    for (uint64_t i = 0; i < count; ++i)
      if (list[i].address == address && is_before_here(list[i].when)) return true;
    return false;
  }

  void note(uint64_t address, const Stamp& when) {
    if (happened(address)) return;
    if (count == capacity) {
      capacity = capacity ? 2 * capacity : 64;
      list = static_cast<Event*>(realloc(list, capacity * sizeof(Event)));
      if (!list) fail_at(nullptr, 0, "memory must suffice for the table of atomic operations");
    }
    list[count++] = {address, when};
  }
};

static Events atomics, acquires;  // an acquire: an atomic operation, then a fence

// What atomic operations are told apart by: eight bytes, the most that one of them is of.
static uint64_t word_of(uint64_t address) { return address & ~uint64_t(7); }

static bool is_published(const Stamp& earlier) {
  for (Release* release = releases[earlier.run - first_run]; release; release = release->next)
    if (release->published[earlier.thread] >= earlier.sequence &&
        acquires.happened(release->address))
      return true;
  return false;
}

static void synchronize(uint64_t address, const Stamp& stamp) {
  atomics.note(address, stamp);
  if (!has_new_fence) return;
  size_t count = size_t(launch.block.x) * launch.block.y * launch.block.z;
  Release* release = releases[run - first_run];
  while (release && release->address != address) release = release->next;
  if (!release) {
    release = static_cast<Release*>(zeroed(1, sizeof(Release)));
    *release = {run, address, static_cast<uint32_t*>(zeroed(count, sizeof(uint32_t))),
                releases[run - first_run]};
    releases[run - first_run] = release;
  }
  for (size_t thread = 0; thread < count; ++thread)
    if (fences[thread].run == run && is_before_here(fences[thread]))
      release->published[thread] = fences[thread].sequence;
}

void record_fence(int line) {
  Stamp stamp = fences[current.number] = now(Access::read, line);
  has_new_fence = true;
  for (uint64_t i = 0; i < atomics.count; ++i)
    if (is_before_here(atomics.list[i].when)) acquires.note(atomics.list[i].address, stamp);
}

void races_block_barrier() { ++barriers; }

void races_warp_barrier(unsigned warp, unsigned mask) {
  uint32_t known[LANES] = {};
  for (unsigned lane = 0; lane < LANES; ++lane)
    for (unsigned of = 0; mask >> lane & 1 && of < LANES; ++of) {
      uint32_t clock = clocks[warp * LANES + lane][of];
      if (clock > known[of]) known[of] = clock;
    }
  for (unsigned lane = 0; lane < LANES; ++lane)
    if (mask >> lane & 1) {
      memcpy(clocks[warp * LANES + lane], known, sizeof(known));
      ++clocks[warp * LANES + lane][lane];
    }
}

void races_begin_launch() {
  for (uint32_t i = first_run; i && i <= run; ++i)
    for (Release* release = releases[i - first_run]; release;) {
      Release* next = release->next;
      free(release->published);
      free(release);
      release = next;
    }
  free(blocks);
  free(releases);
  size_t count = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  blocks = static_cast<uint64_t*>(zeroed(count, sizeof(uint64_t)));
  releases = static_cast<Release**>(zeroed(count, sizeof(Release*)));
  first_run = run + 1;
}

void races_begin_block(uint64_t block) {
  ++run;
  blocks[run - first_run] = block;
  barriers = sequence = 0;
  atomics.count = acquires.count = 0;
  has_new_fence = false;
  size_t count = size_t(launch.block.x) * launch.block.y * launch.block.z;
  memset(clocks, 0, count * sizeof(clocks[0]));
  for (size_t thread = 0; thread < count; ++thread) clocks[thread][thread % LANES] = 1;
}

// ---- Accesses

static const char* verb(bool is_write, const Stamp& stamp) {
  return stamp.is_atomic ? "updated atomically" : is_write ? "written" : "read";
}

static void compare(const Stamp& earlier, bool was_write, const Stamp& stamp, bool is_write,
                    uint64_t address) {
  if (earlier.run < first_run || !(was_write || is_write)) return;
  if (earlier.is_atomic && stamp.is_atomic) return;
  if (earlier.run == run) {
    if (is_before_here(earlier)) return;
  } else {
    if (is_shared(address) || is_published(earlier)) return;
    if (earlier.is_atomic && atomics.happened(word_of(address))) return;
  }
  Index thread = index_of(earlier.thread, launch.block);
  Index block = index_of(blocks[earlier.run - first_run], launch.grid);
  fail("an address must not be %s in line %d when thread (%u, %u, %u) of block (%u, %u, %u) had it "
       "%s in line %d and no barrier orders the two",
       verb(is_write, stamp), stamp.line, thread.x, thread.y, thread.z, block.x, block.y, block.z,
       verb(was_write, earlier), earlier.line);
}

static void check_bounds(uint64_t address, size_t size) {
  if (is_stack(address) || (is_shared(address) && is_shared(address + size - 1))) return;
  uint64_t low = 0, high = launch.allocations;  // the last allocation that begins at or before
  while (low < high) {
    uint64_t middle = (low + high) / 2;
    if (launch.bounds[2 * middle] <= address) low = middle + 1;
    else high = middle;
  }
  uint64_t end = low ? launch.bounds[2 * low - 1] : 0;
  if (address + size <= end) return;
  char where[256];
  describe(address < end ? end : address, where, sizeof(where));
  fail("memory must not be accessed out of bounds, got an access of %zu bytes, %s", size, where);
}

void record(const volatile void* pointer, size_t size, Access access, int line) {
  uint64_t address = reinterpret_cast<uint64_t>(pointer), end = address + size;
  check_bounds(address, size);
  if (is_stack(address)) return;
  Stamp stamp = now(access, line);
  bool is_write = access != Access::read;
  if (stamp.is_atomic && !is_shared(address)) synchronize(word_of(address), stamp);
  while (address < end) {
    Page* page = page_of(address >> PAGE_BITS);
    if (page->log_size && (address | end) & 3) divide_words(page);
    Cell& cell = page->cells[(address & ((1 << PAGE_BITS) - 1)) >> page->log_size];
    if (access != Access::write && is_shared(address) && cell.write.run != run)
      fail("shared memory must be written before it is read");
    compare(cell.write, true, stamp, is_write, address);
    compare(cell.read, false, stamp, is_write, address);
    compare(cell.other_read, false, stamp, is_write, address);
    if (is_write) {
      cell.write = stamp;
    } else {
      if (cell.read.thread != stamp.thread || cell.read.run != run) cell.other_read = cell.read;
      cell.read = stamp;
    }
    address += size_t(1) << page->log_size;
  }
}

}  // namespace ad_emulator
