/* pool.h - a small pool of threads that run loops: index 0 to count - 1 of one task, shared out as
 * they go.
 *
 * It is our own because the usual ones hang in a child of fork() (libgomp and pthreadpool both do),
 * and a library inside other people's servers can't forbid fork. */
#ifndef FV_POOL_H
#define FV_POOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_pool fv_pool;

typedef void (*fv_task)(void *context, int64_t index);

/* Makes a pool of `threads` threads, the caller of fv_pool_run being one of them; 0 means one for
 * each processor that this process may use (its affinity, and its cgroup's quota). A thread that
 * the system refuses to start is done without: the pool is slower, never broken. Returns 0, EINVAL
 * (threads < 0) or ENOMEM, with *pool = NULL then. More than 4096 threads are not started. */
int fv_pool_create(fv_pool **pool, int threads);

/* Ends and joins the workers; NULL is allowed. No fv_pool_run may be under way. When no pool is
 * left, no thread of ours is, and the library can be unloaded. */
void fv_pool_destroy(fv_pool *pool);

/* Calls task(context, i) once for each i, in any order and on any of the threads, and returns when
 * all calls have returned; what they wrote is visible to the caller. Allocates nothing and cannot
 * fail.
 *
 * Any number of threads may call it at once, tasks too. A caller that finds the pool at work runs
 * its loop by itself, in order, on its own thread: it waits for nobody, so nothing can deadlock.
 *
 * After fork() the child can use its copy of the pool, whatever other threads of the parent were
 * doing; the first use there starts new workers. A child forked from inside a task must not return
 * from that task (exec or _exit is what it can do): the workers it would wait for are not there. */
void fv_pool_run(fv_pool *pool, int64_t count, fv_task task, void *context);

/* The number of threads asked for, at least 1, the same throughout the pool's life: plans and sizes
 * may depend on it. Fewer work when the system refused some. */
int fv_pool_threads(const fv_pool *pool);

/* The processors that this process may use: its affinity, and its cgroup's quota. At least 1. */
int fv_pool_default_threads(void);

/* How many processors `cpu_max`, a file in the form of cgroup's cpu.max ("150000 100000": quota and
 * period), allows: the quotient rounded up, at least 1; INT_MAX if the file sets no limit, or is
 * missing or not in this form. For fv_pool_create and its test. */
int fv_pool_quota(const char *cpu_max);

#ifdef __cplusplus
}
#endif

#endif
