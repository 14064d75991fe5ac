/* manual.c - fovea_manual, which the build runs: writes the flags of the commands into a template
 * of a manual page or of the completion.
 *
 * usage: fovea_manual TEMPLATE RESULT. A line of a template, after blanks, may be
 *
 *   .\" FLAGS run     the flags of that command alone; "input": those that several commands share
 *   # FLAGS           a shell case per command: its flags
 *   # VALUES          a shell case per command and flag: what the flag takes, as in --help
 *
 * Everything else is copied. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/command/command.h"

/* ---- A page ---- */

/* Lines begin with no dot, because each begins with a letter of ours. */
static void put_text(FILE *out, const char *text) {
  bool bold = false;
  for (; *text; ++text) {
    if (*text == '`') {
      bold = !bold;
      fputs(bold ? "\\fB" : "\\fR", out);
    } else if (*text == '-') {
      fputs("\\-", out);
    } else if (*text == '\\') {
      fputs("\\e", out);
    } else {
      fputc(*text, out);
    }
  }
}

/* Names that stand for values are capitals, and italic; what is written as it is, bold. */
static void put_takes(FILE *out, const char *text) {
  char last = '\0';
  for (; *text; ++text) {
    bool is_word = isalnum((unsigned char)*text) || *text == '.' || *text == '=' || *text == ':';
    char font = isupper((unsigned char)*text) ? 'I' : is_word || *text == '-' ? 'B' : 'R';
    if (font != last) fprintf(out, "\\f%c", font);
    last = font;
    if (*text == '-') fputc('\\', out);
    fputc(*text, out);
  }
  fputs("\\fR", out);
}

static void put_entry(FILE *out, const fv_flag *flag) {
  fputs(".TP\n", out);
  if (flag->letter) fprintf(out, "\\fB\\-%c\\fR, ", flag->letter);
  fputs("\\fB\\-\\-", out);
  put_text(out, flag->name);
  fputs("\\fR", out);
  if (flag->takes) fputc('=', out);
  if (flag->takes) put_takes(out, flag->takes);
  fputc('\n', out);
  put_text(out, flag->help);
  fputs(".\n", out);
  if (flag->manual) {
    put_text(out, flag->manual);
    fputc('\n', out);
  }
}

static bool put_entries(FILE *out, const char *name) {
  const fv_command *command = fv_command_find(name);
  const fv_flag *flag = command ? command->flags->own : NULL;
  if (!strcmp(name, "input")) flag = fv_run_flags.input;
  for (; flag && flag->help; ++flag) {
    if (flag->name) put_entry(out, flag);
  }
  return flag != NULL;
}

/* ---- The completion ---- */

static void put_names(FILE *out) {
  const fv_flag *flag;
  fputs("    '') options='", out);
  for (const fv_command *c = fv_commands; c->name; ++c) fprintf(out, "%s ", c->name);
  fputs("--help --version' ;;\n", out);
  for (const fv_command *c = fv_commands; c->name; ++c) {
    fprintf(out, "    %s) options='", c->name);
    for (int i = 0; (flag = fv_flags_at(c->flags, i)); ++i) {
      if (flag->name) fprintf(out, "--%s ", flag->name);
    }
    fprintf(out, "--help' operand='%s' ;;\n", c->flags->operand ? c->flags->operand : "");
  }
}

static void put_values(FILE *out) {
  const fv_flag *flag;
  for (const fv_command *c = fv_commands; c->name; ++c) {
    for (int i = 0; (flag = fv_flags_at(c->flags, i)); ++i) {
      if (!flag->takes) continue;
      fprintf(out, "    %s--%s", c->name, flag->name);
      if (flag->letter) fprintf(out, " | %s-%c", c->name, flag->letter);
      fprintf(out, ") takes='%s' ;;\n", flag->takes);
    }
  }
}

/* ---- The template ---- */

static bool write_line(FILE *out, const char *line) {
  static const char entries[] = ".\\\" FLAGS ";
  const char *text = line + strspn(line, " ");
  char name[32];
  if (!strncmp(text, entries, sizeof entries - 1)) {
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + sizeof entries - 1, "\n"),
             text + sizeof entries - 1);
    return put_entries(out, name);
  }
  if (!strcmp(text, "# FLAGS\n")) {
    put_names(out);
  } else if (!strcmp(text, "# VALUES\n")) {
    put_values(out);
  } else {
    fputs(line, out);
  }
  return true;
}

int main(int argc, char **argv) {
  char line[1024];
  FILE *in = argc == 3 ? fopen(argv[1], "r") : NULL;
  FILE *out = in ? fopen(argv[2], "w") : NULL;
  if (!out) {
    fputs("usage: fovea_manual TEMPLATE RESULT\n", stderr);
    return 2;
  }
  bool good = true;
  while (good && fgets(line, sizeof line, in)) good = write_line(out, line);
  if (!good) fprintf(stderr, "%s: no such command: %s", argv[1], line);
  if (ferror(in)) good = false;
  fclose(in);
  if (fclose(out)) good = false;
  if (!good) remove(argv[2]);
  return good ? 0 : 1;
}
