// SPDX-License-Identifier: MIT
// The list of tensors, and streaming them: a batch of rows is decoded, moved and encoded by all threads, then written.
#include "convert/output.h"

#include <math.h>
#include <stdatomic.h>

#include "base/os.h"

#define BATCH_ELEMS ((uint64_t)8 << 20)  // of f32: 32 MiB
#define FIRST_BATCH_ELEMS ((uint64_t)1 << 20)
#define CHUNK_ELEMS ((uint64_t)64 << 10) // what a thread takes at a time, at least a row
#define COPY_BYTES ((uint64_t)32 << 20)
#define BATCH_NS 100000000u // aim: the caller is asked whether to go on after each batch

enum fm_result fm_conv_init(struct fm_conv *conv, const struct fm_convert_params *params)
{
    *conv = (struct fm_conv){.want = FM_TYPE_NONE};
    if (params != NULL) {
        conv->progress = params->progress;
        conv->user = params->user;
    }
    enum fm_result r = params != NULL && params->type != NULL ? fm_conv_type(params->type, &conv->want) : FM_OK;
    if (r != FM_OK)
        return r;
    return fm_gguf_writer_create(&conv->writer);
}

void fm_conv_finish(struct fm_conv *conv)
{
    fm_gguf_writer_destroy(&conv->writer);
    fm_free(conv->outputs);
    fm_arena_finish(&conv->arena);
}

enum fm_result fm_conv_add(struct fm_conv *conv, const char *name, uint32_t n_dims, const uint64_t *dims,
                           const struct fm_part *parts, uint32_t n_parts)
{
    struct fm_output o = {.name = fm_arena_strdup(&conv->arena, name), .n_dims = n_dims, .rows = 1, .n_parts = n_parts};
    enum fm_result r = o.name == NULL ? fm_nomem()
                                      : fm_array_reserve((void **)&conv->outputs, &conv->output_cap,
                                                         conv->output_count + 1, sizeof(*conv->outputs));
    if (r != FM_OK)
        return r;
    bool by_element = n_dims == 1 && (n_parts > 1 || parts[0].move != FM_MOVE_NONE);
    o.cols = by_element ? 1 : dims[n_dims - 1];
    for (uint32_t i = 0; i < n_dims; i++)
        o.dims[i] = dims[i];
    for (uint32_t i = 0; i + (by_element ? 0 : 1) < n_dims; i++)
        o.rows *= dims[i];
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        o.parts[i] = parts[i];
        rows += parts[i].rows;
    }
    if (rows != o.rows)
        return fm_fail(FM_ARG, "tensor '%s': its parts have %llu rows, expected %llu", FM_QUOTE_Z(name),
                       (unsigned long long)rows, (unsigned long long)o.rows);
    conv->outputs[conv->output_count++] = o;
    return FM_OK;
}

// ---- rows -----------------------------------------------------------------------------------------------------------

static float plain_at(const struct fm_tensor *t, uint64_t index)
{
    float value;
    fm_quant_decode(t->type, t->data + index * fm_type_info(t->type)->block_bytes, 1, &value);
    return value;
}

// Row of the source that becomes row `row` of the part.
static uint64_t source_row(const struct fm_part *part, uint64_t row)
{
    uint64_t head = part->rows / FM_MAX(part->heads, 1u), half = head / 2, at = head > 0 ? row % head : 0;
    switch (part->move) {
    case FM_MOVE_PERMUTE: return row - at + (at % 2) * half + at / 2;
    case FM_MOVE_UNPERMUTE: return row - at + (at % half) * 2 + at / half;
    case FM_MOVE_NONE:
    case FM_MOVE_TRANSPOSE: break;
    }
    return row;
}

// Row `row` of a part: [cols] f32.
static void part_row(const struct fm_part *part, uint64_t row, uint64_t cols, float *out)
{
    const struct fm_tensor *t = part->source;
    if (t == NULL) {
        for (uint64_t i = 0; i < cols; i++)
            out[i] = (float)part->make(part, row * cols + i);
    } else if (part->move == FM_MOVE_TRANSPOSE) {
        for (uint64_t i = 0; i < cols; i++)
            out[i] = plain_at(t, i * part->rows + row);
    } else {
        const struct fm_type_info *info = fm_type_info(t->type);
        uint64_t first = source_row(part, row) * cols; // whole blocks: fm_conv_write saw to it
        fm_quant_decode(t->type, t->data + first / info->block_elems * info->block_bytes, cols, out);
    }
    for (uint64_t i = 0; part->neg_exp && i < cols; i++)
        out[i] = (float)-exp((double)out[i]);
}

// Does the row only go to another place? Then its bytes are what they are, which also keeps quantised rows exact.
static bool moves_only(const struct fm_output *o, const struct fm_part *part)
{
    return part->source != NULL && part->source->type == o->type && part->move != FM_MOVE_TRANSPOSE && !part->neg_exp;
}

struct batch {
    const struct fm_output *o;
    uint64_t row0, rows, chunk_rows;
    uint64_t row_bytes; // of the result
    float *f32;         // [rows, cols]
    uint8_t *out;       // rows * row_bytes
    _Atomic uint64_t bad; // index of an element that the type cannot hold + 1; 0 = none
};

static bool holds(enum fm_type type, float value)
{
    return isfinite(value) && (type != FM_TYPE_F16 || fabsf(value) < 65520.0f); // 65520 rounds to infinity
}

static void batch_chunk(void *user, uint32_t index)
{
    struct batch *b = user;
    const struct fm_output *o = b->o;
    uint64_t begin = index * b->chunk_rows, end = FM_MIN(begin + b->chunk_rows, b->rows);
    for (uint64_t i = begin; i < end; i++) {
        uint64_t row = b->row0 + i;
        const struct fm_part *part = o->parts;
        for (; row >= part->rows; part++)
            row -= part->rows;
        uint8_t *out = b->out + i * b->row_bytes;
        if (moves_only(o, part)) {
            memcpy(out, part->source->data + source_row(part, row) * b->row_bytes, (size_t)b->row_bytes);
            continue;
        }
        float *values = b->f32 + i * o->cols;
        part_row(part, row, o->cols, values);
        for (uint64_t c = 0; c < o->cols; c++)
            if (!holds(o->type, values[c]))
                atomic_store(&b->bad, i * o->cols + c + 1);
        fm_quant_encode(o->type, values, o->cols, out);
    }
}

static enum fm_result fail_value(const struct batch *b, uint64_t at)
{
    const struct fm_output *o = b->o;
    return fm_fail(FM_UNSUPPORTED, "tensor '%s': row %llu, column %llu is %g, which %s cannot hold%s", FM_QUOTE_Z(o->name),
                   (unsigned long long)(b->row0 + at / o->cols), (unsigned long long)(at % o->cols),
                   (double)b->f32[at], fm_type_info(o->type)->name,
                   isfinite(b->f32[at]) ? "; bf16 and f32 can" : ": the weights are damaged");
}

// ---- streaming ------------------------------------------------------------------------------------------------------

struct stream {
    struct fm_conv *conv;
    uint64_t done, total; // elements
    float *f32;
    uint64_t f32_elems;
    uint64_t batch_elems; // of the next batch, by the time that the last one took
    uint8_t *out;
    uint64_t out_bytes;
};

static enum fm_result advance(struct stream *s, const struct fm_output *o, uint64_t elems)
{
    for (uint32_t i = 0; i < o->n_parts && s->conv->drop != NULL; i++)
        if (o->parts[i].source != NULL)
            s->conv->drop(s->conv->from, o->parts[i].source);
    s->done += elems;
    if (s->conv->progress != NULL && !s->conv->progress(s->conv->user, s->done, s->total))
        return fm_fail(FM_CANCELLED, "cancelled; nothing was left behind");
    return FM_OK;
}

static bool is_copy(const struct fm_output *o)
{
    const struct fm_part *part = &o->parts[0];
    return o->n_parts == 1 && part->source != NULL && part->move == FM_MOVE_NONE && !part->neg_exp &&
           part->source->type == o->type;
}

static enum fm_result copy_tensor(struct stream *s, const struct fm_output *o)
{
    const struct fm_tensor *t = o->parts[0].source;
    uint64_t elems = o->rows * o->cols, told = 0;
    enum fm_result r = FM_OK;
    for (uint64_t at = 0; r == FM_OK && at < t->data_bytes; at += COPY_BYTES) {
        uint64_t part = FM_MIN(COPY_BYTES, t->data_bytes - at);
        uint64_t upto = (uint64_t)((double)elems * ((double)(at + part) / (double)t->data_bytes));
        upto = at + part == t->data_bytes ? elems : FM_MAX(upto, told);
        r = fm_gguf_write(s->conv->writer, t->data + at, part);
        if (r == FM_OK)
            r = advance(s, o, upto - told);
        told = upto;
    }
    return r;
}

static enum fm_result reserve(struct stream *s, uint64_t elems, uint64_t bytes)
{
    if (elems > s->f32_elems) {
        fm_free(s->f32);
        s->f32_elems = 0;
        if ((s->f32 = fm_realloc(NULL, (size_t)elems, sizeof(float))) == NULL)
            return fm_nomem();
        s->f32_elems = elems;
    }
    if (bytes > s->out_bytes) {
        fm_free(s->out);
        s->out_bytes = 0;
        if ((s->out = fm_alloc((size_t)bytes)) == NULL)
            return fm_nomem();
        s->out_bytes = bytes;
    }
    return FM_OK;
}

// A row must begin where a block of its source does, and single elements can be picked from plain types only.
static enum fm_result check_blocks(const struct fm_output *o)
{
    for (uint32_t i = 0; i < o->n_parts; i++) {
        const struct fm_part *part = &o->parts[i];
        uint32_t block = part->source != NULL ? fm_type_info(part->source->type)->block_elems : 1;
        if (block > 1 && (part->move == FM_MOVE_TRANSPOSE || o->cols % block != 0))
            return fm_fail(FM_UNSUPPORTED, "tensor '%s': rows of %llu elements cannot be taken from %s", FM_QUOTE_Z(o->name),
                           (unsigned long long)o->cols, fm_type_info(part->source->type)->name);
    }
    return FM_OK;
}

// Slow types get smaller batches, so that a caller who wants to stop does not wait.
static void adapt(struct stream *s, uint64_t ns)
{
    if (ns > BATCH_NS)
        s->batch_elems = FM_MAX(s->batch_elems / 2, CHUNK_ELEMS);
    else if (ns < BATCH_NS / 4)
        s->batch_elems = FM_MIN(s->batch_elems * 2, BATCH_ELEMS);
}

static enum fm_result encode_tensor(struct stream *s, const struct fm_output *o)
{
    uint64_t row_bytes, most_rows = FM_MIN(FM_MAX(BATCH_ELEMS / o->cols, (uint64_t)1), o->rows);
    enum fm_result r = check_blocks(o);
    if (r == FM_OK && !fm_type_bytes(o->type, o->cols, &row_bytes))
        r = fm_fail(FM_ARG, "tensor '%s': rows of %llu elements do not fill blocks of %s", FM_QUOTE_Z(o->name),
                    (unsigned long long)o->cols, fm_type_info(o->type)->name);
    if (r == FM_OK)
        r = reserve(s, most_rows * o->cols, most_rows * row_bytes);
    for (uint64_t row = 0, rows; r == FM_OK && row < o->rows; row += rows) {
        uint64_t start_ns = fm_clock_ns();
        rows = FM_MIN(FM_MIN(FM_MAX(s->batch_elems / o->cols, (uint64_t)1), most_rows), o->rows - row);
        struct batch b = {.o = o, .row0 = row, .rows = rows, .row_bytes = row_bytes,
                          .chunk_rows = FM_MAX(CHUNK_ELEMS / o->cols, (uint64_t)1), .f32 = s->f32, .out = s->out};
        fm_thread_for(0, (uint32_t)((rows + b.chunk_rows - 1) / b.chunk_rows), batch_chunk, &b);
        uint64_t bad = atomic_load(&b.bad);
        r = bad > 0 ? fail_value(&b, bad - 1) : fm_gguf_write(s->conv->writer, s->out, rows * row_bytes);
        if (r == FM_OK)
            r = advance(s, o, rows * o->cols);
        if (rows * o->cols >= s->batch_elems / 2)
            adapt(s, fm_clock_ns() - start_ns);
    }
    return r;
}

enum fm_result fm_conv_write(struct fm_conv *conv, const char *path, bool check)
{
    struct stream s = {.conv = conv, .batch_elems = FIRST_BATCH_ELEMS};
    const char *temp;
    enum fm_result r = fm_conv_types(conv);
    for (size_t i = 0; i < conv->output_count; i++) {
        const struct fm_output *o = &conv->outputs[i];
        fm_gguf_put_tensor(conv->writer, o->name, o->type, o->n_dims, o->dims);
        s.total += o->rows * o->cols;
    }
    if (r == FM_OK)
        r = fm_gguf_begin(conv->writer, path);
    for (size_t i = 0; r == FM_OK && i < conv->output_count; i++) {
        const struct fm_output *o = &conv->outputs[i];
        r = is_copy(o) ? copy_tensor(&s, o) : encode_tensor(&s, o);
    }
    fm_free(s.f32);
    fm_free(s.out);
    if (r == FM_OK)
        r = fm_gguf_flush(conv->writer, &temp);
    if (r == FM_OK && check)
        r = fm_conv_verify(temp, path);
    return r == FM_OK ? fm_gguf_finish(conv->writer) : r;
}
