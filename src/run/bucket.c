// SPDX-License-Identifier: MIT
#include "run/bucket.h"

void fm_buckets_add_run(struct fm_buckets *buckets, uint32_t run)
{
    uint32_t at = 0;
    while (at < buckets->n_runs && buckets->run[at] < run)
        at++;
    if (run >= buckets->n_ubatch || buckets->n_runs == FM_COUNT(buckets->run) || (at < buckets->n_runs && buckets->run[at] == run))
        return;
    memmove(buckets->run + at + 1, buckets->run + at, (buckets->n_runs - at) * sizeof(buckets->run[0]));
    buckets->run[at] = run;
    buckets->n_runs++;
}

// 1, 2, 3, then 4/4, 5/4 and 6/4 of every power of two from 4 on; the micro-batch is the last.
static uint32_t rows_after(uint32_t rows, uint32_t n_ubatch)
{
    uint32_t power = 4;
    if (rows < 4)
        return FM_MIN(rows + 1, n_ubatch);
    while (power <= rows / 2)
        power *= 2;
    uint32_t quarters = rows / (power / 4);
    return FM_MIN(quarters == 6 ? 2 * power : power / 4 * (quarters + 1), n_ubatch);
}

// Place of the smallest size by rows that is at least `rows`, and the size.
static uint32_t rows_index(const struct fm_buckets *buckets, uint32_t rows, uint32_t *out_size)
{
    uint32_t index = 0, size = 1;
    for (; size < rows; index++)
        size = rows_after(size, buckets->n_ubatch);
    *out_size = size;
    return index;
}

static uint32_t run_index(const struct fm_buckets *buckets, uint32_t run)
{
    uint32_t index = 0;
    while (index < buckets->n_runs && buckets->run[index] < run)
        index++;
    return index;
}

// The largest run of a size.
static uint32_t run_end(const struct fm_buckets *buckets, uint32_t index, uint32_t rows)
{
    return index < buckets->n_runs ? FM_MIN(buckets->run[index], rows) : rows;
}

struct fm_step_size fm_bucket_of(const struct fm_buckets *buckets, struct fm_step_size step)
{
    struct fm_step_size bucket;
    (void)rows_index(buckets, step.rows, &bucket.rows);
    bucket.run = run_end(buckets, run_index(buckets, step.run), bucket.rows);
    return bucket;
}

uint32_t fm_bucket_index(const struct fm_buckets *buckets, struct fm_step_size bucket)
{
    uint32_t rows;
    return rows_index(buckets, bucket.rows, &rows) * FM_BUCKET_RUNS + run_index(buckets, bucket.run);
}

bool fm_bucket_at(const struct fm_buckets *buckets, uint32_t index, struct fm_step_size *out_bucket)
{
    uint32_t rows = 1, least_rows = 1, of_run = index % FM_BUCKET_RUNS;
    for (uint32_t i = 0; i < index / FM_BUCKET_RUNS; i++) {
        if (rows == buckets->n_ubatch)
            return false;
        least_rows = rows + 1;
        rows = rows_after(rows, buckets->n_ubatch);
    }
    // A step of these rows is of this size if some sequence has between least_run and end of them.
    uint32_t shortest = fm_ceil_div_u32(least_rows, buckets->n_slots), end = run_end(buckets, of_run, rows);
    uint32_t least_run = of_run > 0 ? FM_MAX(shortest, run_end(buckets, of_run - 1, rows) + 1) : shortest;
    if (of_run > buckets->n_runs || least_run > end)
        return false;
    *out_bucket = (struct fm_step_size){.rows = rows, .run = end};
    return true;
}
