/* fields.h - every tensor and array of the calls' arguments, listed once. What treats them alike
 * reads these tables: the checks, the plan's text, the program's copies for a CUDA device, the
 * fuzzers. Rules that concern one field alone stand in attention.c and append.c. */
#ifndef FOVEA_CSRC_CHECK_FIELDS_H
#define FOVEA_CSRC_CHECK_FIELDS_H

#include "csrc/check/view.h"
#include "csrc/problem.h"

typedef struct fv_tensor_field {
  const char *name;    /* as callers write it: "logits.bias" */
  size_t offset;       /* in the struct of arguments */
  const char *feature; /* its word in a plan's text, or NULL */
  bool in_weights;     /* fovea_attention_weights uses it */
  fv_view_rule rule;
} fv_tensor_field;

/* What decides the number of an array's elements. */
typedef enum fv_array_extent {
  FV_PER_SEQUENCE,
  FV_PER_OFFSET,       /* one more than sequences */
  FV_PER_TOKEN,        /* of an append */
  FV_TWO_PER_ROW,      /* of all sequences */
  FV_PER_HEAD,         /* of q */
  FV_PER_HEAD_OF_EACH, /* sequence */
  FV_PER_KV_HEAD_OF_EACH,
  FV_PER_DISTANCE, /* of each head */
  FV_PER_DIM,      /* of each head */
  FV_PER_PAGE_ID,
  FV_PER_TREE_WORD,
  FV_PER_ROPE_ELEMENT,
  FV_PER_Q_GAIN, /* of an append's norms */
  FV_PER_K_GAIN,
  FV_PER_V_GAIN
} fv_array_extent;

typedef struct fv_array_field {
  const char *name;
  size_t offset;       /* of the pointer */
  const char *feature; /* as above */
  fv_array_extent extent;
  size_t size;  /* bytes of an element */
  bool written; /* by the call */
} fv_array_field;

typedef struct fv_fields {
  const fv_tensor_field *tensors;
  const fv_array_field *arrays;
  int tensor_count, array_count;
} fv_fields;

extern const fv_fields fv_attention_fields; /* of fovea_attention_args */
extern const fv_fields fv_append_fields;    /* of fovea_kv_append_args */

/* The elements that the call may touch. `problem` knows its sequences, and the fields that the
 * extent depends on are checked. */
fv_wide fv_attention_elements(const fv_problem *problem, const fv_array_field *array);
fv_wide fv_append_elements(const fv_append_problem *problem, const fv_array_field *array);

/* A field of a struct of arguments. */
static inline fovea_tensor *fv_tensor_at(void *args, const fv_tensor_field *field) {
  return (fovea_tensor *)((char *)args + field->offset);
}
static inline void **fv_array_at(void *args, const fv_array_field *field) {
  return (void **)((char *)args + field->offset);
}

/* Checks a tensor, or an array if it is present, by itself. `spans` receives the array's memory. */
fovea_status fv_check_tensor_field(const fv_tensor_field *field, void *args, bool addresses);
fovea_status fv_check_array_field(const fv_array_field *field, void *args, fv_wide elements,
                                  bool addresses, fv_spans *spans);

/* The rules of fovea_attention without v, out, lse and workspace. `inputs` receives all memory that
 * is read. */
fovea_status fv_check_weighed(const fovea_attention_args *args, fv_problem *problem, bool addresses,
                              fv_spans *inputs);

#endif /* FOVEA_CSRC_CHECK_FIELDS_H */
