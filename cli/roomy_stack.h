/* roomy_stack.h - a stack that is large enough, whatever `ulimit -s` says. */
#ifndef FV_ROOMY_STACK_H
#define FV_ROOMY_STACK_H

/* Calls the command and returns what it does: here, or where the stack's limit is too low for it,
 * on a thread with a stack of its own. The library's threads get such stacks too. */
int fv_call_on_roomy_stack(int (*command)(int argc, char **argv), int argc, char **argv);

#endif /* FV_ROOMY_STACK_H */
