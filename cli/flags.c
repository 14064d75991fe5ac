/* flags.c - see flags.h. */
#include "cli/flags.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "cli/flag_value.h"

/* Flags without a letter have keys from here on, by their index. */
enum { FIRST_KEY = 256, FLAGS_MAX = 40 };

typedef struct parsing {
  const fv_flags *flags;
  void *options;
} parsing;

const fv_flag *fv_flags_at(const fv_flags *flags, int index) {
  const fv_flag *tables[] = {flags->input, flags->own};
  for (int t = 0; t < 2; ++t) {
    for (const fv_flag *flag = tables[t]; flag && flag->help; ++flag) {
      if (!index--) return flag;
    }
  }
  return NULL;
}

static int key_of(const fv_flag *flag, int index) {
  return flag->letter ? flag->letter : FIRST_KEY + index;
}

static const fv_flag *find(const fv_flags *flags, int key) {
  const fv_flag *flag;
  for (int i = 0; (flag = fv_flags_at(flags, i)); ++i) {
    if (flag->name && key_of(flag, i) == key) return flag;
  }
  return NULL;
}

static void refuse(const fv_flag *flag, const char *text, struct argp_state *state) {
  char range[80];
  snprintf(range, sizeof range, "a number from %lld to %lld", (long long)flag->low,
           (long long)flag->high);
  const char *valid = flag->valid                     ? flag->valid
                      : flag->store == fv_flag_number ? range
                                                      : flag->takes;
  argp_error(state, "--%s: '%s' is not valid; write %s", flag->name, text, valid);
}

static error_t parse(int key, char *text, struct argp_state *state) {
  parsing *now = state->input;
  const fv_flags *flags = now->flags;
  if (key == ARGP_KEY_ARG) {
    flags->take_word(now->options, text, state);
    return 0;
  }
  if (key == ARGP_KEY_END && flags->check) flags->check(now->options, state);
  const fv_flag *flag = find(flags, key);
  if (!flag) return ARGP_ERR_UNKNOWN;
  if (!flag->store(flag, text, (char *)now->options + flag->offset)) refuse(flag, text, state);
  return 0;
}

/* A heading begins a group; argp sorts within one. */
static void fill_rows(const fv_flags *flags, struct argp_option *rows) {
  const fv_flag *flag;
  int group = 0;
  assert(!fv_flags_at(flags, FLAGS_MAX));
  for (int i = 0; i < FLAGS_MAX && (flag = fv_flags_at(flags, i)); ++i) {
    if (!flag->name) ++group;
    int key = flag->name ? key_of(flag, i) : 0;
    rows[i] = (struct argp_option){flag->name, key, flag->takes, 0, flag->help, group};
  }
}

void fv_flags_parse(const fv_flags *flags, int argc, char **argv, void *options) {
  static char name[32]; /* outlives the call, as argv does */
  struct argp_option rows[FLAGS_MAX + 1] = {{0}};
  parsing now = {flags, options};
  fill_rows(flags, rows);
  const struct argp argp = {rows, parse, flags->operand, flags->help, NULL, NULL, NULL};
  snprintf(name, sizeof name, "%s", flags->command);
  argv[0] = name;
  argp_parse(&argp, argc, argv, 0, NULL, &now);
}

bool fv_flag_true(const fv_flag *flag, const char *text, void *place) {
  (void)flag;
  (void)text;
  *(bool *)place = true;
  return true;
}

bool fv_flag_text(const fv_flag *flag, const char *text, void *place) {
  (void)flag;
  *(const char **)place = text;
  return true;
}

bool fv_flag_number(const fv_flag *flag, const char *text, void *place) {
  return fv_parse_count(text, flag->low, flag->high, place);
}
