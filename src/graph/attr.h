// SPDX-License-Identifier: MIT
// Attributes of nodes by number, for code that treats all of them alike. attrs.def lists them.
#ifndef FM_GRAPH_ATTR_H
#define FM_GRAPH_ATTR_H

#include "graph/graph.h"

enum fm_attr_id {
#define X(id, field, kind, printed, words) FM_ATTR_ID_##id,
#include "graph/attrs.def"
#undef X
    FM_ATTR_COUNT
};

// A set of attributes: FM_ATTR_EPS | FM_ATTR_ACT.
enum fm_attr_bit {
#define X(id, field, kind, printed, words) FM_ATTR_##id = 1u << FM_ATTR_ID_##id,
#include "graph/attrs.def"
#undef X
};

// Clear the attributes that are not in `mask`.
void fm_attr_keep(struct fm_attr *attr, uint32_t mask);
// Take each attribute of `from` that is zero in `to`.
void fm_attr_merge(struct fm_attr *to, const struct fm_attr *from);
// All attributes as words, without padding: equal attributes give equal words.
void fm_attr_words(const struct fm_attr *attr, uint32_t out_words[FM_ATTR_COUNT]);

const char *fm_attr_name(enum fm_attr_id id); // "heads_kv"
// Is it written in the text of a graph? Some are only when they are not zero.
bool fm_attr_is_printed(const struct fm_attr *attr, enum fm_attr_id id);
// The value as text ("8", "1e-05", "silu") in out; returns out.
#define FM_ATTR_TEXT_BYTES 32
const char *fm_attr_text(const struct fm_attr *attr, enum fm_attr_id id, char out[FM_ATTR_TEXT_BYTES]);
// Set it from such a text; false when the text is no value of it.
bool fm_attr_set(struct fm_attr *attr, enum fm_attr_id id, const char *text);

#endif
