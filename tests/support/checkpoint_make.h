// SPDX-License-Identifier: MIT
// Builds checkpoints in memory: safetensors files, zip archives, pickles of state dicts; valid ones, and parts of which
// broken ones are made. Test code: running out of memory ends the program.
#ifndef FM_TESTS_CHECKPOINT_MAKE_H
#define FM_TESTS_CHECKPOINT_MAKE_H

#include "support/gguf_write.h"

// ---- safetensors: 8 bytes of length, the header's text, the data. Release with gguf_bytes_finish.
struct gguf_bytes safetensors_make(const char *header, const void *data, size_t data_bytes);

// The same from tensors, the header written for them.
struct safetensors_writer {
    struct gguf_bytes header, data;
};
// dtype as in the file ("BF16").
void safetensors_put(struct safetensors_writer *w, const char *name, const char *dtype, uint32_t n_dims,
                     const uint64_t *dims, const void *data, size_t data_bytes);
struct gguf_bytes safetensors_finish(struct safetensors_writer *w); // all-zero again afterwards

// ---- zip archives
struct zip_writer {
    bool is_zip64;   // sizes and places in extra fields only, as in archives of more than 4 GiB
    uint16_t method; // 0 = stored; the bytes are what they are whatever it says
    uint16_t flags;  // 1 = encrypted
    uint16_t count;
    struct gguf_bytes entries, directory;
};
void zip_put(struct zip_writer *w, const char *name, const void *data, size_t data_bytes);
struct gguf_bytes zip_finish(struct zip_writer *w); // all-zero again afterwards

// ---- pickles of state dicts, protocol 2
void pickle_begin(struct gguf_bytes *p);                  // an OrderedDict and a mark
void pickle_text(struct gguf_bytes *p, const char *text); // BINUNICODE
void pickle_int(struct gguf_bytes *p, int64_t value);     // LONG1 of 8 bytes
void pickle_global(struct gguf_bytes *p, const char *module, const char *name);
struct pickle_tensor {
    const char *storage, *key; // "FloatStorage", "0"
    int64_t storage_elems, offset;
    uint32_t n_dims;
    int64_t dims[8], strides[8]; // all strides 0: contiguous
};
void pickle_tensor(struct gguf_bytes *p, const struct pickle_tensor *tensor); // rebuilt, without a name
void pickle_entry(struct gguf_bytes *p, const char *name, const char *storage, const char *key, int64_t elems); // 1-D
void pickle_end(struct gguf_bytes *p);                    // entries into the dict, and stop

// An archive of `pickle`, with storages "0", "1", ... of the bytes given, in a folder "archive". Releases the pickle.
struct gguf_bytes torch_make(struct gguf_bytes *pickle, const size_t *storage_bytes, size_t count);

#endif
