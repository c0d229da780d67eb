// SPDX-License-Identifier: MIT
// What a conversion writes: a list of tensors, each made of parts, and how they get to the disk.
#ifndef FM_CONVERT_OUTPUT_H
#define FM_CONVERT_OUTPUT_H

#include "base/arena.h"
#include "format/gguf_write.h"
#include "fulmen/convert.h"

#define FM_PARTS_MAX 5

// Where an element of a part comes from. Rows and columns are those of the output.
enum fm_move {
    FM_MOVE_NONE,      // element by element, whatever the source's shape
    FM_MOVE_PERMUTE,   // rows: halves of each head to pairs, as RoPE of GGUF's llama wants them (NORM)
    FM_MOVE_UNPERMUTE, // the way back (NEOX)
    FM_MOVE_TRANSPOSE, // the source is [columns, rows]
};

struct fm_part;
// Element `index` of a part that has no source.
typedef double fm_make_fn(const struct fm_part *part, uint64_t index);

struct fm_part {
    const struct fm_tensor *source; // NULL: make
    enum fm_move move;
    uint32_t heads;   // of PERMUTE and UNPERMUTE
    bool neg_exp;     // every value x becomes -exp(x)
    uint64_t rows;    // rows of the output that it gives
    fm_make_fn *make;
    double scale;       // for make
    uint64_t key;       // for make: of the random numbers
    const float *values; // for make
};

struct fm_output {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[FM_TENSOR_DIMS];
    uint64_t rows, cols; // as it is worked on: a vector is one row, or rows of one when its elements move
    enum fm_type type;
    uint32_t n_parts;
    struct fm_part parts[FM_PARTS_MAX];
};

// One conversion.
struct fm_conv {
    struct fm_gguf_writer *writer;
    struct fm_arena arena; // names
    struct fm_output *outputs;
    size_t output_count, output_cap;
    enum fm_type want; // of matrices; FM_TYPE_NONE = as they are stored
    fm_progress_fn *progress;
    void *user;
    // FM_CHANGED when `from`, where the sources lie, was changed since it was opened. NULL: there are none.
    enum fm_result (*unchanged)(const void *from);
    const void *from;
};

// Parameters NULL = defaults. FM_ARG lists the known types.
enum fm_result fm_conv_init(struct fm_conv *conv, const struct fm_convert_params *params);
void fm_conv_finish(struct fm_conv *conv);

// Append a tensor. `name` is copied; sources must live until fm_conv_write. The parts' rows must add up.
enum fm_result fm_conv_add(struct fm_conv *conv, const char *name, uint32_t n_dims, const uint64_t *dims,
                           const struct fm_part *parts, uint32_t n_parts);
// stream.c: choose types, put general.file_type and the tensors, stream the data to `path`. FM_UNSUPPORTED names the first weight
// that is no finite number, or would be none in its new type. When `check`, the file is read as a model before it gets its name.
enum fm_result fm_conv_write(struct fm_conv *conv, const char *path, bool check);

// types.c: the type of a name, in letters of any case. FM_ARG lists the known ones, and says which is near.
enum fm_result fm_conv_type(const char *name, enum fm_type *out_type);
// types.c: the type of every output by conv->want, and the keys that say so.
enum fm_result fm_conv_types(struct fm_conv *conv);
// verify.c: can `bytes`, which will be `path`, be read as a model of an architecture that fulmen knows?
enum fm_result fm_conv_verify(const char *temp_path, const char *path);

#endif
