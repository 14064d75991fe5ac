/* interrupt.h - how the program ends when somebody wants it to: the word "interrupted", exit code
 * 130, nothing left over. */
#ifndef FV_INTERRUPT_H
#define FV_INTERRUPT_H

#include <stdbool.h>

/* From now on SIGINT ends the program with 130 and SIGTERM with that signal; both say so on stderr.
 * A program that was started with them ignored, as a shell starts what runs in the background, goes
 * on ignoring them. A reader of stdout that goes away is an error of the write, not a signal. */
void fv_interrupt_setup(void);

/* Is one of them held back by the caller, or SIGHUP? Who holds them for longer than a moment, as a
 * writer of a temporary file does, asks, and gives up if so. */
bool fv_interrupt_is_waiting(void);

#endif /* FV_INTERRUPT_H */
