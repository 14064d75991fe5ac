/* crew.c - runs a launch: host threads take CTAs and give those that they have a turn each.
 *
 *   every host thread, until no CTA is left: give all that it has a turn, take another CTA
 *
 * So CTAs that wait for others in memory do not keep these from starting. When no thread gets on
 * any more, it is a deadlock. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "simgpu/check/report.h"
#include "simgpu/sched/cta.h"
#include "simgpu/sched/profile.h"
#include "simgpu/sched/turn.h"

/* The step and the number of CTAs have no common divisor, so every CTA is taken once. */
static bool take_cta(struct sim_launch *launch, u32 *number) {
  u32 taken = __atomic_fetch_add(&launch->next_cta, 1, __ATOMIC_RELAXED);
  if (taken >= launch->cta_count) return false;
  *number = (u32)((launch->order_start + (u64)taken * launch->order_step) % launch->cta_count);
  return true;
}

/* A thread that runs this many rounds while none of its CTAs ends computes in vain. It is stuck
 * when all its CTAs have polled in vain in so many passes while nobody else got on: chance decides
 * which lanes of a warp run, so it takes more than one. */
enum { ROUNDS_MAX = 1 << 19, IDLE_PASSES = 1024 };

/* As many CTAs can be resident as multiprocessors hold together. */
enum { RESIDENT_MAX = 4096 };

/* The CTAs that a host thread runs in turn. */
struct crew {
  struct sim_launch *launch;
  struct sim_cta **resident; /* [RESIDENT_MAX] */
  u32 count;
  bool has_more;  /* CTAs may be left to take */
  u64 rounds;     /* since a CTA ended */
  u32 idle, seen; /* passes without progress, and the launch's progress at the last of them */
};

/* Returns whether there was one. */
static bool take_one(struct crew *crew) {
  u32 number;
  if (!crew->has_more || crew->count == RESIDENT_MAX) return false;
  crew->has_more = take_cta(crew->launch, &number);
  if (!crew->has_more) return false;
  struct sim_cta *cta = sim_cta_start(crew->launch, number);
  if (cta) {
    crew->resident[crew->count++] = cta;
    return true;
  }
  sim_report_line("no memory for another CTA");
  __atomic_store_n(&crew->launch->failed, 1, __ATOMIC_RELAXED);
  crew->has_more = false;
  return false;
}

static void give_up(struct crew *crew) {
  if (crew->count) sim_cta_report_deadlock(crew->resident[0]);
  for (u32 i = 0; i < crew->count; i++) crew->resident[i]->is_done = true;
}

/* Gives every CTA a turn. Returns whether one of them got on. */
static bool run_pass(struct crew *crew) {
  bool progress = false;
  for (u32 i = 0; i < crew->count; i++) {
    progress |= sim_cta_run_turn(crew->resident[i], &crew->rounds);
    if (crew->rounds > ROUNDS_MAX) give_up(crew);
    if (!crew->resident[i]->is_done) continue;
    sim_cta_end(crew->resident[i]);
    crew->resident[i--] = crew->resident[--crew->count];
    crew->rounds = 0;
  }
  return progress;
}

static u64 stuck_at(u32 progress, u32 threads) {
  return (u64)progress << 32 | threads;
}

/* One more thread is stuck. What was said of another progress is out of date. */
static void add_stuck(struct sim_launch *launch, u32 progress) {
  u64 old = __atomic_load_n(&launch->stuck, __ATOMIC_SEQ_CST), wanted;
  do {
    bool is_current = old >> 32 == progress;
    wanted = stuck_at(progress, is_current ? (u32)old + 1 : 1);
  } while (!__atomic_compare_exchange_n(&launch->stuck, &old, wanted, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
}

/* After a pass without progress. It is a deadlock when all threads are stuck at the same progress:
 * then each has seen all that the others did. */
static void wait_for_others(struct crew *crew) {
  struct sim_launch *launch = crew->launch;
  u32 now = __atomic_load_n(&launch->progress, __ATOMIC_SEQ_CST);
  crew->idle = now == crew->seen ? crew->idle + 1 : 0;
  crew->seen = now;
  if (crew->idle == IDLE_PASSES) add_stuck(launch, now);
  u32 running = __atomic_load_n(&launch->running, __ATOMIC_SEQ_CST);
  u64 stuck = __atomic_load_n(&launch->stuck, __ATOMIC_SEQ_CST);
  if (crew->idle >= IDLE_PASSES && stuck == stuck_at(now, running)) give_up(crew);
  sched_yield();
}

static void *work(void *argument) {
  struct crew crew = {.launch = argument, .has_more = true};
  crew.resident = calloc(RESIDENT_MAX, sizeof(struct sim_cta *));
  if (!crew.resident) abort();
  take_one(&crew);
  while (crew.count) {
    bool progress = run_pass(&crew);
    if (progress) __atomic_fetch_add(&crew.launch->progress, 1, __ATOMIC_SEQ_CST);
    if (!take_one(&crew) && !progress) wait_for_others(&crew);
  }
  __atomic_fetch_sub(&crew.launch->running, 1, __ATOMIC_SEQ_CST);
  free(crew.resident);
  return NULL;
}

static u32 thread_count(const struct sim_launch *launch) {
  const char *wanted = getenv("FOVEA_SIMGPU_THREADS");
  cpu_set_t processors;
  int count = 1;
  if (wanted) {
    count = atoi(wanted);
  } else if (sched_getaffinity(0, sizeof processors, &processors) == 0) {
    count = CPU_COUNT(&processors);
  }
  if (count < 1) count = 1;
  return (u32)count < launch->cta_count ? (u32)count : launch->cta_count;
}

static u32 common_divisor(u32 a, u32 b) {
  while (b) {
    u32 rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

static void choose_order(struct sim_launch *launch) {
  launch->order_start = 0;
  launch->order_step = 1;
  if (launch->seed == 0 || launch->cta_count < 2) return;
  u64 random = launch->seed;
  launch->order_start = (u32)(sim_random(&random) % launch->cta_count);
  do {
    launch->order_step = 1 + (u32)(sim_random(&random) % launch->cta_count);
  } while (common_divisor(launch->order_step, launch->cta_count) != 1);
}

bool sim_launch_run(struct sim_launch *launch) {
  enum { THREADS_MAX = 64 };
  pthread_t threads[THREADS_MAX];
  u32 wanted = thread_count(launch), started = 0;
  choose_order(launch);
  launch->running = wanted;
  while (started + 1 < wanted && started < THREADS_MAX &&
         pthread_create(&threads[started], NULL, work, launch) == 0) {
    started++;
  }
  __atomic_fetch_sub(&launch->running, wanted - 1 - started, __ATOMIC_SEQ_CST);
  work(launch);
  for (u32 i = 0; i < started; i++) pthread_join(threads[i], NULL);
  if (launch->counts) sim_profile_add(launch);
  if (launch->failed) sim_report_write();
  return !launch->failed;
}
