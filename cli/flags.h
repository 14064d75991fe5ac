/* flags.h - the flags of a command as one table. Parsing, --help, the completion and the manual
 * page all come from it: a new flag is a row, the code that uses it, and its test. */
#ifndef FOVEA_CLI_FLAGS_H
#define FOVEA_CLI_FLAGS_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fv_flag fv_flag;

/* Reads a value into `place`; `text` is NULL for a switch. False: it is not valid. */
typedef bool fv_flag_store(const fv_flag *flag, const char *text, void *place);

struct fv_flag {
  const char *name;  /* "seed"; NULL: `help` is a heading */
  char letter;       /* 's'; 0: none */
  const char *takes; /* "S", "all|rows=N|none", "OUT.safetensors|npy"; NULL: it is a switch */
  fv_flag_store *store;
  size_t offset;      /* of `place` in the command's options */
  int64_t low, high;  /* the range of a number */
  const char *valid;  /* what to write instead of a wrong value; NULL: the range, or `takes` */
  const char *help;   /* NULL: the end of the table */
  const char *manual; /* what only the manual says, words in `backquotes` bold; NULL: nothing */
};

/* The flags of a command, and its other words. */
typedef struct fv_flags {
  const char *command;  /* "fovea run" */
  const char *operand;  /* "FILE.safetensors"; NULL: it takes none */
  const char *help;     /* as in argp: text before the flags, \v, text after them */
  const fv_flag *input; /* flags shared with other commands; NULL: none */
  const fv_flag *own;
  void (*take_word)(void *options, char *word, struct argp_state *state);
  void (*check)(const void *options, struct argp_state *state); /* at the end; NULL: nothing */
} fv_flags;

/* Ends the program if the arguments are wrong or ask for help. */
void fv_flags_parse(const fv_flags *flags, int argc, char **argv, void *options);

/* Input flags come first, headings included. NULL: there is no flag of this index. */
const fv_flag *fv_flags_at(const fv_flags *flags, int index);

/* A switch: bool. */
bool fv_flag_true(const fv_flag *flag, const char *text, void *place);
/* const char *, which lives as long as the command line. */
bool fv_flag_text(const fv_flag *flag, const char *text, void *place);
/* int64_t from low to high. */
bool fv_flag_number(const fv_flag *flag, const char *text, void *place);

#endif /* FOVEA_CLI_FLAGS_H */
