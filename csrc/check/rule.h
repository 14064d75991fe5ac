/* rule.h - how a rule of the header is written down: one macro that is condition and text.
 *
 *   FV_REQUIRE(args->q.shape[3], ==, args->k.shape[3], "");
 *
 * returns BAD_ARGUMENT from the enclosing function if the comparison fails. The detail is then
 *
 *   q.shape[3] (dim) is 128, must equal k.shape[3] (dim), which is 64
 *
 * Both sides of the text come from the tokens of the condition, so text and condition agree. The
 * pointer to the arguments is called `args` everywhere, and the text omits it. `remedy` is appended
 * to the text; it is "" where the remedy is obvious. */
#ifndef FOVEA_CSRC_CHECK_RULE_H
#define FOVEA_CSRC_CHECK_RULE_H

#include <stdbool.h>

#include "csrc/problem.h"
#include "csrc/status.h"

/* A caller that forgets struct_size leaves any number there, and every byte up to it would be read.
 * Every struct is much smaller than this one page. */
enum { FV_STRUCT_MAX = 4096 };

/* A broken rule: `left_value op right_value` is false. */
typedef struct fv_rule {
  const char *left;
  const char *op;
  const char *right;
  const char *remedy;
  int64_t left_value;
  int64_t right_value;
} fv_rule;

/* A name whose text is made only when it is needed: "q", or "outs[3]". */
typedef struct fv_name {
  const char *text;
  int32_t part; /* -1: not an element of an array */
} fv_name;

enum { FV_NAME_BYTES = 64 };

/* Writes the name into buffer[FV_NAME_BYTES] and returns it. */
const char *fv_name_text(fv_name name, char *buffer);

/* Each function stores the detail and returns BAD_ARGUMENT. */
fovea_status fv_rule_broken(const fv_rule *rule);
/* The same for element `index` of a member of `owner`, whose name is known at run time. */
fovea_status fv_rule_broken_at(fv_name owner, int index, const fv_rule *rule);
fovea_status fv_rule_broken_given(const char *field, const char *why);
fovea_status fv_rule_broken_absent(const char *field, const char *why);
fovea_status fv_rule_broken_factor(const char *field, double value);
fovea_status fv_rule_broken_flags(const char *field, uint32_t value, const char *allowed);
fovea_status fv_rule_broken_choice(const char *field, uint32_t value, const char *choices);

/* Copies a struct of arguments of any release into this library's struct, zero-extended. `first` is
 * the size of the struct in its first release, `type` its name. */
fovea_status fv_rule_copy_struct(void *copy, size_t bytes, size_t first, const void *args,
                                 const char *type);

/* Copies *from to *to. last: the last field of the struct's first release. */
#define FV_COPY_STRUCT(to, from, type, last) \
  fv_rule_copy_struct(to, sizeof(type), FV_FIRST_BYTES(type, last), from, #type)

/* Checks that a struct that the library fills in is there and has the size of some release. Then
 * fv_rule_write_struct fills in what fits into the caller's struct; its struct_size stays. */
fovea_status fv_rule_check_room(const void *to, size_t first, const char *type);
void fv_rule_write_struct(void *to, const void *from, size_t bytes);

/* Bytes of a struct through `last`, the last field of its first release. */
#define FV_FIRST_BYTES(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

#define FV_REQUIRE(field, op, bound, remedy)                                             \
  do {                                                                                   \
    const int64_t fv_left = (int64_t)(field);                                            \
    const int64_t fv_right = (int64_t)(bound);                                           \
    if (!(fv_left op fv_right))                                                          \
      return fv_rule_broken(&(fv_rule){#field, #op, #bound, remedy, fv_left, fv_right}); \
  } while (0)

/* The same for element `index` of a member of `object`, which the text calls `owner`. */
#define FV_REQUIRE_AT(owner, object, member, index, op, bound, remedy)                       \
  do {                                                                                       \
    const int64_t fv_left = (int64_t)(object)->member[index];                                \
    const int64_t fv_right = (int64_t)(bound);                                               \
    if (!(fv_left op fv_right))                                                              \
      return fv_rule_broken_at(owner, index,                                                 \
                               &(fv_rule){#member, #op, #bound, remedy, fv_left, fv_right}); \
  } while (0)

/* The reserved words of a room must be 0: this library does not know their meaning. */
#define FV_REQUIRE_ZEROS(owner, object, member)                                                \
  do {                                                                                         \
    for (int fv_word = 0; fv_word < (int)(sizeof(object)->member / sizeof(object)->member[0]); \
         ++fv_word)                                                                            \
      FV_REQUIRE_AT(((fv_name){owner, -1}), object, member, fv_word, ==, 0, "");               \
  } while (0)

/* 0 is a multiple of every number, and the only multiple of 0. */
#define FV_REQUIRE_MULTIPLE(field, bound, remedy)                                        \
  do {                                                                                   \
    const int64_t fv_left = (int64_t)(field);                                            \
    const int64_t fv_right = (int64_t)(bound);                                           \
    if (fv_right == 0 ? fv_left != 0 : fv_left % fv_right != 0)                          \
      return fv_rule_broken(&(fv_rule){#field, "%", #bound, remedy, fv_left, fv_right}); \
  } while (0)

/* For pointers. `why` continues the sentence: "with pages.ids". */
#define FV_REQUIRE_GIVEN(pointer, why)                                 \
  do {                                                                 \
    if ((pointer) == NULL) return fv_rule_broken_given(#pointer, why); \
  } while (0)
#define FV_REQUIRE_ABSENT(pointer, why)                                 \
  do {                                                                  \
    if ((pointer) != NULL) return fv_rule_broken_absent(#pointer, why); \
  } while (0)

/* A float must be finite and not negative. A NaN fails both comparisons. */
#define FV_REQUIRE_FACTOR(field)                                                               \
  do {                                                                                         \
    if (!((field) >= 0.0f && (field) <= FLT_MAX)) return fv_rule_broken_factor(#field, field); \
  } while (0)

/* A word must have one of the values named. The order of an enum's numbers means nothing, so the
 * text lists names. */
#define FV_REQUIRE_ONE_OF(field, ...)                                         \
  do {                                                                        \
    const uint32_t fv_choices[] = {__VA_ARGS__};                              \
    bool fv_found = false;                                                    \
    for (size_t i = 0; i < sizeof fv_choices / sizeof fv_choices[0]; ++i)     \
      fv_found |= fv_choices[i] == (field);                                   \
    if (!fv_found) return fv_rule_broken_choice(#field, field, #__VA_ARGS__); \
  } while (0)

/* A word of flags may have only bits of `allowed`. */
#define FV_REQUIRE_FLAGS(field, allowed)                    \
  do {                                                      \
    if (((field) & ~(uint32_t)(allowed)) != 0)              \
      return fv_rule_broken_flags(#field, field, #allowed); \
  } while (0)

#endif /* FOVEA_CSRC_CHECK_RULE_H */
