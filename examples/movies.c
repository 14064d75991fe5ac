/* movies.c - which movie comes next, after those that somebody has seen? Causal self-attention.
 *
 *   movies become vectors, their places are added
 *   two layers: each movie asks itself and those before it, in 2 heads, and adds the answer
 *   the last movie's vector is compared with those of all movies
 *
 * It ranks the movie that each person saw last among all that the person had not seen, and says
 * which movies of a history decided, by rollout over both layers. The data may not be passed on:
 * examples/models/movies.py fetches them, trains, and writes the files that this reads. */
#include <fovea_layers.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/model.h"

enum {
  LENGTH = 64, /* the last movies of a history that are read */
  WIDTH = 64,
  HEADS = 2,
  LAYERS = 2,
  BEST = 10,
  SHOWN = 12 /* movies of a history */
};

typedef struct library {
  model network;
  model_lines titles, tests;
  float *logits; /* [titles] */
  char *seen;    /* [titles], by the person of whom the logits are */
} library;

typedef struct history {
  int count, items[LENGTH]; /* the last ones */
  int target;               /* the movie that came next */
} history;

typedef struct choice {
  int best[BEST];
  float weights[LAYERS][HEADS][LENGTH * LENGTH]; /* [count][count] each */
} choice;

/* ---- Histories ---- */

static int parse_item(const library *from, int n, char **at) {
  char *begin = *at;
  long item = strtol(begin, at, 10);
  if (*at == begin || item < 1 || item >= from->titles.count) {
    model_fail_line(&from->tests, n, "has a number that is no movie's");
  }
  return (int)item;
}

/* Line n: "movie movie ... movie\tmovie", the first seen first. */
static void read_history(library *from, int n, history *read) {
  char *at = from->tests.at[n];
  memset(from->seen, 0, (size_t)from->titles.count);
  for (read->count = 0; *at && *at != '\t';) {
    int item = parse_item(from, n, &at);
    from->seen[item] = 1;
    if (read->count == LENGTH) {
      memmove(read->items, read->items + 1, (LENGTH - 1) * sizeof *read->items);
      --read->count;
    }
    read->items[read->count++] = item;
  }
  if (*at != '\t' || !read->count) {
    model_fail_line(&from->tests, n, "is no history, a tab and the next movie");
  }
  read->target = parse_item(from, n, &at);
  if (*at) model_fail_line(&from->tests, n, "goes on behind the next movie");
}

/* ---- The model ---- */

static void normalise(const model *m, const char *name, float *x, int count, float *out) {
  char full[80];
  snprintf(full, sizeof full, "%s.gain", name);
  fovea_normalise_args args = {.struct_size = sizeof args,
                               .kind = FOVEA_NORMALISE_LAYER,
                               .eps = 1e-6f,
                               .gain = model_floats(m, full, 1, WIDTH)};
  args.x = fovea_contiguous(x, FOVEA_F32, 1, count, 1, WIDTH);
  args.out = fovea_contiguous(out, FOVEA_F32, 1, count, 1, WIDTH);
  if (fovea_normalise(m->handle, &args, NULL) != FOVEA_OK) {
    model_fail("layers", fovea_layers_error_detail());
  }
}

static fovea_linear part_of(const model *m, int layer, const char *part, uint32_t activation) {
  char name[40];
  snprintf(name, sizeof name, "layer%d.%s", layer, part);
  return model_linear(m, name, WIDTH, WIDTH, activation);
}

/* x = queries + attention, where queries are x normed. The weights go to [head][row][key]. */
static void attend(model *m, int layer, float *x, int count, float *weights) {
  float queries[LENGTH * WIDTH];
  char name[40];
  snprintf(name, sizeof name, "layer%d.norm", layer);
  normalise(m, name, x, count, queries);
  fovea_source source = {.x_k = fovea_contiguous(x, FOVEA_F32, 1, count, 1, WIDTH),
                         .k_proj = part_of(m, layer, "key", FOVEA_ACTIVATION_NONE),
                         .v_proj = part_of(m, layer, "value", FOVEA_ACTIVATION_NONE),
                         .visibility.causal = 1};
  fovea_multihead_args args = {.struct_size = sizeof args,
                               .heads_q = HEADS,
                               .heads_kv = HEADS,
                               .dim = WIDTH / HEADS,
                               .dim_v = WIDTH / HEADS,
                               .source_count = 1,
                               .sources = &source,
                               .q_proj = part_of(m, layer, "query", FOVEA_ACTIVATION_NONE),
                               .out_proj = part_of(m, layer, "output", FOVEA_ACTIVATION_NONE)};
  float answer[LENGTH * WIDTH];
  args.x = args.residual = fovea_contiguous(queries, FOVEA_F32, 1, count, 1, WIDTH);
  args.out = fovea_contiguous(answer, FOVEA_F32, 1, count, 1, WIDTH);
  args.weights = fovea_contiguous(weights, FOVEA_F32, 1, count, HEADS, count);
  args.weights.stride[1] = count;
  args.weights.stride[2] = (int64_t)count * count;
  model_attend(m, args);
  memcpy(x, answer, (size_t)count * WIDTH * sizeof *x);
}

static void mix(model *m, int layer, float *x, int count) {
  float normed[LENGTH * WIDTH], inner[LENGTH * WIDTH];
  char name[40];
  snprintf(name, sizeof name, "layer%d.mix_norm", layer);
  normalise(m, name, x, count, normed);
  model_apply(m, part_of(m, layer, "mix_in", FOVEA_ACTIVATION_RELU), normed, count, NULL, inner);
  model_apply(m, part_of(m, layer, "mix_out", FOVEA_ACTIVATION_NONE), inner, count, normed, x);
}

/* The logits of all movies, and the best ten that the person has not seen, the best first. */
static void recommend(library *from, const history *read, choice *made) {
  model *m = &from->network;
  const int movies = from->titles.count, count = read->count;
  const float *vectors = model_floats(m, "movies.weight", movies, WIDTH);
  const float *places = model_floats(m, "position", LENGTH, WIDTH) + (LENGTH - count) * WIDTH;
  float x[LENGTH * WIDTH], last[WIDTH];
  for (int i = 0; i < count * WIDTH; ++i) {
    x[i] = vectors[read->items[i / WIDTH] * WIDTH + i % WIDTH] + places[i];
  }
  for (int layer = 0; layer < LAYERS; ++layer) {
    attend(m, layer, x, count, made->weights[layer][0]);
    mix(m, layer, x, count);
  }
  normalise(m, "norm", x + (count - 1) * WIDTH, 1, last);
  model_apply(m, model_linear(m, "movies", movies, WIDTH, FOVEA_ACTIVATION_NONE), last, 1, NULL,
              from->logits);
  int found = 0;
  for (int n = 1; n < movies; ++n) {
    int at = found;
    if (from->seen[n]) continue;
    while (at > 0 && from->logits[n] > from->logits[made->best[at - 1]]) --at;
    if (at == BEST) continue;
    found += found < BEST;
    memmove(made->best + at + 1, made->best + at, (size_t)(found - 1 - at) * sizeof *made->best);
    made->best[at] = n;
  }
  if (found < BEST) model_fail(from->titles.path, "has no ten movies that the person has not seen");
}

/* How many unseen movies have a larger logit than the one that came next. */
static int rank_of(const library *from, int target) {
  int above = 0;
  for (int n = 1; n < from->titles.count; ++n) {
    above += !from->seen[n] && from->logits[n] > from->logits[target];
  }
  return above;
}

static void judge_all(library *from) {
  static choice made;
  history read;
  int hits = 0;
  for (int n = 0; n < from->tests.count; ++n) {
    read_history(from, n, &read);
    recommend(from, &read, &made);
    hits += rank_of(from, read.target) < BEST;
  }
  printf("%d people: HR@10 %.3f, the share whose next movie is among the first ten\n\n",
         from->tests.count, (double)hits / from->tests.count);
}

/* ---- Output ---- */

/* What the last movie of the history is made of, over both layers: shares [count]. */
static void roll_out(model *m, choice *made, int count, float *shares) {
  float rows[LENGTH * LENGTH];
  fovea_tensor weights[LAYERS];
  size_t bytes;
  for (int layer = 0; layer < LAYERS; ++layer) {
    weights[layer] = fovea_contiguous(made->weights[layer][0], FOVEA_F32, 1, count, HEADS, count);
    weights[layer].stride[1] = count;
    weights[layer].stride[2] = (int64_t)count * count;
  }
  fovea_rollout_args args = {.struct_size = sizeof args,
                             .count = LAYERS,
                             .residual = 0.5f,
                             .weights = weights,
                             .out = fovea_contiguous(rows, FOVEA_F32, 1, count, 1, count)};
  model_need(m, FOVEA_OK, 0);
  fovea_status status = fovea_rollout_workspace(m->handle, &args, &bytes);
  model_need(m, status, bytes);
  args.workspace = m->workspace;
  args.workspace_bytes = m->workspace_bytes;
  model_need(m, fovea_rollout(m->handle, &args, NULL), 0);
  memcpy(shares, rows + (count - 1) * count, (size_t)count * sizeof *shares);
}

static void draw(library *from, const history *read, choice *made) {
  float shares[LENGTH], most = 0;
  int first = read->count > SHOWN ? read->count - SHOWN : 0;
  roll_out(&from->network, made, read->count, shares);
  for (int i = first; i < read->count; ++i) most = shares[i] > most ? shares[i] : most;
  printf("seen at last, and their shares in what comes next:\n\n");
  for (int i = first; i < read->count; ++i) {
    printf("  %4.1f %%  ", 100 * (double)shares[i]);
    model_print_shaded(from->titles.at[read->items[i]], shares[i] / most, isatty(STDOUT_FILENO));
    printf("\n");
  }
  printf("\nrecommended:\n\n");
  for (int i = 0; i < BEST; ++i) {
    printf("  %2d  %s%s\n", i + 1, from->titles.at[made->best[i]],
           made->best[i] == read->target ? "   <- this came next" : "");
  }
  printf("\nnext came %s, number %d of the movies not seen\n", from->titles.at[read->target],
         rank_of(from, read->target) + 1);
}

/* What the last movie looked at, by layer and head: [LAYERS * HEADS][count]. */
static void last_rows(const choice *made, int count, float *rows) {
  for (int n = 0; n < LAYERS * HEADS; ++n) {
    const float *weights = made->weights[n / HEADS][0] + n % HEADS * count * count;
    memcpy(rows + n * count, weights + (count - 1) * count, (size_t)count * sizeof *rows);
  }
}

static void write_map(const char *path, library *from, const history *read, choice *made) {
  static const char *const names[LAYERS * HEADS + 1] = {
      "layer 0, head 0", "layer 0, head 1", "layer 1, head 0", "layer 1, head 1", "rollout"};
  float all[(LAYERS * HEADS + 1) * LENGTH], rows[(LAYERS * HEADS + 1) * LENGTH];
  const char *titles[LENGTH];
  char title[160];
  int shown = read->count < SHOWN ? read->count : SHOWN, first = read->count - shown;
  last_rows(made, read->count, all);
  roll_out(&from->network, made, read->count, all + LAYERS * HEADS * read->count);
  for (int n = 0; n <= LAYERS * HEADS; ++n) {
    memcpy(rows + n * shown, all + n * read->count + first, (size_t)shown * sizeof *rows);
  }
  for (int i = 0; i < shown; ++i) titles[i] = from->titles.at[read->items[first + i]];
  snprintf(title, sizeof title, "why %s?", from->titles.at[made->best[0]]);
  model_picture picture = {.title = title,
                           .row_axis = "layer",
                           .key_axis = "movie",
                           .heads = 1,
                           .rows = LAYERS * HEADS + 1,
                           .keys = shown,
                           .weights = rows,
                           .row_names = names,
                           .key_names = titles};
  model_write_picture(path, &picture);
}

static void print_numbers(const library *from, const history *read, const choice *made, int n) {
  float rows[LAYERS * HEADS * LENGTH], logits[BEST];
  for (int i = 0; i < BEST; ++i) logits[i] = from->logits[made->best[i]];
  last_rows(made, read->count, rows);
  model_print_integers("input", &n, 1);
  model_print_integers("best", made->best, BEST);
  model_print_table("logits", logits, 1, BEST);
  model_print_table("weights", rows, LAYERS * HEADS, read->count);
}

static const char help[] =
    "usage: movies [N | --map FILE.safetensors [N] | --numbers N]\n\n"
    "Recommends ten movies to person N of the test, and says which movies of the history decided.\n"
    "Without one it ranks the next movie of every person first and shows number 0. --map writes\n"
    "the weights that `fovea map` draws. --numbers prints the movies, logits and weights.\n\n"
    "Its data may not be passed on. In the root of the tree, examples/models/movies.py fetches\n"
    "them, trains, and writes what this reads there, into build-models.\n";

int main(int argc, char **argv) {
  model_arguments given = model_read_arguments(argc, argv, help);
  static choice made;
  history read;
  library from = {.network = model_open("build-models/movies.weights"),
                  .titles = model_read_lines("build-models/movies.titles.txt"),
                  .tests = model_read_lines("build-models/movies.test.txt")};
  int n = given.what ? model_number(given.what, from.tests.count) : 0;
  from.logits = model_allocate((size_t)from.titles.count * sizeof *from.logits);
  from.seen = model_allocate((size_t)from.titles.count);
  if (argc == 1) judge_all(&from);
  read_history(&from, n, &read);
  recommend(&from, &read, &made);
  if (given.map) write_map(given.map, &from, &read, &made);
  if (given.numbers) {
    print_numbers(&from, &read, &made, n);
  } else {
    draw(&from, &read, &made);
  }
  free(from.logits);
  free(from.seen);
  model_free_lines(&from.titles);
  model_free_lines(&from.tests);
  model_close(&from.network);
  return 0;
}
