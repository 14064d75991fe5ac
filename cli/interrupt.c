/* interrupt.c - see interrupt.h. */
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "cli/error.h"

/* Not exit(): the handler may interrupt malloc or stdio. The library's threads block all signals,
 * so this runs in the command's thread, which blocks them while it writes a file. The first bytes
 * erase a line of progress, and are only for terminals. A SIGTERM ends the program as it would have
 * without a handler, so that its sender sees that. */
static void on_interrupt(int number) {
  static const char text[] = "\r\033[Kfovea: interrupted\n";
  const size_t erasing = 4, skipped = isatty(STDERR_FILENO) ? 0 : erasing;
  ssize_t written = write(STDERR_FILENO, text + skipped, sizeof text - 1 - skipped);
  (void)written; /* nothing more can be done */
  if (number == SIGINT) _exit(FV_EXIT_INTERRUPTED);
  raise(number); /* SA_RESETHAND: takes the default action when this handler returns */
}

/* A caller that starts the program with the signal ignored, as nohup does, wants it ignored. */
static void catch_unless_ignored(int number) {
  struct sigaction before, action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
  if (sigaction(number, NULL, &before) || before.sa_handler == SIG_IGN) return;
  sigaction(number, &action, NULL);
}

void fv_interrupt_setup(void) {
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  catch_unless_ignored(SIGINT);
  catch_unless_ignored(SIGTERM);
  sigaction(SIGPIPE, &ignore, NULL);
}

bool fv_interrupt_is_waiting(void) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
  sigset_t pending;
  if (sigpending(&pending)) return false;
  for (size_t i = 0; i < sizeof ending / sizeof ending[0]; ++i) {
    struct sigaction action;
    if (sigismember(&pending, ending[i]) != 1) continue;
    /* A blocked signal becomes pending even if it is ignored. */
    if (!sigaction(ending[i], NULL, &action) && action.sa_handler != SIG_IGN) return true;
  }
  return false;
}
