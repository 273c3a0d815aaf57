// Errors of kernels: found by the runtime, by the compiler's checks, or by the processor.

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"

namespace ad_emulator {

static sigjmp_buf home;
static Failure* report;
static pthread_t owner;

[[noreturn]] static void leave(const Index* thread, int line, const char* format, va_list values) {
  vsnprintf(report->text, sizeof(report->text), format, values);
  report->block = current.block;
  report->has_thread = thread != nullptr;
  if (thread) report->thread = *thread;
  report->line = line;
  siglongjmp(home, 1);
}

void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  leave(&current.thread, current.line, format, values);
}

void fail_at(const Index* thread, int line, const char* format, ...) {
  va_list values;
  va_start(values, format);
  leave(thread, line, format, values);
}

void describe(uint64_t address, char* text, size_t size) {
  if (is_past_shared(address)) {
    snprintf(text, size, "past the end of %llu bytes of shared memory",
             (unsigned long long)launch.shared_bytes);
    return;
  }
  if (is_stack(address)) {
    snprintf(text, size, "on a thread's stack, which may have overflowed");
    return;
  }
  uint64_t nearest = 0, distance = UINT64_MAX;
  for (uint64_t i = 0; i < launch.allocations; ++i) {
    uint64_t begin = launch.bounds[2 * i], end = launch.bounds[2 * i + 1];
    uint64_t away = address < begin ? begin - address : address >= end ? address - end : 0;
    if (away < distance) distance = away, nearest = i;
  }
  if (distance > 1 << 20) {
    snprintf(text, size, "far from any array (address 0x%llx)", (unsigned long long)address);
    return;
  }
  uint64_t begin = launch.bounds[2 * nearest], end = launch.bounds[2 * nearest + 1];
  snprintf(text, size, "%llu bytes %s an array of %llu bytes",
           (unsigned long long)(address < begin ? begin - address : address - end),
           address < begin ? "before" : "past the end of", (unsigned long long)(end - begin));
}

void fail_misaligned(size_t alignment, size_t bytes_past) {
  fail("an access must be aligned to %zu bytes, got one %zu bytes past such an address", alignment,
       bytes_past);
}

// ---- Signals

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGVTALRM};
constexpr int COUNT = sizeof(SIGNALS) / sizeof(SIGNALS[0]);
static struct sigaction earlier[COUNT];

static void on_signal(int number, siginfo_t* info, void*) {
  if (!pthread_equal(pthread_self(), owner)) {  // not ours: as it would have been without us
    for (int i = 0; i < COUNT; ++i)
      if (SIGNALS[i] == number) sigaction(number, &earlier[i], nullptr);
    return;
  }
  if (number == SIGVTALRM)
    fail("the launch must end within %llu seconds of processor time",
         (unsigned long long)launch.seconds);
  if (number == SIGFPE) fail("an integer must not be divided by zero, nor the least one by -1");
  if (number == SIGILL) fail("the kernel came to a point that cannot be reached");
  if (number == SIGSEGV && info->si_code == SI_KERNEL)
    fail("an access must be aligned as its vector, or not of an address that cannot be");
  char where[256];
  describe(uint64_t(info->si_addr), where, sizeof(where));
  fail("memory must not be accessed out of bounds, got an access %s", where);
}

bool guarded(void (*body)(), uint64_t seconds, Failure* failure) {
  static char stack[64 * 1024];
  stack_t ours = {}, theirs;
  ours.ss_sp = stack;
  ours.ss_size = sizeof(stack);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGVTALRM;
  event._sigev_un._tid = pid_t(syscall(SYS_gettid));
  timer_t timer;
  itimerspec limit = {};
  limit.it_value.tv_sec = time_t(seconds);

  report = failure;
  owner = pthread_self();
  sigaltstack(&ours, &theirs);
  for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &action, &earlier[i]);
  bool has_timer = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) == 0;
  if (has_timer) timer_settime(timer, 0, &limit, nullptr);
  bool ended = sigsetjmp(home, 1) == 0;
  if (ended) body();
  if (has_timer) timer_delete(timer);
  for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &earlier[i], nullptr);
  sigaltstack(&theirs, nullptr);
  return ended;
}

}  // namespace ad_emulator

// ---- What the compiler's checks call (the ABI of LLVM's UndefinedBehaviorSanitizer): each gives
// the place in the text, then facts that depend on the check.

namespace {

struct Place {
  const char* file;
  unsigned line, column;
};

struct Misaligned {
  Place place;
  const void* type;
  unsigned char log_alignment, kind;
};

void come_to(const Place& place) { ad_emulator::current.line = int(place.line); }

}  // namespace

#define AD_EMULATOR_CHECK extern "C" void

AD_EMULATOR_CHECK __ubsan_handle_type_mismatch_v1(Misaligned* data, uint64_t address) {
  come_to(data->place);
  size_t alignment = size_t(1) << data->log_alignment;
  ad_emulator::fail_misaligned(alignment, address % alignment);
}

AD_EMULATOR_CHECK __ubsan_handle_out_of_bounds(Place* place, uint64_t index) {
  come_to(*place);
  ad_emulator::fail("an index must be within its array, got %lld", (long long)index);
}

AD_EMULATOR_CHECK __ubsan_handle_shift_out_of_bounds(Place* place, uint64_t, uint64_t amount) {
  come_to(*place);
  ad_emulator::fail("a shift must be by less than the width of the type, got %lld",
                    (long long)amount);
}

AD_EMULATOR_CHECK __ubsan_handle_divrem_overflow(Place* place, uint64_t, uint64_t) {
  come_to(*place);
  ad_emulator::fail("an integer must not be divided by zero");
}
