/* interrupt.h - how the program ends when somebody interrupts it: the word "interrupted", exit code
 * 130, nothing left over. */
#ifndef FOVEA_CLI_INTERRUPT_H
#define FOVEA_CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on SIGINT ends the program with 130 and SIGTERM with that signal; both say so on stderr.
 * A shell starts background programs with these signals ignored: then they stay ignored. If the
 * reader of stdout goes away, that is an error of the write, not a signal. */
void fv_interrupt_setup(void);

/* Is SIGINT, SIGTERM or SIGHUP pending while the caller blocks it? A caller that blocks them for
 * longer than a moment, such as the writer of a temporary file, asks this and gives up if so. */
bool fv_interrupt_is_waiting(void);

#endif /* FOVEA_CLI_INTERRUPT_H */
