/* roomy_stack.c - see roomy_stack.h.
 *
 * Drawing, fonts and JSON take some 100 KiB of stack and the library's threads 40 KiB. Each exceeds
 * a limit of 16 KiB: the program would die of SIGSEGV without a word. The limit governs the first
 * thread's stack, and that of threads that name no size. A thread that names a size has its own. */
#define _GNU_SOURCE /* pthread_setattr_default_np */
#include "cli/roomy_stack.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/error.h"
#include "cli/files/file_source.h"

/* Ten times what the commands were seen to take; untouched pages cost nothing. */
enum { ROOMY_BYTES = 1024 * 1024 };

typedef struct call {
  int (*command)(int argc, char **argv);
  int argc;
  char **argv;
  sigset_t signals;
  int code;
} call;

static void *run(void *context) {
  call *c = context;
  pthread_sigmask(SIG_SETMASK, &c->signals, NULL);
  c->code = c->command(c->argc, c->argv);
  return NULL;
}

static int fail(int error) {
  return fv_cli_fail(FV_EXIT_OUTPUT, "no thread with a stack of %d KiB: %s; allow one by ulimit -s",
                     ROOMY_BYTES / 1024, fv_errno_text(error));
}

/* Signals go to the command's thread: only that thread can hold them back while its temporary file
 * exists. */
int fv_call_on_roomy_stack(int (*command)(int argc, char **argv), int argc, char **argv) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) || limit.rlim_cur >= ROOMY_BYTES) return command(argc, argv);
  call c = {command, argc, argv, .code = FV_EXIT_OUTPUT};
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all;
  int error = pthread_attr_init(&attributes);
  if (!error) error = pthread_attr_setstacksize(&attributes, ROOMY_BYTES);
  if (!error) error = pthread_setattr_default_np(&attributes);
  if (error) return fail(error);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &c.signals);
  error = pthread_create(&thread, &attributes, run, &c);
  pthread_attr_destroy(&attributes);
  if (!error) error = pthread_join(thread, NULL);
  pthread_sigmask(SIG_SETMASK, &c.signals, NULL);
  return error ? fail(error) : c.code;
}
