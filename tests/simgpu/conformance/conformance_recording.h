// Recorded outputs: DIR/sm_80.txt and DIR/sm_90.txt. They are text, so that a diff shows what
// differs: a line "name outputs", then the words in hexadecimal, eight to a line.
#ifndef FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_RECORDING_H
#define FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_RECORDING_H

#include <stdio.h>

#include "tests/simgpu/conformance/conformance.h"

enum { CONFORM_WORDS_MAX = CONFORM_CTAS * CONFORM_OUTPUTS_MAX * CONFORM_LANES };

// The number of words that a row writes.
size_t conform_words(const struct conform_row *row);
// NULL if the file can't be opened; if it was to be written, after a line on stderr.
FILE *conform_open_recording(const char *folder, int sm, const char *mode);
void conform_write(FILE *file, const struct conform_row *row, const uint32_t *outputs);
// Finds the row anywhere in the file. False if it is missing or incomplete.
bool conform_read(FILE *file, const struct conform_row *row, uint32_t *outputs);

#endif  // FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_RECORDING_H
