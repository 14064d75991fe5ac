/* interrupt.h - how the program ends when somebody wants it to: exit code 130, nothing left over.
 */
#ifndef FV_INTERRUPT_H
#define FV_INTERRUPT_H

#include <signal.h>

/* From now on SIGINT ends the program with 130, unless it was started with SIGINT ignored (as a
 * shell starts what runs in the background), and a reader of stdout that goes away is an error of
 * the write, not a signal. */
void fv_interrupt_setup(void);

/* Between the two calls nothing ends the program: for the moments when a temporary file exists. */
void fv_interrupt_hold(sigset_t *before);
void fv_interrupt_release(const sigset_t *before);

#endif /* FV_INTERRUPT_H */
