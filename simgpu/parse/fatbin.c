/* fatbin.c - reads the container that nvcc -fatbin writes: see parse/fatbin.h. The format is not
 * published; this is what the output of CUDA 13.0 shows:
 *
 *   file header, 16 bytes: u32 magic, u16 version, u16 header size, u64 bytes that follow
 *   entries, back to back: a header of 64 to 128 bytes, its size at +4; a payload padded to 8
 *   a PTX payload: text padded with NULs, plain or compressed as one zstd frame
 *
 * Several entries may run on the device: the one for the newest architecture is taken. The image
 * stays the caller's; the text is a copy. */
#include "simgpu/parse/fatbin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum {
  FILE_MAGIC = 0xBA55ED50,
  WRAPPER_MAGIC = 0x466243B1, /* __fatBinC_Wrapper_t: the pointer to the file is at +8 */
  FILE_HEADER_BYTES = 16,
  ENTRY_HEADER_BYTES = 64,
  KIND_PTX = 1,
  FLAG_LZ4 = 0x2000,
  FLAG_ZSTD = 0x8000,
  FLAG_EXACT_ARCHITECTURE = 0x100000, /* sm_90a and the like run on that architecture alone */
};

/* The header of an entry, byte for byte. */
struct entry {
  u16 kind;
  u16 version;
  u32 header_bytes;
  u64 payload_bytes;
  u32 compressed_bytes;
  u32 options_offset;
  u16 minor, major;
  u32 architecture;
  u32 name_offset, name_bytes;
  u64 flags;
  u64 reserved;
  u64 plain_bytes;
};
_Static_assert(sizeof(struct entry) == ENTRY_HEADER_BYTES, "the layout of a fatbin entry");

static u32 load_u32(const u8 *bytes) {
  u32 value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static char *inflate(const struct entry *entry, const u8 *payload, char *error,
                     size_t error_bytes) {
  u64 plain = entry->flags & FLAG_ZSTD ? entry->plain_bytes : entry->payload_bytes;
  char *text = calloc(1, plain + 1);
  if (!text) return NULL;
  if (!(entry->flags & FLAG_ZSTD)) return memcpy(text, payload, plain);
  size_t got = ZSTD_decompress(text, plain, payload, entry->compressed_bytes);
  if (!ZSTD_isError(got)) return text;
  snprintf(error, error_bytes, "the PTX cannot be decompressed: %s", ZSTD_getErrorName(got));
  free(text);
  return NULL;
}

static bool runs_on(const struct entry *entry, u32 device_sm) {
  if (entry->kind != KIND_PTX) return false;
  if (entry->flags & FLAG_EXACT_ARCHITECTURE) return entry->architecture == device_sm;
  return entry->architecture <= device_sm;
}

static char *find_in_file(const u8 *file, u32 device_sm, char *error, size_t error_bytes) {
  u64 size;
  memcpy(&size, file + 8, sizeof size);
  const u8 *end = file + FILE_HEADER_BYTES + size;
  const u8 *best_payload = NULL;
  struct entry best = {0};
  for (const u8 *at = file + FILE_HEADER_BYTES; at + ENTRY_HEADER_BYTES <= end;) {
    struct entry entry;
    memcpy(&entry, at, sizeof entry);
    u64 step = entry.header_bytes + entry.payload_bytes;
    if (entry.header_bytes < ENTRY_HEADER_BYTES || step > (u64)(end - at)) break;
    if (runs_on(&entry, device_sm) && (!best_payload || entry.architecture >= best.architecture)) {
      best = entry;
      best_payload = at + entry.header_bytes;
    }
    at += step;
  }
  if (!best_payload) {
    snprintf(error, error_bytes, "the image holds no PTX that runs on sm_%u", device_sm);
    return NULL;
  }
  if (best.flags & FLAG_LZ4) {
    snprintf(error, error_bytes, "the PTX is compressed with LZ4: build with --compress-mode=size");
    return NULL;
  }
  return inflate(&best, best_payload, error, error_bytes);
}

char *sim_fatbin_find_ptx(const void *image, u32 device_sm, char *error, size_t error_bytes) {
  const u8 *bytes = image;
  u32 magic = load_u32(bytes);
  if (magic == WRAPPER_MAGIC) {
    memcpy(&bytes, bytes + 8, sizeof bytes);
    magic = load_u32(bytes);
  }
  if (magic == (u32)FILE_MAGIC) return find_in_file(bytes, device_sm, error, error_bytes);
  if (memcmp(bytes,
             "\x7f"
             "ELF",
             4) == 0) {
    snprintf(error, error_bytes, "the image is a cubin, which holds no PTX");
    return NULL;
  }
  char *text = strdup((const char *)bytes);
  if (text && strstr(text, ".version")) return text;
  free(text);
  snprintf(error, error_bytes, "the image is neither a fatbin nor PTX");
  return NULL;
}
