/* weigh_rows.h - the two passes of fovea_attention_weights over some rows and keys.
 *
 * A unit is some rows of some query heads of one kv head of a chosen sequence. A row here is a pair
 * (query head, position), heads outermost. The first pass walks all keys and leaves in each row's
 * state what softmax needs; it also fills in the statistics. The second pass computes the scores of
 * a range of keys again, and writes weights and mass. It never reads what another unit wrote. */
#ifndef FOVEA_CSRC_CPU_WEIGH_ROWS_H
#define FOVEA_CSRC_CPU_WEIGH_ROWS_H

#include "csrc/cpu/attend.h"
#include "csrc/host/selection.h"

enum {
  FV_UNIT_ROWS = 512,  /* rows of a unit at most: their states are 16 KiB on the caller's stack */
  FV_ROUND_UNITS = 32, /* units whose states exist at the same time, at most */
  /* A tile of widened keys of up to 144 dims fits, 18 KiB. Of wider ones fewer at a time are
   * widened, anew for every 8 rows. */
  FV_WIDENED_TILE = FV_PANEL_COLUMNS_MAX,
  FV_WIDENED_FLOATS = 144 * FV_WIDENED_TILE
};

/* What the first pass finds of a row. The scores are relative to `maximum`, in the units that
 * fv_attend_job.score_factor is for. */
typedef struct fv_weigh_state {
  double sum;    /* of the keys' exp2((score - maximum) * factor) */
  double depth;  /* of the same, each times (maximum - score) */
  float maximum; /* -inf: no key seen */
  float first;   /* the score of key kv_first; -inf: not seen */
  float share;   /* the largest weight: exp(maximum - lse); set when all keys are seen */
  int32_t key;   /* the first with the largest score; -1: none */
} fv_weigh_state;

typedef struct fv_weigh_unit {
  fv_sequence sequence;
  int64_t entry;             /* of the selection */
  int64_t kv_head;           /* -1: the heads are out of range */
  int64_t head_begin, heads; /* of the selection */
  int64_t row_begin, rows;   /* of the selection: rows of each head */
  bool adds;                 /* to mass, which an earlier unit or the caller has filled */
  fv_seen_keys seen;         /* by the chosen rows and those between them */
  fv_weigh_state *states;    /* [heads * rows] */
} fv_weigh_unit;

typedef struct fv_weigh_job {
  fv_attend_job attend;
  const fv_weights_problem *weights;
  int32_t tile_kv;
  bool widens_tiles; /* which then are FV_WIDENED_TILE long */
  bool softmax;      /* some output needs probabilities */
} fv_weigh_job;

/* The first pass over rows [begin, end) of the unit. */
void fv_weigh_survey(const fv_weigh_job *job, const fv_weigh_unit *unit, int64_t begin,
                     int64_t end);

/* The second pass over keys [begin, end); begin is a multiple of tile_kv. The units follow each
 * other in mass. */
void fv_weigh_keys(const fv_weigh_job *job, const fv_weigh_unit *units, int64_t count,
                   int64_t begin, int64_t end);

#endif /* FOVEA_CSRC_CPU_WEIGH_ROWS_H */
