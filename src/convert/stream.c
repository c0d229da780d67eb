// SPDX-License-Identifier: MIT
// Tensors on their way to the disk: what a batch of rows is made of is read, then decoded, moved and encoded by all threads, and
// written. Infinite weights and NaN end the conversion.
#include "convert/output.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/os.h"

#define BATCH_ELEMS ((uint64_t)4 << 20)  // of f32: 16 MiB; the sources and the result take as much at most
#define FIRST_BATCH_ELEMS ((uint64_t)1 << 20)
#define TASK_ELEMS ((uint64_t)64 << 10)  // what a thread takes at a time, at least a row
#define COPY_BYTES ((uint64_t)16 << 20)
#define BATCH_NS 100000000u // aim: the caller is asked whether to go on after each batch

// What of a part's source a batch needs, in memory.
struct window {
    const uint8_t *bytes;
    uint64_t row0, rows; // rows of the source; of TRANSPOSE its columns, row0 to row0 + rows of each row
};

struct batch {
    const struct fm_output *o;
    uint64_t row0, rows, task_rows;
    uint64_t row_bytes; // of the result
    float *f32;         // [rows, cols]
    uint8_t *out;       // rows * row_bytes
    struct window windows[FM_PARTS_MAX];
    _Atomic uint64_t bad; // the first element that is not finite, or would not be; rows * cols = none
};

struct stream {
    struct fm_conv *conv;
    uint64_t done, total; // elements
    float *f32;
    uint64_t f32_elems;
    uint64_t batch_elems; // of the next batch, by the time that the last one took
    uint8_t *out, *source;
    uint64_t out_bytes, source_bytes;
};

// ---- where rows come from -------------------------------------------------------------------------------------------

static uint64_t head_rows(const struct fm_part *part)
{
    return FM_MAX(part->rows / FM_MAX(part->heads, 1u), (uint64_t)1);
}

// Row of the source that becomes row `row` of the part.
static uint64_t source_row(const struct fm_part *part, uint64_t row)
{
    uint64_t half = head_rows(part) / 2, at = row % head_rows(part);
    if (half == 0)
        return row;
    switch (part->move) {
    case FM_MOVE_PERMUTE: return row - at + (at % 2) * half + at / 2;
    case FM_MOVE_UNPERMUTE: return row - at + (at % half) * 2 + at / half;
    case FM_MOVE_NONE:
    case FM_MOVE_TRANSPOSE: break;
    }
    return row;
}

// Bytes of one row of the source, of TRANSPOSE of one element. Rows are whole blocks: check_blocks saw to it.
static uint64_t unit_bytes(const struct fm_output *o, const struct fm_part *part)
{
    const struct fm_type_info *info = fm_type_info(part->source->type);
    return part->move == FM_MOVE_TRANSPOSE ? info->block_bytes : o->cols / info->block_elems * info->block_bytes;
}

// The part of the source that rows [begin, end) of the part are made of. Rows move inside of their heads only.
static struct window window_of(const struct fm_part *part, uint64_t begin, uint64_t end)
{
    uint64_t head = head_rows(part);
    if (part->move == FM_MOVE_PERMUTE || part->move == FM_MOVE_UNPERMUTE) {
        begin -= begin % head;
        end = FM_MIN((end + head - 1) / head * head, part->rows);
    }
    return (struct window){.row0 = begin, .rows = end - begin};
}

static enum fm_result read_window(const struct fm_output *o, const struct fm_part *part, const struct window *w, uint8_t *to)
{
    uint64_t unit = unit_bytes(o, part), bytes = w->rows * unit;
    if (part->move != FM_MOVE_TRANSPOSE)
        return fm_tensor_read(part->source, w->row0 * unit, bytes, to);
    if (w->rows == part->rows)
        return fm_tensor_read(part->source, 0, o->cols * bytes, to);
    enum fm_result r = FM_OK;
    for (uint64_t i = 0; i < o->cols && r == FM_OK; i++)
        r = fm_tensor_read(part->source, (i * part->rows + w->row0) * unit, bytes, to + i * bytes);
    return r;
}

static enum fm_result reserve(uint8_t **buffer, uint64_t *have, uint64_t bytes)
{
    if (bytes <= *have)
        return FM_OK;
    fm_free(*buffer);
    *have = 0;
    if ((*buffer = bytes <= SIZE_MAX ? fm_alloc((size_t)bytes) : NULL) == NULL)
        return fm_nomem();
    *have = bytes;
    return FM_OK;
}

// Read what the batch is made of.
static enum fm_result read_sources(struct stream *s, struct batch *b)
{
    const struct fm_output *o = b->o;
    uint64_t part_row0 = 0, total = 0, at = 0;
    for (uint32_t i = 0; i < o->n_parts; i++) { // a part's rows in the output: part_row0 and on
        const struct fm_part *part = &o->parts[i];
        uint64_t begin = FM_MAX(b->row0, part_row0), end = FM_MIN(b->row0 + b->rows, part_row0 + part->rows);
        b->windows[i] = (struct window){0};
        if (begin < end && part->source != NULL) {
            b->windows[i] = window_of(part, begin - part_row0, end - part_row0);
            total += b->windows[i].rows * unit_bytes(o, part) * (part->move == FM_MOVE_TRANSPOSE ? o->cols : 1);
        }
        part_row0 += part->rows;
    }
    enum fm_result r = reserve(&s->source, &s->source_bytes, total);
    for (uint32_t i = 0; i < o->n_parts && r == FM_OK; i++) {
        const struct fm_part *part = &o->parts[i];
        struct window *w = &b->windows[i];
        if (w->rows == 0)
            continue;
        w->bytes = s->source + at;
        r = read_window(o, part, w, s->source + at);
        at += w->rows * unit_bytes(o, part) * (part->move == FM_MOVE_TRANSPOSE ? o->cols : 1);
    }
    return r;
}

// ---- rows -----------------------------------------------------------------------------------------------------------

static const uint8_t *row_bytes_of(const struct fm_output *o, const struct fm_part *part, const struct window *w, uint64_t row)
{
    return w->bytes + (source_row(part, row) - w->row0) * unit_bytes(o, part);
}

// Row `row` of a part: [cols] f32.
static void part_row(const struct fm_output *o, const struct fm_part *part, const struct window *w, uint64_t row, float *out)
{
    const struct fm_tensor *t = part->source;
    if (t == NULL) {
        for (uint64_t i = 0; i < o->cols; i++)
            out[i] = (float)part->make(part, row * o->cols + i);
    } else if (part->move == FM_MOVE_TRANSPOSE) {
        for (uint64_t i = 0; i < o->cols; i++)
            fm_quant_decode(t->type, w->bytes + (i * w->rows + row - w->row0) * unit_bytes(o, part), 1, &out[i]);
    } else {
        fm_quant_decode(t->type, row_bytes_of(o, part, w, row), o->cols, out);
    }
    for (uint64_t i = 0; part->neg_exp && i < o->cols; i++)
        out[i] = (float)-exp((double)out[i]);
}

// Does the row only go to another place? Then its bytes are what they are, which also keeps quantised rows exact.
static bool moves_only(const struct fm_output *o, const struct fm_part *part)
{
    return part->source != NULL && part->source->type == o->type && part->move != FM_MOVE_TRANSPOSE && !part->neg_exp;
}

// The element of [cols] values whose block, encoded, is not finite: the largest of the block.
static uint64_t overflowed(enum fm_type type, const float *values, uint64_t first)
{
    uint64_t largest = first;
    for (uint64_t i = first; i < first + fm_type_info(type)->block_elems; i++)
        if (fabsf(values[i]) > fabsf(values[largest]))
            largest = i;
    return largest;
}

// Make row `i` of the batch. Returns the first element of it that is not finite, as it is or in its new type; cols = none.
static uint64_t make_row(struct batch *b, uint64_t i)
{
    const struct fm_output *o = b->o;
    uint64_t row = b->row0 + i, bad;
    uint32_t p = 0;
    for (; row >= o->parts[p].rows; p++)
        row -= o->parts[p].rows;
    const struct fm_part *part = &o->parts[p];
    uint8_t *out = b->out + i * b->row_bytes;
    float *values = b->f32 + i * o->cols;
    if (moves_only(o, part)) {
        memcpy(out, row_bytes_of(o, part, &b->windows[p], row), (size_t)b->row_bytes);
        bad = fm_quant_find_nonfinite(o->type, out, o->cols);
        if (bad < o->cols) // for the message
            fm_quant_decode(o->type, out, o->cols, values);
        return bad;
    }
    part_row(o, part, &b->windows[p], row, values);
    bad = fm_quant_find_nonfinite(FM_TYPE_F32, values, o->cols);
    if (bad < o->cols)
        return bad;
    fm_quant_encode(o->type, values, o->cols, out);
    bad = fm_quant_find_nonfinite(o->type, out, o->cols);
    return bad < o->cols ? overflowed(o->type, values, bad) : bad;
}

static void batch_task(void *user, uint32_t index)
{
    struct batch *b = user;
    uint64_t begin = index * b->task_rows, end = FM_MIN(begin + b->task_rows, b->rows), cols = b->o->cols;
    for (uint64_t i = begin; i < end; i++) {
        uint64_t bad = make_row(b, i), first = atomic_load(&b->bad);
        if (bad == cols)
            continue;
        bad += i * cols;
        while (bad < first && !atomic_compare_exchange_weak(&b->bad, &first, bad))
            ;
        return;
    }
}

static enum fm_result fail_value(const struct fm_output *o, uint64_t index, float value)
{
    const struct fm_tensor *source = o->n_parts == 1 ? o->parts[0].source : NULL;
    char from[FM_QUOTE_BYTES + 16] = "", number[32];
    if (source != NULL && strcmp(source->name, o->name) != 0)
        snprintf(from, sizeof(from), " (of '%s')", FM_QUOTE_Z(source->name));
    snprintf(number, sizeof(number), "%g", (double)value);
    if (isfinite(value))
        return fm_fail(FM_UNSUPPORTED, "tensor '%s'%s: element %llu (row %llu, column %llu) is %s, which %s cannot hold; f32 can",
                       FM_QUOTE_Z(o->name), from, (unsigned long long)index, (unsigned long long)(index / o->cols),
                       (unsigned long long)(index % o->cols), number, fm_type_info(o->type)->name);
    return fm_fail(FM_UNSUPPORTED, "tensor '%s'%s: element %llu (row %llu, column %llu) is %s: the weights are damaged",
                   FM_QUOTE_Z(o->name), from, (unsigned long long)index, (unsigned long long)(index / o->cols),
                   (unsigned long long)(index % o->cols), isnan(value) ? "nan" : number);
}

// ---- streaming ------------------------------------------------------------------------------------------------------

static enum fm_result advance(struct stream *s, uint64_t elems)
{
    s->done += elems;
    if (s->conv->progress != NULL && !s->conv->progress(s->conv->user, s->done, s->total))
        return fm_fail(FM_CANCELLED, "cancelled; nothing was left behind");
    return FM_OK;
}

static bool is_copy(const struct fm_output *o)
{
    const struct fm_part *part = &o->parts[0];
    return o->n_parts == 1 && part->move == FM_MOVE_NONE && moves_only(o, part);
}

static enum fm_result copy_tensor(struct stream *s, const struct fm_output *o)
{
    const struct fm_tensor *t = o->parts[0].source;
    const struct fm_type_info *info = fm_type_info(t->type);
    uint64_t elems = o->rows * o->cols, piece = COPY_BYTES / info->block_bytes * info->block_elems;
    enum fm_result r = reserve(&s->source, &s->source_bytes, FM_MIN(t->data_bytes, COPY_BYTES));
    for (uint64_t at = 0; r == FM_OK && at < elems; at += piece) {
        uint64_t some = FM_MIN(piece, elems - at), bytes = some / info->block_elems * info->block_bytes;
        r = fm_tensor_read(t, at / info->block_elems * info->block_bytes, bytes, s->source);
        if (r != FM_OK)
            return r;
        uint64_t bad = fm_quant_find_nonfinite(t->type, s->source, some);
        if (bad < some) {
            float values[256]; // the largest block has as many
            fm_quant_decode(t->type, s->source + bad / info->block_elems * info->block_bytes, info->block_elems, values);
            return fail_value(o, at + bad, values[0]);
        }
        r = fm_gguf_write(s->conv->writer, s->source, bytes);
        if (r == FM_OK)
            r = advance(s, some);
    }
    return r;
}

static enum fm_result reserve_batch(struct stream *s, uint64_t elems, uint64_t bytes)
{
    if (elems > s->f32_elems) {
        fm_free(s->f32);
        s->f32_elems = 0;
        if ((s->f32 = fm_realloc(NULL, (size_t)elems, sizeof(float))) == NULL)
            return fm_nomem();
        s->f32_elems = elems;
    }
    return reserve(&s->out, &s->out_bytes, bytes);
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
        s->batch_elems = FM_MAX(s->batch_elems / 2, TASK_ELEMS);
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
        r = reserve_batch(s, most_rows * o->cols, most_rows * row_bytes);
    for (uint64_t row = 0, rows; r == FM_OK && row < o->rows; row += rows) {
        uint64_t start_ns = fm_clock_ns();
        rows = FM_MIN(FM_MIN(FM_MAX(s->batch_elems / o->cols, (uint64_t)1), most_rows), o->rows - row);
        struct batch b = {.o = o, .row0 = row, .rows = rows, .row_bytes = row_bytes,
                          .task_rows = FM_MAX(TASK_ELEMS / o->cols, (uint64_t)1), .f32 = s->f32, .out = s->out};
        uint64_t elems = b.rows * o->cols;
        atomic_init(&b.bad, elems);
        r = read_sources(s, &b);
        if (r != FM_OK)
            return r;
        fm_thread_for(0, (uint32_t)((b.rows + b.task_rows - 1) / b.task_rows), batch_task, &b);
        uint64_t bad = atomic_load(&b.bad);
        r = bad < elems ? fail_value(o, row * o->cols + bad, b.f32[bad]) : fm_gguf_write(s->conv->writer, s->out, b.rows * row_bytes);
        if (r == FM_OK)
            r = advance(s, elems);
        if (elems >= s->batch_elems / 2)
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
    fm_free(s.source);
    if (r == FM_OK && conv->unchanged != NULL)
        r = conv->unchanged(conv->from);
    if (r == FM_OK)
        r = fm_gguf_flush(conv->writer, &temp);
    if (r == FM_OK && check)
        r = fm_conv_verify(temp, path);
    return r == FM_OK ? fm_gguf_finish(conv->writer) : r;
}
