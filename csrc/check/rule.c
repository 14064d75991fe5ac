/* rule.c - broken rules as sentences, and the growth of structs.
 *
 * The fv_rule_broken functions run only when a rule is broken, so they may be slow. They take the
 * tokens of the condition apart and look up the words for dimensions in a table. The other
 * functions run in calls that succeed, too. */
#include "csrc/check/rule.h"

#include <stdio.h>
#include <string.h>

enum {
  FIELD_BYTES = 96 /* more than enough for the longest: "k_scale.shape[3] (blocks)" */
};

/* The header's words for the dimensions of each tensor. */
static const struct {
  const char *tensor;
  const char *words[4];
} dimension_words[] = {
    {"q", {"batch", "len_q", "heads_q", "dim"}},
    {"k", {"batch", "len_kv", "heads_kv", "dim"}},
    {"v", {"batch", "len_kv", "heads_kv", "dim_v"}},
    {"out", {"batch", "len_q", "heads_q", "dim_v"}},
    {"outs", {"batch", "len_q", "heads_q", "dim_v"}},
    {"lse", {"batch", "len_q", "heads_q", ""}},
    {"lses", {"batch", "len_q", "heads_q", ""}},
    {"q_scale", {"", "", "", "blocks"}},
    {"k_scale", {"", "", "", "blocks"}},
    {"v_scale", {"", "", "", "blocks"}},
    {"out_scale", {"", "", "", "blocks"}},
    {"mask", {"sequences", "rows", "heads_q", "keys"}},
    {"bias", {"sequences", "rows", "heads_q", "keys"}},
    {"weights", {"sequences", "rows", "heads", "keys"}},
    {"mass", {"sequences", "", "heads", "keys"}},
    {"statistics", {"sequences", "rows", "heads", ""}},
    {"k_new", {"batch", "len_new", "heads_kv", "dim"}},
    {"v_new", {"batch", "len_new", "heads_kv", "dim_v"}},
    {"k_cache", {"batch", "len", "heads_kv", "dim"}},
    {"v_cache", {"batch", "len", "heads_kv", "dim_v"}},
    {"q_out", {"batch", "len_new", "heads_q", "dim"}},
};

static const char *dimension_word(const char *field) {
  const char *shape = strstr(field, ".shape[");
  if (shape == NULL) return "";
  const int dimension = shape[strlen(".shape[")] - '0';
  if (dimension < 0 || dimension > 3) return "";
  const char *name = shape; /* what is before .shape: "mask" of visibility.mask, "outs[3]" */
  while (name > field && name[-1] != '.') --name;
  const size_t length = strcspn(name, ".[");
  for (size_t i = 0; i < sizeof dimension_words / sizeof dimension_words[0]; ++i) {
    const char *tensor = dimension_words[i].tensor;
    if (strlen(tensor) == length && strncmp(tensor, name, length) == 0)
      return dimension_words[i].words[dimension];
  }
  return "";
}

/* "args->q.shape[3]" becomes "q.shape[3] (dim)", "pages->count" becomes "pages.count". */
static const char *field_text(const char *expression, char *buffer) {
  static const char prefix[] = "args->";
  if (strncmp(expression, prefix, sizeof prefix - 1) == 0) expression += sizeof prefix - 1;
  size_t length = 0;
  for (const char *c = expression; *c != '\0' && length < FIELD_BYTES - 1; ++c) {
    const bool arrow = c[0] == '-' && c[1] == '>';
    buffer[length++] = arrow ? '.' : *c;
    if (arrow) ++c;
  }
  buffer[length] = '\0';
  const char *word = dimension_word(buffer);
  if (word[0] != '\0') snprintf(buffer + length, FIELD_BYTES - length, " (%s)", word);
  return buffer;
}

static const char *operator_text(const char *op) {
  if (strcmp(op, "==") == 0) return "equal";
  if (strcmp(op, ">=") == 0) return "be at least";
  if (strcmp(op, "<=") == 0) return "be at most";
  return "be a multiple of"; /* "%", the only other operator */
}

static const char *separator(const char *remedy) {
  return remedy[0] == '\0' ? "" : "; ";
}

const char *fv_name_text(fv_name name, char *buffer) {
  if (name.part < 0)
    snprintf(buffer, FV_NAME_BYTES, "%s", name.text);
  else
    snprintf(buffer, FV_NAME_BYTES, "%s[%d]", name.text, (int)name.part);
  return buffer;
}

/* Whether a bound's name tells the caller something. A field or a word does; a number or a constant
 * of ours does not. Bounds are the text of C expressions: only those that begin with a lower-case
 * name begin with 'a' or a later character. */
static bool is_telling(const char *bound) {
  return bound[0] >= 'a';
}

fovea_status fv_rule_broken(const fv_rule *rule) {
  char left[FIELD_BYTES], right[FIELD_BYTES + 40];
  field_text(rule->left, left);
  if (is_telling(rule->right)) {
    const size_t length = strlen(field_text(rule->right, right));
    snprintf(right + length, sizeof right - length, ", which is %lld",
             (long long)rule->right_value);
  } else {
    snprintf(right, sizeof right, "%lld", (long long)rule->right_value);
  }
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is %lld, must %s %s%s%s", left,
                 (long long)rule->left_value, operator_text(rule->op), right,
                 separator(rule->remedy), rule->remedy);
}

fovea_status fv_rule_broken_at(fv_name owner, int index, const fv_rule *rule) {
  char name[FV_NAME_BYTES], left[FIELD_BYTES + FV_NAME_BYTES], right[FIELD_BYTES];
  snprintf(left, sizeof left, "%s.%s[%d]", fv_name_text(owner, name), rule->left, index);
  fv_rule named = *rule;
  named.left = left;
  /* A bound indexed by the caller's loop, such as "out->shape[i]". */
  const char *loop = strstr(rule->right, "[i]");
  if (loop != NULL) {
    snprintf(right, sizeof right, "%.*s[%d]", (int)(loop - rule->right), rule->right, index);
    named.right = right;
  }
  return fv_rule_broken(&named);
}

fovea_status fv_rule_broken_given(const char *field, const char *why) {
  char text[FIELD_BYTES];
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is NULL, must be given%s%s", field_text(field, text),
                 why[0] == '\0' ? "" : " ", why);
}

fovea_status fv_rule_broken_absent(const char *field, const char *why) {
  char text[FIELD_BYTES];
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is given, must be NULL %s", field_text(field, text), why);
}

fovea_status fv_rule_broken_factor(const char *field, double value) {
  char text[FIELD_BYTES];
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is %g, must be finite and at least 0",
                 field_text(field, text), value);
}

fovea_status fv_rule_broken_flags(const char *field, uint32_t value, const char *allowed) {
  char text[FIELD_BYTES];
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is 0x%x, must have no bit but those of %s",
                 field_text(field, text), (unsigned)value, allowed);
}

fovea_status fv_rule_broken_choice(const char *field, uint32_t value, const char *choices) {
  char text[FIELD_BYTES];
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is %u, must be one of: %s", field_text(field, text),
                 (unsigned)value, choices);
}

fovea_status fv_rule_check_room(const void *to, size_t first, const char *type) {
  size_t given; /* read by memcpy: the struct may not be aligned */
  if (to == NULL) return fv_fail(FOVEA_BAD_ARGUMENT, "%s: the pointer is NULL", type);
  memcpy(&given, to, sizeof given);
  if (given < first || given > FV_STRUCT_MAX)
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s.struct_size is %zu, must be from %zu to %d; start with "
                   "`%s x = {.struct_size = sizeof x};`",
                   type, given, first, FV_STRUCT_MAX, type);
  return FOVEA_OK;
}

void fv_rule_write_struct(void *to, const void *from, size_t bytes) {
  size_t given;
  memcpy(&given, to, sizeof given);
  const size_t known = given < bytes ? given : bytes;
  memcpy((char *)to + sizeof given, (const char *)from + sizeof given, known - sizeof given);
}

fovea_status fv_rule_copy_struct(void *copy, size_t bytes, size_t first, const void *args,
                                 const char *type) {
  size_t given;
  FV_TRY(fv_rule_check_room(args, first, type));
  memcpy(&given, args, sizeof given);
  /* In a struct of a newer header, the fields that this library lacks must be at their default. */
  for (size_t i = bytes; i < given; ++i) {
    if (((const unsigned char *)args)[i] != 0)
      return fv_fail(FOVEA_BAD_ARGUMENT,
                     "%s.struct_size is %zu, byte %zu is not 0, and this library (%d) knows %zu "
                     "bytes: the caller's header is newer and uses a field it lacks",
                     type, given, i, (int)fovea_version(), bytes);
  }
  memset(copy, 0, bytes);
  memcpy(copy, args, given < bytes ? given : bytes);
  memcpy(copy, &bytes, sizeof bytes);
  return FOVEA_OK;
}
