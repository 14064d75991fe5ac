/* form.c - finds the form of an opcode: see decode/form.h. The tables are searched in order and the
 * first form that fits is taken. Optional modifiers are tried as present, then as absent. */
#include "simgpu/decode/form.h"

#include <string.h>

static const struct sim_form_list *const lists[] = {
    &sim_integer_forms,   &sim_float_forms,   &sim_double_forms,   &sim_half_forms,
    &sim_predicate_forms, &sim_convert_forms, &sim_move_forms,     &sim_access_forms,
    &sim_atomic_forms,    &sim_warp_forms,    &sim_matrix_forms,   &sim_mma_forms,
    &sim_async_forms,     &sim_control_forms, &sim_directed_forms, &sim_set_forms,
    &sim_mbarrier_forms};

static bool is_among(const char *word, const char *choices, size_t length) {
  size_t word_length = strlen(word);
  while (length > 0) {
    const char *bar = memchr(choices, '|', length);
    size_t choice = bar ? (size_t)(bar - choices) : length;
    if (choice == word_length && !memcmp(choices, word, choice)) return true;
    if (!bar) return false;
    length -= choice + 1;
    choices = bar + 1;
  }
  return false;
}

/* Whether words[0..count) fit the rest of a pattern. */
static bool matches(const char *pattern, const char *const *words, u32 count) {
  if (!*pattern) return count == 0;
  const char *end = strchr(pattern, '.');
  size_t length = end ? (size_t)(end - pattern) : strlen(pattern);
  const char *rest = end ? end + 1 : pattern + length;
  bool optional = pattern[length - 1] == '?';
  if (count && is_among(words[0], pattern, length - optional) &&
      matches(rest, words + 1, count - 1)) {
    return true;
  }
  return optional && matches(rest, words, count);
}

static bool cut(struct sim_pool *pool, const char *text, struct sim_opcode *opcode) {
  *opcode = (struct sim_opcode){.text = text};
  opcode->words = sim_pool_text(pool, text, strlen(text));
  for (char *at = opcode->words; at;) {
    if (opcode->count == SIM_MAX_MODIFIERS) return false;
    opcode->modifiers[opcode->count++] = at;
    at = strchr(at, '.');
    if (at) *at++ = 0;
  }
  return true;
}

static bool begins_like(const char *pattern, const char *word) {
  size_t length = strlen(word);
  return !strncmp(pattern, word, length) && (pattern[length] == '.' || pattern[length] == 0);
}

bool sim_find_form(struct sim_pool *pool, const char *text, struct sim_opcode *opcode) {
  if (!cut(pool, text, opcode)) return false;
  for (size_t list = 0; list < sizeof lists / sizeof *lists; list++) {
    for (u32 i = 0; i < lists[list]->count; i++) {
      const struct sim_form *form = &lists[list]->forms[i];
      if (begins_like(form->pattern, opcode->modifiers[0]) &&
          matches(form->pattern, opcode->modifiers, opcode->count)) {
        opcode->form = form;
        return true;
      }
    }
  }
  return false;
}

bool sim_has_modifier(const struct sim_opcode *opcode, const char *modifier) {
  for (u32 i = 1; i < opcode->count; i++) {
    if (!strcmp(opcode->modifiers[i], modifier)) return true;
  }
  return false;
}

int sim_modifier_among(const struct sim_opcode *opcode, const char *words) {
  int number = 0;
  for (const char *at = words;; number++) {
    const char *bar = strchr(at, '|');
    size_t length = bar ? (size_t)(bar - at) : strlen(at);
    for (u32 i = 1; i < opcode->count; i++) {
      const char *word = opcode->modifiers[i];
      if (strlen(word) == length && !memcmp(word, at, length)) return number;
    }
    if (!bar) return -1;
    at = bar + 1;
  }
}
