/* The header as its users meet it: first in the file, alone, and twice by accident. */
#include <fovea.h>

#include <fovea.h>

int header_alone(void);
int header_alone(void) {
  return FOVEA_OK;
}
