/* label.c: makes texts from files safe to show.
 *
 * A token is whatever a file says. In a terminal an escape sequence could retitle the window, move
 * the cursor over earlier output, or worse. In an SVG a control character makes the file
 * unreadable. So every code point passes through `shown`. Controls become "^[" and the like, as in
 * cat -v: few fonts have pictures of them. Invisible characters that reorder or join their
 * neighbours become U+FFFD, and so do bytes that are not UTF-8. Widths follow UAX #11 in coarse
 * blocks and no locale. Terminals disagree on emoji with variation selectors, so the selector is
 * dropped. */
#include "cli/heatmap/label.h"

#include <stdio.h>
#include <string.h>

enum {
  REPLACEMENT = 0xFFFD,
  ELLIPSIS = 0x2026,
  OPEN_BOX = 0x2423,     /* shown for a token of spaces alone */
  DOTTED_CIRCLE = 0x25CC /* carries a combining mark that has no base */
};
/* Zero-width marks kept per character; stacks of hundreds would smear over other lines. */
enum { MARKS_PER_GLYPH = 2 };
/* A token of a megabyte of invisible marks must not cost a megabyte's time at each of its places.
 */
enum { SCANNED_MAX = 4 * FV_HEATMAP_LABEL_BYTES };

typedef struct range {
  uint32_t first, last;
} range;

static const range combining[] = {
    {0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x05BF, 0x05BF}, {0x05C1, 0x05C2},
    {0x05C4, 0x05C5}, {0x05C7, 0x05C7}, {0x0610, 0x061A}, {0x064B, 0x065F}, {0x0670, 0x0670},
    {0x06D6, 0x06DC}, {0x06DF, 0x06E4}, {0x06E7, 0x06E8}, {0x06EA, 0x06ED}, {0x0711, 0x0711},
    {0x0730, 0x074A}, {0x0900, 0x0902}, {0x093A, 0x093A}, {0x093C, 0x093C}, {0x0941, 0x0948},
    {0x094D, 0x094D}, {0x0951, 0x0957}, {0x0962, 0x0963}, {0x0981, 0x0981}, {0x09BC, 0x09BC},
    {0x09C1, 0x09C4}, {0x09CD, 0x09CD}, {0x0E31, 0x0E31}, {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E},
    {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x20D0, 0x20FF}, {0x302A, 0x302F}, {0x3099, 0x309A},
    {0xFE20, 0xFE2F},
};

static const range wide[] = {
    {0x1100, 0x115F},   {0x231A, 0x231B},   {0x23E9, 0x23EC},   {0x2E80, 0x303E},
    {0x3041, 0x33FF},   {0x3400, 0x4DBF},   {0x4E00, 0xA4CF},   {0xA960, 0xA97F},
    {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF01, 0xFF60},
    {0xFFE0, 0xFFE6},   {0x16FE0, 0x18DFF}, {0x1AFF0, 0x1B2FF}, {0x1F200, 0x1F265},
    {0x1F300, 0x1F320}, {0x1F32D, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF},
    {0x1FA70, 0x1FAFF}, {0x20000, 0x3FFFD},
};

/* Characters without a shape that change the order or joining of their neighbours. */
static const range invisible[] = {
    {0x00AD, 0x00AD}, {0x034F, 0x034F}, {0x061C, 0x061C}, {0x115F, 0x1160},   {0x17B4, 0x17B5},
    {0x180B, 0x180F}, {0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},   {0x3164, 0x3164},
    {0xFEFF, 0xFEFF}, {0xFFA0, 0xFFA0}, {0xFFF0, 0xFFFC}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
};

/* Ranges are sorted; nearly all text lies before the first range of each table. */
static bool within(uint32_t code_point, const range *ranges, size_t count) {
  if (code_point < ranges[0].first) return false;
  for (size_t i = 0; i < count; i++) {
    if (code_point >= ranges[i].first && code_point <= ranges[i].last) return true;
  }
  return false;
}
#define WITHIN(code_point, ranges) within(code_point, ranges, sizeof(ranges) / sizeof *(ranges))

uint32_t fv_heatmap_label_decode(const char **text) {
  const unsigned char *bytes = (const unsigned char *)*text;
  if (bytes[0] == 0) return 0;
  /* The smallest code point that a sequence of that many continuation bytes may encode. Smaller
   * ones have shorter forms, and an overlong "\xC0\x9B" must not pass for an escape. */
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  size_t more = bytes[0] < 0x80   ? 0
                : bytes[0] < 0xC0 ? 4
                : bytes[0] < 0xE0 ? 1
                : bytes[0] < 0xF0 ? 2
                : bytes[0] < 0xF8 ? 3
                                  : 4;
  *text += 1;
  if (more == 0) return bytes[0];
  if (more == 4) return REPLACEMENT;
  uint32_t code_point = bytes[0] & (0x3Fu >> more);
  for (size_t i = 1; i <= more; i++) {
    if ((bytes[i] & 0xC0) != 0x80) return REPLACEMENT; /* the terminating zero ends up here too */
    code_point = code_point << 6 | (bytes[i] & 0x3F);
  }
  bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  if (code_point < least[more] || code_point > 0x10FFFF || surrogate) return REPLACEMENT;
  *text += more;
  return code_point;
}

static size_t encode(uint32_t code_point, char bytes[4]) {
  if (code_point < 0x80) {
    bytes[0] = (char)code_point;
    return 1;
  }
  size_t more = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
  for (size_t i = more; i > 0; i--) {
    bytes[i] = (char)(0x80 | (code_point & 0x3F));
    code_point >>= 6;
  }
  bytes[0] = (char)(lead[more] | code_point);
  return more + 1;
}

size_t fv_heatmap_label_columns(uint32_t code_point) {
  if (WITHIN(code_point, combining)) return 0;
  return WITHIN(code_point, wide) ? 2 : 1;
}

/* The replacement for a code point that is no C0 control; 0: nothing replaces it. */
static uint32_t shown(uint32_t code_point, bool ascii) {
  bool selector = code_point >= 0xFE00 && code_point <= 0xFE0F;
  if (selector || (ascii && WITHIN(code_point, combining))) return 0;
  if (ascii) return code_point >= 0x20 && code_point < 0x7F ? code_point : '?';
  bool c1 = code_point >= 0x80 && code_point < 0xA0;
  bool nothing = (code_point & 0xFFFE) == 0xFFFE || WITHIN(code_point, invisible);
  return c1 || nothing ? (uint32_t)REPLACEMENT : code_point;
}

static void append(fv_heatmap_label *label, size_t *used, uint32_t code_point) {
  char bytes[4];
  size_t count = encode(code_point, bytes);
  memcpy(label->text + *used, bytes, count);
  *used += count;
  label->text[*used] = 0;
  label->columns += fv_heatmap_label_columns(code_point);
}

/* Appends one visible character or mark. False if the columns or the buffer end before it. */
static bool append_shown(fv_heatmap_label *label, size_t *used, size_t *marks, uint32_t code_point,
                         size_t max_columns) {
  const size_t room = FV_HEATMAP_LABEL_BYTES - 8; /* one character and the ellipsis still fit */
  size_t columns = fv_heatmap_label_columns(code_point);
  *marks = columns == 0 ? *marks + 1 : 0;
  if (*marks > MARKS_PER_GLYPH) return true;
  if (columns == 0 && *used == 0) append(label, used, DOTTED_CIRCLE);
  if (label->columns + columns > max_columns || *used > room) return false;
  append(label, used, code_point);
  return true;
}

/* Appends until the text, the columns or the buffer end. True if all of it was shown. */
static bool append_text(fv_heatmap_label *label, const char *text, size_t max_columns, bool ascii) {
  size_t used = 0, marks = 0;
  for (size_t scanned = 0; scanned < SCANNED_MAX; scanned++) {
    uint32_t code_point = fv_heatmap_label_decode(&text);
    if (code_point == 0) return true;
    bool control = code_point < 0x20 || code_point == 0x7F;
    if (control && !append_shown(label, &used, &marks, '^', max_columns)) return false;
    code_point = control ? code_point ^ 0x40 : shown(code_point, ascii);
    if (code_point == 0) continue;
    if (!append_shown(label, &used, &marks, code_point, max_columns)) return false;
  }
  return false;
}

/* Removes characters from the end until an ellipsis fits, and appends it. */
static void cut(fv_heatmap_label *label, size_t max_columns, bool ascii) {
  size_t used = strlen(label->text);
  while (used > 0 && label->columns + 1 > max_columns) {
    size_t start = used - 1;
    while (start > 0 && ((unsigned char)label->text[start] & 0xC0) == 0x80) start--;
    const char *last = label->text + start;
    label->columns -= fv_heatmap_label_columns(fv_heatmap_label_decode(&last));
    used = start;
    label->text[used] = 0;
  }
  append(label, &used, ascii ? '~' : ELLIPSIS);
}

void fv_heatmap_label_clean(fv_heatmap_label *label, const char *text, size_t index,
                            size_t max_columns, bool ascii) {
  char number[24];
  if (text == NULL) {
    snprintf(number, sizeof number, "%zu", index);
    text = number;
  }
  label->text[0] = 0;
  label->columns = 0;
  if (!append_text(label, text, max_columns, ascii)) {
    cut(label, max_columns, ascii);
  } else if (label->columns > 0 && strspn(label->text, " ") == strlen(label->text)) {
    size_t used = 0;
    label->columns = 0;
    append(label, &used, ascii ? '_' : OPEN_BOX);
  }
}

size_t fv_heatmap_label_glyph(const fv_heatmap_label *label, size_t nth, char glyph[16]) {
  const char *at = label->text, *start = at;
  size_t count = 0, columns = 0, bytes = 0;
  uint32_t code_point;
  while ((code_point = fv_heatmap_label_decode(&at)) != 0) {
    size_t width = fv_heatmap_label_columns(code_point);
    if (width > 0) count++;
    if (count > nth + 1) break;
    size_t length = (size_t)(at - start);
    /* A character and its two marks take at most 12 bytes. */
    if (count == nth + 1 && bytes + length < 16) {
      memcpy(glyph + bytes, start, length);
      bytes += length;
      columns += width;
    }
    start = at;
  }
  glyph[bytes] = 0;
  return columns;
}

size_t fv_heatmap_label_step(double pitch, double need) {
  static const size_t digits[] = {1, 2, 5};
  size_t step = 1;
  /* No map has more than 1e9 entries: the loop ends even for a pitch of 0. */
  for (size_t power = 1; power <= 1000000000; power *= 10) {
    for (int i = 0; i < 3; i++) {
      step = digits[i] * power;
      if ((double)step * pitch >= need) return step;
    }
  }
  return step;
}
