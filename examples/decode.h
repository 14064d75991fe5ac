/* decode.h - what the files of the example share: sizes, the server, and the device it runs on.
 *
 *   decode.c         the loop: requests, pages, the two calls of a step
 *   decode_check.c   is every row right?
 *   decode_cpu.c     where arrays lie and how a step is run: on the CPU
 *   decode_cuda.c    on a GPU: its memory, a stream, captured graphs
 *
 * cc -I. -DDECODE_CUDA examples/decode*.c -lfovea -lm builds it from the root of the tree; cuda.h
 * must be found. Without decode_cuda.c and the definition it needs neither. */
#ifndef FOVEA_EXAMPLES_DECODE_H
#define FOVEA_EXAMPLES_DECODE_H

#include <fovea.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  HEADS_Q = 4,
  HEADS_KV = 2,
  DIM = 64,
  PAGE_LEN = 16,
  PAGES = 12,     /* of the cache, shared by all sequences */
  PAGES_EACH = 8, /* of one sequence, at most */
  LONGEST = PAGES_EACH * PAGE_LEN,
  SEQUENCES = 3, /* at a time */
  ROWS = 128,    /* new tokens in a step, at most */
  REQUESTS = 5
};

/* ---- The device ---- */

/* An array that the host and the device both know. On the CPU the two addresses are one. */
typedef struct twin {
  void *here, *there;
  size_t bytes;
} twin;

/* A function that queues calls on the device's stream. */
typedef void queue_calls(void *context, int which);

/* Whatever is queued runs in its order. On the CPU it has run when the function returns. */
typedef struct device {
  fovea_device kind;
  const char *by; /* what serves a step, in words */
  void (*open)(void);
  twin (*allocate)(size_t bytes); /* zeros on both sides */
  void (*upload)(const twin *array);
  void (*download)(const twin *array);
  void (*wait)(void); /* for all that is queued */
  fovea_stream (*stream)(void);
  /* Records the calls of queue(context, which), to be replayed as often as wanted. */
  void (*record)(int which, queue_calls *queue, void *context);
  void (*replay)(int which, queue_calls *queue, void *context);
  void (*close)(void); /* also frees all arrays */
} device;

extern const device cpu_device;
extern const device cuda_device; /* if DECODE_CUDA is defined */

/* ---- The server ---- */

/* What the host tells the device before a step. Row s of the arrays of sequences is that of
 * running[s]. Calls look at these arrays where they lie, so they are one copy to a GPU. In a real
 * server the new q, k and v are made on the device, by the model. */
typedef struct step_input {
  float q[ROWS][HEADS_Q][DIM], k_new[ROWS][HEADS_KV][DIM], v_new[ROWS][HEADS_KV][DIM];
  int64_t slots[ROWS];               /* a row's place among the prepared queries; -1: not in use */
  int32_t positions[ROWS];           /* of each row in its sequence */
  int32_t offsets[SEQUENCES + 1];    /* where each sequence's new rows begin */
  int32_t lengths_before[SEQUENCES]; /* keys in the cache before the step: for the append */
  int32_t lengths[SEQUENCES];        /* and with the step's own: for attention */
  int32_t page_table[SEQUENCES][PAGES_EACH];
} step_input;

typedef struct sequence {
  int request;
  int32_t pages; /* it holds the first `pages` entries of its row of the page table */
} sequence;

typedef struct server {
  const device *device;
  fovea_handle *handle;
  uint32_t dtype; /* of queries and out: f32, or bf16 where the kernels want the cache's type */
  uint32_t reproducible; /* how far the bits of a row are promised */
  bool appends_prepare_queries;
  int step, arrived;

  twin input;            /* step_input */
  twin out, errors;      /* [ROWS][HEADS_Q][DIM] of dtype; [SEQUENCES] */
  twin queries;          /* as out: rotated and rounded */
  twin k_cache, v_cache; /* [PAGES][PAGE_LEN][HEADS_KV][DIM], bf16 */
  twin k_dense, v_dense; /* [LONGEST][HEADS_KV][DIM], bf16: for the check */
  twin cosines, sines;   /* [LONGEST][DIM / 2] */
  twin workspace;
  int32_t free_pages[PAGES];
  int32_t free_count, promised; /* pages promised to running sequences */

  sequence running[SEQUENCES];
  int32_t count;

  /* For the check: every row that was served, in f32, which holds all that bf16 does. */
  float served[REQUESTS][LONGEST][HEADS_Q][DIM];
} server;

/* decode.c */
void stop_unless(bool fine, const char *what);
float element(char which, int request, int32_t position, int head, int d);
int32_t life_of(int request);
void fill_tokens(step_input *in, int request, int32_t begin, int32_t end, int32_t row);
fovea_kv_append_args append_args(const server *s, int32_t rows);
fovea_attention_args attention_args(const server *s, int32_t rows);
void queue_append(const server *s, const fovea_kv_append_args *args, int32_t rows);
void queue_attention(const server *s, const fovea_attention_args *args);

/* decode_check.c */
double check_step(server *s);
void check_request(server *s, int request);

#endif /* FOVEA_EXAMPLES_DECODE_H */
