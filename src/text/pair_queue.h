// SPDX-License-Identifier: MIT
// The queue of byte-pair merging: candidate pairs, smallest priority first, leftmost first among equals.
#ifndef FM_TEXT_PAIR_QUEUE_H
#define FM_TEXT_PAIR_QUEUE_H

#include "base/base.h"

struct fm_merge_pair {
    uint32_t priority;
    uint32_t left;  // index of the left symbol
    uint32_t bytes; // of both symbols together: tells a pair that has changed since
    uint32_t id;    // what the two become
};

// Pairs of one priority whose `left` came in ascending order: a list of pool indices; FM_PAIR_NONE = empty.
struct fm_pair_lane {
    uint32_t first;
    uint32_t last;
};

struct fm_pool_pair {
    uint32_t left;
    uint32_t bytes;
    uint32_t id;
    uint32_t next;
};

#define FM_PAIR_NONE UINT32_MAX

// All-zero is an empty queue. A heap serves short texts. In long ones most pairs come in order of `left` within their
// priority, so each priority has a lane, a list that costs no search; what comes out of order goes to the heap.
struct fm_pair_queue {
    struct fm_merge_pair *heap;
    size_t heap_count;
    size_t heap_cap;
    bool use_lanes;
    struct fm_pair_lane *lanes; // by priority
    uint32_t lane_count;
    uint32_t *active; // heap of priorities whose lanes hold pairs
    size_t active_count;
    size_t active_cap;
    struct fm_pool_pair *pool;
    size_t pool_count;
    size_t pool_cap;
    uint32_t free_pair; // list of pool entries to be used again
};

// Make the queue ready for a text of `symbols` symbols; priorities are less than `priorities`, and always the same number. What was
// pushed for the text before must have been popped. FM_NOMEM.
enum fm_result fm_pair_queue_start(struct fm_pair_queue *queue, size_t symbols, uint32_t priorities);
enum fm_result fm_pair_queue_push(struct fm_pair_queue *queue, struct fm_merge_pair pair);
// false when the queue is empty.
bool fm_pair_queue_pop(struct fm_pair_queue *queue, struct fm_merge_pair *out_pair);
void fm_pair_queue_finish(struct fm_pair_queue *queue);

#endif
