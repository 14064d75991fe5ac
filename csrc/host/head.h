/* head.h - one head of a new token, from the caller's tensor to its place: fovea_kv_append's
 * arithmetic. */
#ifndef FOVEA_CSRC_HOST_HEAD_H
#define FOVEA_CSRC_HOST_HEAD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fv_head {
  const char *from;
  char *to; /* may be `from`, with the same dtype */
  uint32_t from_dtype;
  uint32_t to_dtype;
  int64_t dim;

  const char *scale; /* of block 0; NULL: none */
  uint32_t scale_dtype;
  int64_t scale_stride; /* from block to block */
  int64_t block_len;

  const float *gain; /* of this head; NULL: no norm */
  float root;        /* 1 / the root of the mean square */
  bool unit_offset;

  const float *cos, *sin; /* of the token's position */
  int64_t half;           /* pairs to rotate; 0: none */
  bool interleaved;
} fv_head;

/* Normed, rotated, scaled, converted, written, as the header says under "Stored". */
void fv_head_write(const fv_head *head);

/* The sum of the squares of `dim` elements, in the order that the header gives. */
float fv_head_sum_squares(const void *from, uint32_t dtype, int64_t dim);

/* 1 / sqrt(sum / count + eps), each operation rounded by itself. */
float fv_head_root(float sum, int64_t count, float eps);

#endif /* FOVEA_CSRC_HOST_HEAD_H */
