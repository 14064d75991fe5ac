/* roomy_stack.h - a stack that is large enough, whatever `ulimit -s` says. */
#ifndef FOVEA_CLI_ROOMY_STACK_H
#define FOVEA_CLI_ROOMY_STACK_H

/* Calls the command and returns its result. It runs here, or on a thread with a larger stack if the
 * stack's limit is too low. The library's threads then get larger stacks too. */
int fv_call_on_roomy_stack(int (*command)(int argc, char **argv), int argc, char **argv);

#endif /* FOVEA_CLI_ROOMY_STACK_H */
