/* pool.h - a small pool of threads that run loops: each thread takes the next index, from 0 to
 * count - 1, of one task.
 *
 * It is our own because the usual pools hang in a child of fork() (libgomp and pthreadpool both
 * do). A library inside other people's servers cannot forbid fork. */
#ifndef FOVEA_CSRC_HOST_POOL_H
#define FOVEA_CSRC_HOST_POOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_pool fv_pool;

typedef void (*fv_task)(void *context, int64_t index);

/* Makes a pool of `threads` threads, one of which is the caller of fv_pool_run. 0 means one thread
 * for each processor that this process may use (its affinity, and its cgroup's quota). The pool has
 * at most 4096 threads. If the system refuses to start a thread, the pool works without it: it is
 * slower, never broken. Returns 0; or EINVAL (threads < 0) or ENOMEM, and *pool is NULL. */
int fv_pool_create(fv_pool **pool, int threads);

/* Ends and joins the workers; NULL is allowed. No fv_pool_run may be under way. After the last pool
 * is destroyed no thread of ours is left, and the library can be unloaded. */
void fv_pool_destroy(fv_pool *pool);

/* Calls task(context, i) once for each i in [0, count), in any order, on any of the threads.
 * Returns when all calls have returned; what they wrote is then visible to the caller. Allocates
 * nothing and cannot fail.
 *
 * Any number of threads may call it at once, and tasks may call it. A caller that finds the pool
 * busy runs its loop in order on its own thread. It waits for nobody, so nothing can deadlock.
 *
 * After fork() the child can use its copy of the pool, whatever other threads of the parent were
 * doing. The first use in the child starts new workers. A child forked from inside a task must not
 * return from that task, because the workers it would wait for do not exist. It may exec or
 * _exit. */
void fv_pool_run(fv_pool *pool, int64_t count, fv_task task, void *context);

/* The number of threads asked for, at least 1. It never changes, so plans and sizes may depend on
 * it. Fewer threads work if the system refused some. */
int fv_pool_threads(const fv_pool *pool);

/* The processors that this process may use (its affinity, and its cgroup's quota); at least 1. */
int fv_pool_default_threads(void);

/* How many processors the file `cpu_max` allows. It has the form of cgroup's cpu.max, quota and
 * period: "150000 100000". The result is their quotient rounded up, at least 1. It is INT_MAX if
 * the file sets no limit, is missing or has another form. For fv_pool_default_threads and its
 * test. */
int fv_pool_quota(const char *cpu_max);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_HOST_POOL_H */
