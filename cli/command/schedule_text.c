/* schedule_text.c - see schedule_text.h. */
#include "cli/command/schedule_text.h"

#include <inttypes.h>

static const char *const line_names[FV_LINES] = {[FV_WIDE] = "wide", [FV_NARROW] = "narrow"};

/* What a CTA does in total. */
typedef struct amount {
  double bytes, flops; /* of keys and values; of both products, hidden keys included */
} amount;

static void count(const fv_plan *plan, const fv_problem *p, int32_t rows, const fv_segment *segment,
                  amount *amount) {
  double keys = (double)(segment->end - segment->first) * plan->tile_kv;
  amount->bytes += keys * 2 * (p->dim + p->dim_v);
  amount->flops += keys * 2 * (p->dim + p->dim_v) * rows;
}

static void print_segment(FILE *to, const fv_plan *plan, const fv_problem *p,
                          const fv_schedule *line, const char *name, int64_t worker,
                          const fv_segment *segment) {
  const fv_placed_tile *tile = &line->tiles[segment->tile];
  int64_t row = tile->row_tile * (int64_t)plan->kernel->tile_q / p->group;
  int64_t key = (int64_t)(tile->key_tile + segment->first) * plan->tile_kv;
  int64_t key_end = (int64_t)(tile->key_tile + segment->end) * plan->tile_kv;
  fprintf(to, "%5" PRId64 "  %-6s %8d %9" PRId64 " %7d %10" PRId64 " %10" PRId64 "   %d of %d\n",
          worker, name, tile->sequence, row, segment->head, key, key_end, segment->part + 1,
          segment->parts);
}

/* Prints the work tiles of one CTA's share of a line. */
static void print_share(FILE *to, const fv_plan *plan, const fv_problem *p,
                        const fv_schedule_list *list, int line, int64_t worker, amount *amount) {
  const fv_schedule schedule = fv_schedule_list_line(list, line);
  int64_t share = fv_share_of_worker(line, worker, list->workers);
  fv_cursor cursor = fv_start_share(&schedule, share);
  fv_segment segment;
  while (fv_next_segment(&schedule, share, &cursor, &segment)) {
    print_segment(to, plan, p, &schedule, line_names[line], worker, &segment);
    count(plan, p, list->rows[line], &segment, amount);
  }
}

static void print_lines(FILE *to, const fv_schedule_list *list) {
  for (int line = 0; line < FV_LINES; ++line) {
    const fv_placed_line *placed = &list->lines[line];
    fprintf(to,
            "%-12s %" PRId64 " tiles of rows; %" PRId64
            " key tiles for each of %d kv heads, in %d shares\n",
            line_names[line], placed->tiles, placed->work, list->heads,
            placed->work ? placed->shares : 0);
  }
}

void fv_schedule_print(FILE *to, const fv_plan *plan, const fv_problem *problem,
                       const fv_schedule_list *list) {
  amount most = {0}, all = {0};
  print_lines(to, list);
  fprintf(to, "\n  cta  line   sequence first row kv head  first key  to before   part\n");
  for (int64_t worker = 0; worker < list->workers; ++worker) {
    amount own = {0};
    int first = fv_first_line(worker, list->workers);
    print_share(to, plan, problem, list, first, worker, &own);
    print_share(to, plan, problem, list, first == FV_WIDE ? FV_NARROW : FV_WIDE, worker, &own);
    all.bytes += own.bytes;
    all.flops += own.flops;
    if (own.bytes > most.bytes) most.bytes = own.bytes;
    if (own.flops > most.flops) most.flops = own.flops;
  }
  double workers = list->workers;
  if (all.bytes > 0) {
    fprintf(to, "\nworst CTA over mean: %.2f of bytes, %.2f of FLOPs\n",
            most.bytes * workers / all.bytes, most.flops * workers / all.flops);
  }
}
