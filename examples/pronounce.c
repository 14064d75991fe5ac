/* pronounce.c - a word is spoken letter by letter: Bahdanau's attention, as in translation.
 *
 *   letters become vectors; two GRUs read them, one in each direction
 *   a third GRU speaks: before each phoneme its state asks the letters' states, by the additive
 *   score, where to look; the mean that comes back helps to choose the phoneme
 *
 * The letters' keys are projected once, when the word has been read. It judges the 3000 test words,
 * and draws letters x phonemes for one of them, or for your own. The weights and the formulas are
 * those of examples/models. */
#include <fovea_layers.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/model.h"

enum {
  LETTERS_MAX = 18,
  PHONEMES_MAX = 24,
  WIDTH = 64,   /* of vectors of letters and phonemes */
  HIDDEN = 128, /* of each GRU */
  STATE = 2 * HIDDEN,
  UNITS = 128,
  SYMBOLS_MAX = 64 /* names of phonemes */
};

typedef struct speech {
  int letters[LETTERS_MAX], letter_count;
  int phonemes[PHONEMES_MAX], phoneme_count; /* with the end, 0, if it was reached */
  float logits[PHONEMES_MAX * SYMBOLS_MAX];  /* rows of as many as phonemes have names */
  float weights[PHONEMES_MAX * LETTERS_MAX]; /* rows of letter_count */
} speech;

typedef struct names {
  model_lines letters, phonemes;
} names;

/* ---- Reading ---- */

/* False: the word has a letter that is none, or too many, or too few. */
static int spell(const names *known, const char *word, speech *s) {
  s->letter_count = 0;
  for (; *word; ++word) {
    int found = -1;
    for (int n = 0; n < known->letters.count; ++n) {
      if (known->letters.at[n][0] == *word) found = n;
    }
    if (found < 0 || s->letter_count == LETTERS_MAX) return 0;
    s->letters[s->letter_count++] = found;
  }
  return s->letter_count >= 2;
}

typedef struct memory {
  float states[LETTERS_MAX][STATE], keys[LETTERS_MAX][UNITS];
  float last[HIDDEN]; /* of the GRU that reads backwards */
} memory;

static void read_letters(model *m, const names *known, const speech *s, memory *read) {
  float x[LETTERS_MAX][WIDTH], ahead[HIDDEN] = {0};
  fovea_tensor table = model_find(m, "letters.weight", known->letters.count, WIDTH);
  fovea_recurrent_args forward = model_gru(m, "reader.forward", WIDTH, HIDDEN);
  fovea_recurrent_args backward = model_gru(m, "reader.backward", WIDTH, HIDDEN);
  backward.reverse = 1;
  for (int i = 0; i < s->letter_count; ++i) model_look_up(m, table, s->letters[i], x[i]);
  memset(read->last, 0, sizeof read->last);
  model_run_gru(m, forward, x[0], s->letter_count, read->states[0], STATE, ahead);
  model_run_gru(m, backward, x[0], s->letter_count, read->states[0] + HIDDEN, STATE, read->last);
  model_apply(m, model_linear(m, "attention.key", UNITS, STATE, FOVEA_ACTIVATION_NONE),
              read->states[0], s->letter_count, NULL, read->keys[0]);
}

/* ---- Speaking ---- */

/* The context of a state: the mean of the letters' states under the weights. */
static void look(model *m, memory *read, const speech *s, float state[HIDDEN], float context[STATE],
                 float *weights) {
  int64_t letters = s->letter_count;
  fovea_source source = {.k = fovea_contiguous(read->keys, FOVEA_F32, 1, letters, 1, UNITS),
                         .v = fovea_contiguous(read->states, FOVEA_F32, 1, letters, 1, STATE)};
  fovea_multihead_args args = {
      .struct_size = sizeof args,
      .heads_q = 1,
      .heads_kv = 1,
      .dim = UNITS,
      .dim_v = STATE,
      .source_count = 1,
      .sources = &source,
      .q_proj = model_linear(m, "attention.query", UNITS, HIDDEN, FOVEA_ACTIVATION_NONE)};
  args.additive.vector = model_floats(m, "attention.vector", 1, UNITS);
  args.x = fovea_contiguous(state, FOVEA_F32, 1, 1, 1, HIDDEN);
  args.out = fovea_contiguous(context, FOVEA_F32, 1, 1, 1, STATE);
  args.weights = fovea_contiguous(weights, FOVEA_F32, 1, 1, 1, letters);
  model_attend(m, args);
}

static int largest(const float *values, int count) {
  int best = 0;
  for (int n = 1; n < count; ++n) best = values[n] > values[best] ? n : best;
  return best;
}

static void speak(model *m, const names *known, speech *s) {
  static memory read;
  float joined[HIDDEN + STATE], input[WIDTH + STATE], state[HIDDEN];
  const int symbols = known->phonemes.count; /* SYMBOLS_MAX at most */
  fovea_tensor table = model_find(m, "phonemes.weight", symbols, WIDTH);
  fovea_recurrent_args speaker = model_gru(m, "speaker", WIDTH + STATE, HIDDEN);
  fovea_linear output = model_linear(m, "output", symbols, HIDDEN + STATE, FOVEA_ACTIVATION_NONE);
  int phoneme = 0;
  read_letters(m, known, s, &read);
  model_apply(m, model_linear(m, "start", HIDDEN, HIDDEN, FOVEA_ACTIVATION_TANH), read.last, 1,
              NULL, state);
  for (s->phoneme_count = 0; s->phoneme_count < PHONEMES_MAX;) {
    int step = s->phoneme_count++;
    float *context = input + WIDTH, *logits = s->logits + step * symbols;
    look(m, &read, s, state, context, s->weights + step * s->letter_count);
    model_look_up(m, table, phoneme, input);
    model_run_gru(m, speaker, input, 1, NULL, 0, state);
    memcpy(joined, state, sizeof state);
    memcpy(joined + HIDDEN, context, STATE * sizeof *context);
    model_apply(m, output, joined, 1, NULL, logits);
    phoneme = largest(logits, symbols);
    s->phonemes[step] = phoneme;
    if (!phoneme) return;
  }
}

/* ---- Judging ---- */

static int spoken(const speech *s) {
  return s->phoneme_count - (s->phonemes[s->phoneme_count - 1] == 0);
}

/* The number of the phoneme whose name a text begins with; -1: there is none. */
static int phoneme_of(const names *known, const char *text, size_t length) {
  for (int n = 0; n < known->phonemes.count; ++n) {
    const char *name = known->phonemes.at[n];
    if (strlen(name) == length && !strncmp(name, text, length)) return n;
  }
  return -1;
}

/* A pronunciation of a test line, up to a tab or the end. Returns how many phonemes; 0: there are
 * none, too many or unknown ones. */
static int parse_phonemes(const names *known, const char **text, int phonemes[PHONEMES_MAX]) {
  int count = 0;
  while (**text && **text != '\t') {
    size_t length = strcspn(*text, " \t");
    int phoneme = phoneme_of(known, *text, length);
    if (phoneme < 0 || count == PHONEMES_MAX) return 0;
    phonemes[count++] = phoneme;
    *text += length;
    if (**text == ' ') ++*text;
  }
  return count;
}

/* The least number of phonemes to insert, remove or replace. */
static int edits(const int *a, int a_count, const int *b, int b_count) {
  int row[PHONEMES_MAX + 1];
  for (int j = 0; j <= b_count; ++j) row[j] = j;
  for (int i = 1; i <= a_count; ++i) {
    int before = row[0];
    row[0] = i;
    for (int j = 1; j <= b_count; ++j) {
      int replaced = before + (a[i - 1] != b[j - 1]), removed = row[j] + 1, added = row[j - 1] + 1;
      before = row[j];
      row[j] = replaced < removed ? replaced : removed;
      if (added < row[j]) row[j] = added;
    }
  }
  return row[b_count];
}

typedef struct score {
  int edits, phonemes, wrong, words;
} score;

/* Against the nearest pronunciation that the dictionary, line n, has. */
static void add_score(const names *known, const model_lines *tests, int n, const speech *s,
                      score *sum) {
  int nearest = -1, length = 0, truth[PHONEMES_MAX];
  const char *at = strchr(tests->at[n], '\t');
  if (!at) model_fail_line(tests, n, "has no tab and pronunciation behind its word");
  while (*at) {
    ++at;
    int count = parse_phonemes(known, &at, truth);
    if (!count) model_fail_line(tests, n, "has a pronunciation that is none");
    int apart = edits(s->phonemes, spoken(s), truth, count);
    if (nearest < 0 || apart < nearest) nearest = apart, length = count;
  }
  sum->edits += nearest;
  sum->phonemes += length;
  sum->wrong += nearest > 0;
  ++sum->words;
}

/* The word of line n, up to a tab. */
static void split_word(const model_lines *tests, int n, char word[LETTERS_MAX + 1]) {
  size_t length = strcspn(tests->at[n], "\t");
  if (length > LETTERS_MAX) model_fail_line(tests, n, "has too long a word");
  memcpy(word, tests->at[n], length);
  word[length] = '\0';
}

static void judge_all(model *m, const names *known, const model_lines *tests) {
  score sum = {0};
  for (int n = 0; n < tests->count; ++n) {
    char word[LETTERS_MAX + 1];
    static speech s;
    split_word(tests, n, word);
    if (!spell(known, word, &s)) model_fail_line(tests, n, "has a word that cannot be spelt");
    speak(m, known, &s);
    add_score(known, tests, n, &s, &sum);
  }
  printf("%d words: %.2f %% of phonemes wrong, %.1f %% of words\n\n", sum.words,
         100.0 * sum.edits / sum.phonemes, 100.0 * sum.wrong / sum.words);
}

/* ---- Output ---- */

static void draw(const names *known, const char *word, const speech *s) {
  printf("%s:", word);
  for (int i = 0; i < spoken(s); ++i) printf(" %s", known->phonemes.at[s->phonemes[i]]);
  printf("\n\n     ");
  for (int j = 0; j < s->letter_count; ++j) printf(" %s ", known->letters.at[s->letters[j]]);
  printf("\n");
  for (int i = 0; i < spoken(s); ++i) {
    printf("  %-3s", known->phonemes.at[s->phonemes[i]]);
    for (int j = 0; j < s->letter_count; ++j) {
      float weight = s->weights[i * s->letter_count + j];
      model_print_cell(weight >= 0.1f ? '*' : ' ', weight, isatty(STDOUT_FILENO));
    }
    printf("\n");
  }
}

static void write_map(const char *path, const names *known, const char *word, const speech *s) {
  const char *rows[PHONEMES_MAX], *keys[LETTERS_MAX];
  char title[64];
  for (int i = 0; i < spoken(s); ++i) rows[i] = known->phonemes.at[s->phonemes[i]];
  for (int j = 0; j < s->letter_count; ++j) keys[j] = known->letters.at[s->letters[j]];
  snprintf(title, sizeof title, "how \u201c%s\u201d is pronounced", word);
  model_picture picture = {.title = title,
                           .row_axis = "phoneme",
                           .key_axis = "letter",
                           .heads = 1,
                           .rows = spoken(s),
                           .keys = s->letter_count,
                           .weights = s->weights,
                           .row_names = rows,
                           .key_names = keys};
  if (!picture.rows) model_fail(word, "is pronounced as nothing: there is no picture of it");
  model_write_picture(path, &picture);
}

static void print_numbers(const names *known, const speech *s, int number) {
  model_print_integers("input", &number, 1);
  model_print_integers("letters", s->letters, s->letter_count);
  model_print_integers("phonemes", s->phonemes, s->phoneme_count);
  model_print_table("logits", s->logits, s->phoneme_count, known->phonemes.count);
  model_print_table("weights", s->weights, s->phoneme_count, s->letter_count);
}

static const char help[] =
    "usage: pronounce [WORD | --map FILE.safetensors [WORD] | --numbers N]\n\n"
    "Says how an English word is pronounced (ARPAbet), and draws which letters each phoneme "
    "looked\n"
    "at. Without a word it judges the test words first, and shows one. --map writes the weights\n"
    "that `fovea map` draws. --numbers prints the letters, phonemes, logits and weights of test\n"
    "word N. Run it where examples/models is.\n";

int main(int argc, char **argv) {
  model_arguments given = model_read_arguments(argc, argv, help);
  static speech s;
  char test[LETTERS_MAX + 1];
  model m = model_open("examples/models/pronounce.weights");
  names known = {model_read_lines("examples/models/pronounce.letters.txt"),
                 model_read_lines("examples/models/pronounce.phonemes.txt")};
  model_lines tests = model_read_lines("examples/models/pronounce.test.txt");
  if (known.phonemes.count > SYMBOLS_MAX) model_fail(known.phonemes.path, "has too many names");
  int number = given.numbers ? model_number(given.what, tests.count) : 0;
  if (argc == 1) judge_all(&m, &known, &tests);
  if (given.numbers) split_word(&tests, number, test);
  const char *word = given.numbers ? test : given.what ? given.what : "thoughtful";
  if (!spell(&known, word, &s)) model_fail(word, "must be 2 to 18 letters a to z or apostrophes");
  speak(&m, &known, &s);
  if (given.map) write_map(given.map, &known, word, &s);
  if (given.numbers) {
    print_numbers(&known, &s, number);
  } else {
    draw(&known, word, &s);
  }
  model_free_lines(&tests);
  model_free_lines(&known.letters);
  model_free_lines(&known.phonemes);
  model_close(&m);
  return 0;
}
