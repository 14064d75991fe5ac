/* pool.c - the thread pool; host/pool.h has the contract.
 *
 * The pool runs one job at a time. The job's owner is the caller that took `lock`. It writes the
 * job, opens the `gate` and advances `epoch`, which idle workers watch. A worker enters through the
 * gate, takes indices from `next` until none is left, and leaves. The owner does the same work,
 * then closes the gate and waits until every worker that entered has left. A worker that wakes late
 * finds the gate shut and delays nobody. So a job never waits for a thread that has not begun to
 * help, which matters when threads outnumber free processors.
 *
 * The pool survives fork() without a list of pools and without locks held across it. A fork handler
 * in the child counts generations, and `lock` carries the generation of its owner. So a lock whose
 * holder did not survive the fork looks like a free lock of an earlier generation. The first thread
 * of the child to take it owns the pool alone and starts new workers. All waiting is on futexes:
 * they keep no state in user memory that fork could tear, as glibc's mutexes and conditions do.
 *
 * Sizes: a job lasts from 10 us to seconds. Workers spin 30 us for the next one, which covers the
 * gap between the layers of a model. Then they sleep, and waking them costs 5 to 50 us. */
#define _GNU_SOURCE
#include "csrc/host/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
  max_threads = 4096, /* the header's limit for a handle; also bounds mistakes */
  spin_ns = 30000,
  spins_per_clock = 16, /* 16 pauses take 0.2 to 1 us, so reading the clock is a small part */
  cache_line = 64,
};

/* `gate`: one bit says "open", one says "the owner sleeps until all have left"; the other bits
 * count the workers inside. */
enum { gate_open = 1, gate_awaited = 2, gate_one = 4 };

/* `lock`: the generation of the last owner, and whether it still holds the pool. */
enum { lock_taken = 1, lock_one_generation = 2 };

struct fv_pool {
  /* Written before the workers start; constant afterwards. */
  int threads;
  bool spins;           /* false if threads outnumber processors: spinning would slow them */
  uint32_t first_epoch; /* the epoch in which the present workers were started */

  /* The owner's, under `lock`. */
  int workers; /* how many were started */
  uint32_t generation;

  /* The job: written by the owner with the gate shut, read by workers inside. */
  fv_task task;
  void *context;
  int64_t count;

  _Alignas(cache_line) _Atomic uint32_t lock;
  _Alignas(cache_line) _Atomic uint32_t epoch;
  _Atomic uint32_t sleepers;
  _Atomic bool stop;
  _Alignas(cache_line) _Atomic uint32_t gate;
  _Alignas(cache_line) _Atomic int64_t next; /* taking an index writes it */

  _Alignas(cache_line) pthread_t ids[]; /* [threads - 1] */
};

/* Grows by lock_one_generation in the child of each fork. */
static _Atomic uint32_t process_generation;

static void count_generation(void) {
  atomic_fetch_add_explicit(&process_generation, lock_one_generation, memory_order_relaxed);
}

/* The C library drops the handler when this object is unloaded. Two first calls at once may both
 * register it; counting twice per fork is as good as once. */
static int watch_forks(void) {
  static _Atomic bool watching;
  if (atomic_load(&watching)) return 0;
  int error = pthread_atfork(NULL, NULL, count_generation);
  if (error == 0) atomic_store(&watching, true);
  return error;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

typedef struct {
  int64_t end_ns; /* 0 until the clock is first read */
  int rounds;
} spin;

/* Pauses. True: look again; false: give up and sleep. */
static bool spin_on(const fv_pool *pool, spin *s) {
  if (!pool->spins) return false;
  relax();
  if (++s->rounds % spins_per_clock != 0) return true;
  int64_t now = now_ns();
  if (s->end_ns == 0) s->end_ns = now + spin_ns;
  return now < s->end_ns;
}

/* --- the workers */

/* True if the job is still open: the caller is then inside and may read the job's fields. */
static bool enter(fv_pool *pool) {
  uint32_t gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);
  while (gate & gate_open) {
    /* Acquire: makes visible to this worker what the owner wrote before it opened the gate. */
    if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + gate_one,
                                              memory_order_acquire, memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

static void leave(fv_pool *pool) {
  /* Release: makes what the tasks wrote visible to the owner, which reads the gate before it
   * returns. */
  uint32_t before = atomic_fetch_sub_explicit(&pool->gate, gate_one, memory_order_release);
  if (before == (gate_one | gate_awaited)) futex_wake(&pool->gate, 1);
}

static void take_indices(fv_pool *pool) {
  for (;;) {
    int64_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
    if (index >= pool->count) return;
    pool->task(pool->context, index);
  }
}

/* Returns the epoch after `seen`, or a later one. */
static uint32_t await_epoch(fv_pool *pool, uint32_t seen) {
  spin s = {0, 0};
  uint32_t epoch;
  while ((epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire)) == seen) {
    if (spin_on(pool, &s)) continue;
    /* Either the owner sees us counted and wakes us, or the kernel sees the new epoch and does not
     * let us sleep. Both sides write before they read, sequentially consistent. */
    atomic_fetch_add(&pool->sleepers, 1);
    futex_wait(&pool->epoch, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
  }
  return epoch;
}

static void *work(void *argument) {
  fv_pool *pool = argument;
  pthread_setname_np(pthread_self(), "fovea");
  /* Not the current epoch: this thread should join a job that began while it was starting. */
  uint32_t seen = pool->first_epoch;
  for (;;) {
    seen = await_epoch(pool, seen);
    if (atomic_load_explicit(&pool->stop, memory_order_relaxed)) return NULL;
    if (enter(pool)) {
      take_indices(pool);
      leave(pool);
    }
  }
}

/* Blocks signals: those sent to the process are for its own threads. Faults stay unblocked. If they
 * were blocked, the kernel would kill the process without calling its handlers, and a crash
 * reporter would see nothing. */
static void block_signals(sigset_t *before) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  sigset_t blocked;
  sigfillset(&blocked);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&blocked, faults[i]);
  pthread_sigmask(SIG_SETMASK, &blocked, before);
}

/* Starts as many workers as the system grants, in the current process. */
static void start_workers(fv_pool *pool, uint32_t generation) {
  pool->generation = generation;
  pool->workers = 0;
  pool->first_epoch = atomic_load(&pool->epoch);
  sigset_t before;
  block_signals(&before); /* a thread inherits its creator's mask */
  while (pool->workers < pool->threads - 1 &&
         pthread_create(&pool->ids[pool->workers], NULL, work, pool) == 0) {
    pool->workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- the owner */

/* Makes the calling thread the owner. False: another thread of this process is the owner. */
static bool take_pool(fv_pool *pool) {
  uint32_t generation = atomic_load_explicit(&process_generation, memory_order_relaxed);
  uint32_t lock = atomic_load_explicit(&pool->lock, memory_order_relaxed);
  if (lock == (generation | lock_taken)) return false;
  /* Acquire: makes visible what the last owner wrote. No second attempt: on failure another thread
   * has the pool. */
  if (!atomic_compare_exchange_strong_explicit(&pool->lock, &lock, generation | lock_taken,
                                               memory_order_acquire, memory_order_relaxed)) {
    return false;
  }
  if (pool->generation != generation) {
    /* First use in a child: workers that slept or were inside exist in the parent only. The gate
     * needs no repair: open_gate writes it before any new worker can enter. */
    atomic_store(&pool->sleepers, 0);
    start_workers(pool, generation);
  }
  return true;
}

static void release_pool(fv_pool *pool) {
  atomic_store_explicit(&pool->lock, pool->generation, memory_order_release);
}

static void open_gate(fv_pool *pool) {
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  /* Release: makes the job visible to the workers that enter. */
  atomic_store_explicit(&pool->gate, gate_open, memory_order_release);
  atomic_fetch_add(&pool->epoch, 1); /* see await_epoch */
  int64_t helpers = pool->count - 1 < pool->workers ? pool->count - 1 : pool->workers;
  if (atomic_load(&pool->sleepers) != 0) futex_wake(&pool->epoch, (int)helpers);
}

static void close_gate(fv_pool *pool) {
  spin s = {0, 0};
  /* Acquire, here and below: makes visible to the owner what the tasks wrote before their worker
   * left. */
  uint32_t gate =
      atomic_fetch_and_explicit(&pool->gate, ~(uint32_t)gate_open, memory_order_acquire);
  gate &= ~(uint32_t)gate_open;
  while (gate >= gate_one) {
    if (!spin_on(pool, &s)) {
      gate = atomic_fetch_or_explicit(&pool->gate, gate_awaited, memory_order_acquire);
      if (gate < gate_one) return;
      futex_wait(&pool->gate, gate | gate_awaited);
    }
    gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
  }
}

void fv_pool_run(fv_pool *pool, int64_t count, fv_task task, void *context) {
  /* A single index does not take the pool: it stays free for a loop inside the task. */
  if (count <= 1 || pool->threads == 1 || !take_pool(pool)) {
    for (int64_t index = 0; index < count; index++) task(context, index);
    return;
  }
  pool->task = task;
  pool->context = context;
  pool->count = count;
  open_gate(pool);
  take_indices(pool);
  close_gate(pool);
  release_pool(pool);
}

int fv_pool_threads(const fv_pool *pool) {
  return pool->threads;
}

/* --- life */

int fv_pool_quota(const char *cpu_max) {
  int file = open(cpu_max, O_RDONLY | O_CLOEXEC);
  if (file < 0) return INT_MAX;
  char text[64];
  ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  text[length > 0 ? length : 0] = '\0';
  char *end;
  long long quota = strtoll(text, &end, 10); /* "max" reads as 0 */
  long long period = strtoll(end, NULL, 10);
  if (quota < 1 || period < 1) return INT_MAX;
  long long processors = quota / period + (quota % period != 0);
  return processors < INT_MAX ? (int)processors : INT_MAX;
}

/* A container sees its own group as the root of the cgroup tree. */
int fv_pool_default_threads(void) {
  cpu_set_t sets[8]; /* 8192 processors: the most that Linux can be built for */
  if (sched_getaffinity(0, sizeof sets, sets) != 0) return 1;
  int processors = CPU_COUNT_S(sizeof sets, sets);
  int quota = fv_pool_quota("/sys/fs/cgroup/cpu.max");
  return quota < processors ? quota : processors;
}

int fv_pool_create(fv_pool **pool, int threads) {
  *pool = NULL;
  if (threads < 0) return EINVAL;
  int processors = fv_pool_default_threads();
  if (threads == 0) threads = processors;
  if (threads > max_threads) threads = max_threads;
  int error = watch_forks();
  if (error != 0) return error;
  size_t bytes = sizeof(fv_pool) + (size_t)(threads - 1) * sizeof(pthread_t);
  fv_pool *made = aligned_alloc(cache_line, (bytes + cache_line - 1) / cache_line * cache_line);
  if (!made) return ENOMEM;
  uint32_t generation = atomic_load(&process_generation);
  *made = (fv_pool){.threads = threads, .spins = threads <= processors, .lock = generation};
  start_workers(made, generation);
  *pool = made;
  return 0;
}

void fv_pool_destroy(fv_pool *pool) {
  if (!pool) return;
  /* In a child that never used the pool, the workers are the parent's. */
  if (pool->generation == atomic_load(&process_generation)) {
    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->epoch, 1);
    futex_wake(&pool->epoch, INT_MAX);
    for (int i = 0; i < pool->workers; i++) pthread_join(pool->ids[i], NULL);
  }
  free(pool);
}
