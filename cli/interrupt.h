/* interrupt.h - how the program ends when somebody wants it to: the word "interrupted", exit code
 * 130, nothing left over. */
#ifndef FV_INTERRUPT_H
#define FV_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

/* From now on SIGINT ends the program with 130 and SIGTERM with that signal; both say so on stderr.
 * A program that was started with them ignored, as a shell starts what runs in the background, goes
 * on ignoring them. A reader of stdout that goes away is an error of the write, not a signal. */
void fv_interrupt_setup(void);

/* Between the two calls nothing ends the program: for the moments when a temporary file exists. Who
 * needs longer than a moment asks whether an end is waiting, and gives up if so. */
void fv_interrupt_hold(sigset_t *before);
bool fv_interrupt_is_waiting(void);
void fv_interrupt_release(const sigset_t *before);

#endif /* FV_INTERRUPT_H */
