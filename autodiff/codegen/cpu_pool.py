"""The thread pool of the CPU backend, as LLVM text.

`emit_pool(target)` returns a module with one function and one variable:

- `void autodiff_pool_run(ptr kernel, ptr pointers, ptr sizes, i64 begin, i64 end, i64 chunk)` calls
  a kernel on consecutive pieces of `chunk` indices (the last one may be shorter) until [begin, end)
  is done. The pieces do not depend on how many threads there are, so neither do results.
- `autodiff_pool`, the state below, zero at the start. The caller sets `limit` and `wanted`.

How it works. The thread that calls is one of those that take pieces. `word` holds the number of the
job in its upper half and the pieces not yet taken in its lower half; taking one is a compare and
exchange that lowers it by one. Fields of the job are written only while no piece is left, hence
whoever succeeds in taking a piece has read the fields of that very job: had they changed, so had
`word`. A worker that finds nothing waits actively for a while, then sleeps on the futex `signal`,
which each job increments; the caller sleeps on the futex `done` in the same way. Either side
announces that it sleeps (`sleepers`, `waiting`) before it looks a last time, and the other looks
for sleepers after it has changed what they wait for, all sequentially consistent: one of the two
sees the other, so no wake-up is lost (Drepper, "Futexes are tricky", 2011, section 5).

A caller that finds the pool busy (another thread's job, or a kernel that calls the pool) does all
pieces itself. So does one whose workers are gone, as in a process forked by foreign code.
"""

from __future__ import annotations

from autodiff.schedule.target import Target

#: Offsets in `autodiff_pool`. What different threads write lies in cache lines of its own.
FIELDS = {
    "busy": 0,  # i32: 1 while a job runs
    "word": 64,  # i64: number of the job in the upper half, pieces to be taken in the lower
    "done": 128,  # i32: pieces finished
    "waiting": 132,  # i32: 1 while the caller sleeps on `done`
    "signal": 192,  # i32: incremented by each job
    "sleepers": 196,  # i32: workers asleep on `signal`
    "kernel": 256,
    "pointers": 264,
    "sizes": 272,
    "begin": 280,
    "end": 288,
    "chunk": 296,
    "chunks": 304,
    "limit": 320,  # i32: workers that may take part in a job
    "wanted": 324,  # i32: workers there should be
    "workers": 328,  # i32: workers there are
    "numbers": 332,  # i32: the next worker's number
}
SIZE = 384

#: Active waiting before sleeping, in pause instructions: 20 to 90 microseconds, as pauses differ.
_SPINS = 2000

_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}  # __NR_futex
_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": (
        "declare void @llvm.aarch64.hint(i32)",
        "call void @llvm.aarch64.hint(i32 1)",
    ),
}


def supports(target: Target) -> bool:
    """Return whether the pool can be emitted: on Linux, for x86-64 and 64-bit ARM."""
    machine, _, system = target.triple.partition("-")
    return machine in _FUTEX_CALL and "linux" in system


def emit_pool(target: Target) -> str:
    """Return the module's text; see the head of this file for what it defines.

    >>> from autodiff.schedule.target import NEON
    >>> "@llvm.aarch64.hint" in emit_pool(NEON)
    True
    """
    machine = target.triple.partition("-")[0]
    declaration, pause = _PAUSE[machine]
    text = _TEXT.replace("FUTEX_CALL", str(_FUTEX_CALL[machine]))
    text = text.replace("DECLARE_PAUSE", declaration).replace("PAUSE", pause)
    text = text.replace("SPINS", str(_SPINS)).replace("SIZE", str(SIZE))
    for field in sorted(FIELDS, key=len, reverse=True):
        text = text.replace(f"@.{field}", _address(field))
    return text


def _address(field: str) -> str:
    return f"getelementptr (i8, ptr @autodiff_pool, i64 {FIELDS[field]})"


_TEXT = """\
@autodiff_pool = global [SIZE x i8] zeroinitializer, align 64

DECLARE_PAUSE
declare i64 @syscall(i64, ...)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; Sleep while the number at %at is %seen.
define internal void @sleep(ptr %at, i32 %seen) noinline nounwind {
  %r = call i64 (i64, ...) @syscall(i64 FUTEX_CALL, ptr %at, i64 128, i32 %seen, ptr null)
  ret void
}

define internal void @wake(ptr %at, i32 %count) noinline nounwind {
  %r = call i64 (i64, ...) @syscall(i64 FUTEX_CALL, ptr %at, i64 129, i32 %count)
  ret void
}

; Take pieces and do them until none is left.
define internal void @take() noinline nounwind {
entry:
  br label %look
look:
  %word = load atomic i64, ptr @.word acquire, align 8
  %left = and i64 %word, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %out, label %try
try:
  %kernel = load atomic ptr, ptr @.kernel monotonic, align 8
  %pointers = load atomic ptr, ptr @.pointers monotonic, align 8
  %sizes = load atomic ptr, ptr @.sizes monotonic, align 8
  %begin = load atomic i64, ptr @.begin monotonic, align 8
  %end = load atomic i64, ptr @.end monotonic, align 8
  %chunk = load atomic i64, ptr @.chunk monotonic, align 8
  %chunks = load atomic i64, ptr @.chunks monotonic, align 8
  %lower = sub i64 %word, 1
  %pair = cmpxchg ptr @.word, i64 %word, i64 %lower acq_rel acquire, align 8
  %taken = extractvalue { i64, i1 } %pair, 1
  br i1 %taken, label %do, label %look
do:
  %piece = sub i64 %chunks, %left
  %skipped = mul i64 %piece, %chunk
  %from = add i64 %begin, %skipped
  %rest = sub i64 %end, %from
  %short = icmp slt i64 %rest, %chunk
  %length = select i1 %short, i64 %rest, i64 %chunk
  %to = add i64 %from, %length
  call void %kernel(ptr %pointers, ptr %sizes, i64 %from, i64 %to)
  %before = atomicrmw add ptr @.done, i32 1 seq_cst, align 4
  %finished = add i32 %before, 1
  %all = trunc i64 %chunks to i32
  %last = icmp eq i32 %finished, %all
  br i1 %last, label %report, label %look
report:
  %waiting = load atomic i32, ptr @.waiting seq_cst, align 4
  %asleep = icmp ne i32 %waiting, 0
  br i1 %asleep, label %rouse, label %look
rouse:
  call void @wake(ptr @.done, i32 1)
  br label %look
out:
  ret void
}

define internal ptr @worker(ptr %unused) noinline nounwind {
entry:
  %number = atomicrmw add ptr @.numbers, i32 1 monotonic, align 4
  br label %look
look:
  %signal = load atomic i32, ptr @.signal seq_cst, align 4
  %word = load atomic i64, ptr @.word acquire, align 8
  %limit = load atomic i32, ptr @.limit monotonic, align 4
  %barred = icmp sge i32 %number, %limit
  br i1 %barred, label %rest, label %check
check:
  %left = and i64 %word, 4294967295
  %some = icmp ne i64 %left, 0
  br i1 %some, label %work, label %spin
work:
  call void @take()
  br label %look
spin:
  %count = phi i32 [0, %check], [%next, %again]
  PAUSE
  %now = load atomic i64, ptr @.word monotonic, align 8
  %changed = icmp ne i64 %now, %word
  br i1 %changed, label %look, label %again
again:
  %next = add i32 %count, 1
  %more = icmp ult i32 %next, SPINS
  br i1 %more, label %spin, label %rest
rest:
  %s0 = atomicrmw add ptr @.sleepers, i32 1 seq_cst, align 4
  call void @sleep(ptr @.signal, i32 %signal)
  %s1 = atomicrmw sub ptr @.sleepers, i32 1 seq_cst, align 4
  br label %look
}

; Start the workers that are wanted and not there. They take no signals: Python's are the caller's.
define internal void @start() noinline nounwind {
entry:
  %thread = alloca i64, align 8
  %every = alloca [128 x i8], align 8
  %mask = alloca [128 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %every, i8 -1, i64 128, i1 false)
  %b = call i32 @pthread_sigmask(i32 0, ptr %every, ptr %mask)
  br label %look
look:
  %workers = load i32, ptr @.workers
  %wanted = load i32, ptr @.wanted
  %fewer = icmp slt i32 %workers, %wanted
  br i1 %fewer, label %create, label %out
create:
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr null)
  %made = icmp eq i32 %failed, 0
  br i1 %made, label %count, label %fewest
count:
  %id = load i64, ptr %thread
  %d = call i32 @pthread_detach(i64 %id)
  %one = add i32 %workers, 1
  store i32 %one, ptr @.workers
  br label %look
fewest:
  store i32 %workers, ptr @.wanted
  br label %out
out:
  %u = call i32 @pthread_sigmask(i32 2, ptr %mask, ptr null)
  ret void
}

; Do all pieces in the calling thread.
define internal void @alone(
    ptr %kernel, ptr %pointers, ptr %sizes, i64 %begin, i64 %end, i64 %chunk) noinline nounwind {
entry:
  br label %look
look:
  %from = phi i64 [%begin, %entry], [%to, %do]
  %more = icmp slt i64 %from, %end
  br i1 %more, label %do, label %out
do:
  %rest = sub i64 %end, %from
  %short = icmp slt i64 %rest, %chunk
  %length = select i1 %short, i64 %rest, i64 %chunk
  %to = add i64 %from, %length
  call void %kernel(ptr %pointers, ptr %sizes, i64 %from, i64 %to)
  br label %look
out:
  ret void
}

define void @autodiff_pool_run(
    ptr %kernel, ptr %pointers, ptr %sizes, i64 %begin, i64 %end, i64 %chunk) nounwind {
entry:
  %length = sub i64 %end, %begin
  %limit = load atomic i32, ptr @.limit monotonic, align 4
  %lonely = icmp slt i32 %limit, 1
  %single = icmp sle i64 %length, %chunk
  %either = or i1 %lonely, %single
  br i1 %either, label %serial, label %divide
divide:
  %rounded = add i64 %length, %chunk
  %above = sub i64 %rounded, 1
  %chunks = udiv i64 %above, %chunk
  %many = icmp ugt i64 %chunks, 2147483647
  br i1 %many, label %serial, label %lock
lock:
  %pair = cmpxchg ptr @.busy, i32 0, i32 1 acquire monotonic, align 4
  %free = extractvalue { i32, i1 } %pair, 1
  br i1 %free, label %ready, label %serial
serial:
  call void @alone(ptr %kernel, ptr %pointers, ptr %sizes, i64 %begin, i64 %end, i64 %chunk)
  ret void
ready:
  %workers = load i32, ptr @.workers
  %wanted = load i32, ptr @.wanted
  %fewer = icmp slt i32 %workers, %wanted
  br i1 %fewer, label %hire, label %describe
hire:
  call void @start()
  br label %describe
describe:
  store atomic ptr %kernel, ptr @.kernel monotonic, align 8
  store atomic ptr %pointers, ptr @.pointers monotonic, align 8
  store atomic ptr %sizes, ptr @.sizes monotonic, align 8
  store atomic i64 %begin, ptr @.begin monotonic, align 8
  store atomic i64 %end, ptr @.end monotonic, align 8
  store atomic i64 %chunk, ptr @.chunk monotonic, align 8
  store atomic i64 %chunks, ptr @.chunks monotonic, align 8
  store atomic i32 0, ptr @.done monotonic, align 4
  %word = load atomic i64, ptr @.word monotonic, align 8
  %job = and i64 %word, -4294967296
  %next = add i64 %job, 4294967296
  %published = or i64 %next, %chunks
  store atomic i64 %published, ptr @.word seq_cst, align 8
  %s = atomicrmw add ptr @.signal, i32 1 seq_cst, align 4
  %sleepers = load atomic i32, ptr @.sleepers seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %rouse, label %share
rouse:
  call void @wake(ptr @.signal, i32 2147483647)
  br label %share
share:
  call void @take()
  %all = trunc i64 %chunks to i32
  br label %spin
spin:
  %count = phi i32 [0, %share], [%counted, %again]
  %seen = load atomic i32, ptr @.done acquire, align 4
  %over = icmp eq i32 %seen, %all
  br i1 %over, label %out, label %again
again:
  PAUSE
  %counted = add i32 %count, 1
  %more = icmp ult i32 %counted, SPINS
  br i1 %more, label %spin, label %announce
announce:
  store atomic i32 1, ptr @.waiting seq_cst, align 4
  br label %check
check:
  %found = load atomic i32, ptr @.done seq_cst, align 4
  %complete = icmp eq i32 %found, %all
  br i1 %complete, label %awake, label %rest
rest:
  call void @sleep(ptr @.done, i32 %found)
  br label %check
awake:
  store atomic i32 0, ptr @.waiting monotonic, align 4
  br label %out
out:
  store atomic i32 0, ptr @.busy release, align 4
  ret void
}
"""
