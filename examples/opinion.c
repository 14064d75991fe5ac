/* opinion.c - is a sentence for or against the movie, and which words say so?
 *
 *   words become vectors; two GRUs read them, one in each direction
 *   a learned query asks all states, by Bahdanau's additive score, for one mean of them
 *   a number above 0 is for the movie
 *
 * It judges the 1500 test sentences, and shades the words of one of them, or of your own. The
 * weights and the formulas are those of examples/models. */
#include <fovea_layers.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/model.h"

enum { TOKENS_MAX = 64, WORD = 64, HIDDEN = 64, STATE = 2 * HIDDEN, UNITS = 64, WORD_BYTES = 48 };

typedef struct sentence {
  int count;
  int numbers[TOKENS_MAX];
  char words[TOKENS_MAX][WORD_BYTES];
} sentence;

typedef struct opinion {
  float logit;
  float weights[TOKENS_MAX];
} opinion;

/* ---- Words ---- */

static int is_letter(char c) {
  return c >= 'a' && c <= 'z';
}

static char lower(char c) {
  return (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
}

/* The next token of a text: letters, with apostrophes between two of them, or a mark. Returns the
 * text behind it; NULL: there is none. */
static const char *next_token(const char *text, char word[WORD_BYTES]) {
  int length = 0;
  for (; *text; ++text) {
    char c = lower(*text);
    if (strchr("!?.,", c)) {
      snprintf(word, WORD_BYTES, "%c", c);
      return text + 1;
    }
    if (is_letter(c)) break;
  }
  for (; *text; ++text) {
    char c = lower(*text);
    int joins = c == '\'' && is_letter(lower(text[1]));
    if (!is_letter(c) && !joins) break;
    if (length < WORD_BYTES - 1) word[length++] = c;
  }
  word[length] = '\0';
  return length ? text : NULL;
}

static int number_of(const model_lines *vocabulary, const char *word) {
  for (int n = 1; n < vocabulary->count; ++n) {
    if (!strcmp(vocabulary->at[n], word)) return n;
  }
  return 0;
}

static sentence read_words(const model_lines *vocabulary, const char *text) {
  sentence made = {0};
  while (made.count < TOKENS_MAX && (text = next_token(text, made.words[made.count]))) {
    made.numbers[made.count] = number_of(vocabulary, made.words[made.count]);
    ++made.count;
  }
  if (!made.count) made.count = 1; /* a sentence without tokens is one unknown word */
  return made;
}

/* ---- The model ---- */

/* The table has a row for each of the `known` words. */
static void embed(model *m, int known, const sentence *words, float x[TOKENS_MAX][WORD]) {
  fovea_tensor table = model_find(m, "words.weight", known, WORD);
  for (int i = 0; i < words->count; ++i) model_look_up(m, table, words->numbers[i], x[i]);
}

static void pool(model *m, float states[TOKENS_MAX][STATE], int count, float context[STATE],
                 opinion *result) {
  fovea_source source = {
      .x_k = fovea_contiguous(states, FOVEA_F32, 1, count, 1, STATE),
      .k_proj = model_linear(m, "attention.key", UNITS, STATE, FOVEA_ACTIVATION_NONE)};
  fovea_multihead_args args = {.struct_size = sizeof args,
                               .heads_q = 1,
                               .heads_kv = 1,
                               .dim = UNITS,
                               .dim_v = STATE,
                               .source_count = 1,
                               .sources = &source};
  args.additive.vector = model_floats(m, "attention.vector", 1, UNITS);
  args.x = model_find(m, "attention.query", 1, UNITS);
  args.out = fovea_contiguous(context, FOVEA_F32, 1, 1, 1, STATE);
  args.weights = fovea_contiguous(result->weights, FOVEA_F32, 1, 1, 1, count);
  model_attend(m, args);
}

static void judge(model *m, int known, const sentence *words, opinion *result) {
  static float x[TOKENS_MAX][WORD], states[TOKENS_MAX][STATE];
  float ahead[HIDDEN] = {0}, back[HIDDEN] = {0}, context[STATE];
  fovea_recurrent_args forward = model_gru(m, "reader.forward", WORD, HIDDEN);
  fovea_recurrent_args backward = model_gru(m, "reader.backward", WORD, HIDDEN);
  backward.reverse = 1;
  embed(m, known, words, x);
  model_run_gru(m, forward, x[0], words->count, states[0], STATE, ahead);
  model_run_gru(m, backward, x[0], words->count, states[0] + HIDDEN, STATE, back);
  pool(m, states, words->count, context, result);
  model_apply(m, model_linear(m, "opinion", 1, STATE, FOVEA_ACTIVATION_NONE), context, 1, NULL,
              &result->logit);
}

/* ---- Output ---- */

/* "for the movie, by 87 %" */
static void say(const opinion *result, char *text, size_t size) {
  float chance = 1 / (1 + expf(-result->logit));
  snprintf(text, size, "%s the movie, by %.0f %%", result->logit > 0 ? "for" : "against",
           100 * (double)(result->logit > 0 ? chance : 1 - chance));
}

static void draw(const sentence *words, const opinion *result) {
  char said[64];
  float most = 0;
  for (int i = 0; i < words->count; ++i) most = fmaxf(most, result->weights[i]);
  for (int i = 0; i < words->count; ++i) {
    int mark = !is_letter(words->words[i][0]);
    if (i && !mark) printf(" ");
    model_print_shaded(words->words[i], result->weights[i] / most, isatty(STDOUT_FILENO));
  }
  say(result, said, sizeof said);
  printf("\n%s\n", said);
}

static void write_map(const char *path, const sentence *words, const opinion *result) {
  static const char *const query = "learned query";
  const char *names[TOKENS_MAX];
  char said[64];
  for (int i = 0; i < words->count; ++i) names[i] = words->words[i];
  say(result, said, sizeof said);
  model_picture picture = {.title = said,
                           .row_axis = "query",
                           .key_axis = "word",
                           .heads = 1,
                           .rows = 1,
                           .keys = words->count,
                           .weights = result->weights,
                           .row_names = &query,
                           .key_names = names};
  model_write_picture(path, &picture);
}

static void print_numbers(const sentence *words, const opinion *result, int number) {
  model_print_integers("input", &number, 1);
  model_print_integers("tokens", words->numbers, words->count);
  model_print_table("logit", &result->logit, 1, 1);
  model_print_table("weights", result->weights, 1, words->count);
}

/* Line n: "1\tsentence" is for, "0\tsentence" against. Returns the sentence. */
static const char *text_of(const model_lines *tests, int n) {
  const char *line = tests->at[n];
  if ((line[0] != '0' && line[0] != '1') || line[1] != '\t') {
    model_fail_line(tests, n, "does not begin with 0 or 1 and a tab");
  }
  return line + 2;
}

static void judge_all(model *m, const model_lines *vocabulary, const model_lines *tests) {
  int right = 0;
  for (int n = 0; n < tests->count; ++n) {
    opinion result;
    sentence words = read_words(vocabulary, text_of(tests, n));
    judge(m, vocabulary->count, &words, &result);
    right += (result.logit > 0) == (tests->at[n][0] == '1');
  }
  printf("%d of %d right: %.1f %%\n\n", right, tests->count, 100.0 * right / tests->count);
}

static const char help[] =
    "usage: opinion [SENTENCE | N | --map FILE.safetensors [SENTENCE | N] | --numbers N]\n\n"
    "Says whether a sentence is for or against a movie, and shades the words by what attention\n"
    "gives them; N: that of test sentence N. Without one it judges all test sentences first and\n"
    "shows number 0. --map writes the weights that `fovea map` draws. --numbers prints a test\n"
    "sentence's tokens, logit and weights. Run it where examples/models is.\n";

static int is_number(const char *text) {
  return *text && strspn(text, "0123456789") == strlen(text);
}

int main(int argc, char **argv) {
  model_arguments given = model_read_arguments(argc, argv, help);
  model m = model_open("examples/models/opinion.weights");
  model_lines vocabulary = model_read_lines("examples/models/opinion.words.txt");
  model_lines tests = model_read_lines("examples/models/opinion.test.txt");
  const char *what = given.what ? given.what : "0";
  int own = !given.numbers && !is_number(what);
  int number = own ? 0 : model_number(what, tests.count);
  if (argc == 1) judge_all(&m, &vocabulary, &tests);
  sentence words = read_words(&vocabulary, own ? what : text_of(&tests, number));
  opinion result;
  judge(&m, vocabulary.count, &words, &result);
  if (given.map) write_map(given.map, &words, &result);
  if (given.numbers) {
    print_numbers(&words, &result, number);
  } else {
    draw(&words, &result);
  }
  model_free_lines(&tests);
  model_free_lines(&vocabulary);
  model_close(&m);
  return 0;
}
