/* interrupt.c - see interrupt.h. */
#include "interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include "error.h"

/* Not exit(): the handler may have come in the middle of malloc or stdio. The library's threads
 * block all signals, so this runs in the main thread, which holds them back while it writes. */
static void on_interrupt(int number) {
  (void)number;
  _exit(FV_EXIT_INTERRUPTED);
}

void fv_interrupt_setup(void) {
  struct sigaction before, action = {.sa_handler = on_interrupt};
  if (!sigaction(SIGINT, NULL, &before) && before.sa_handler != SIG_IGN) {
    sigaction(SIGINT, &action, NULL);
  }
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, NULL);
}

void fv_interrupt_hold(sigset_t *before) {
  sigset_t held;
  sigemptyset(&held);
  sigaddset(&held, SIGINT);
  sigaddset(&held, SIGTERM);
  sigaddset(&held, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &held, before);
}

void fv_interrupt_release(const sigset_t *before) {
  pthread_sigmask(SIG_SETMASK, before, NULL);
}
