// SPDX-License-Identifier: MIT
// The normalisers of a tokenizer.json, one after the other, as the `tokenizers` library has them.
#ifndef FM_TEXT_NORMALIZE_H
#define FM_TEXT_NORMALIZE_H

#include "text/vocab.h"

// Each entry of the key is a name, followed by its arguments as entries of their own.
#define FM_KEY_NORMALIZERS "fulmen.tokenizer.normalizers"

enum fm_step_kind {
    FM_STEP_NFC,
    FM_STEP_NFD,
    FM_STEP_NFKC,
    FM_STEP_NFKD,
    FM_STEP_LOWERCASE,
    FM_STEP_NMT,           // control characters go, other white space becomes a space
    FM_STEP_STRIP_ACCENTS, // marks go
    FM_STEP_STRIP,         // argument: where, "left", "right" or "both"
    FM_STEP_PREPEND,       // argument: what. An empty text stays empty
    FM_STEP_REPLACE,       // arguments: what, by what. Leftmost first, without overlap
};

struct fm_step {
    enum fm_step_kind kind;
    struct fm_text first, second; // arguments
    bool left, right;             // STRIP
};

struct fm_steps {
    struct fm_step *list;
    uint32_t count;
};

// To how many bytes all texts of `bytes` together may grow. U+FDFA becomes 13 times as long where its spaces become U+2581, and no
// rule of a real file does more. Offsets in texts have 32 bits.
static inline size_t fm_growth_limit(size_t bytes)
{
    return FM_MIN(18 * (uint64_t)bytes + 65536, (uint64_t)UINT32_MAX - 65536);
}

// From FM_KEY_NORMALIZERS; none where the key is absent. Texts and list live in the arena. FM_FORMAT, FM_UNSUPPORTED for
// an unknown name, with those that are known; FM_NOMEM.
enum fm_result fm_steps_read(const struct fm_file *file, struct fm_arena *arena, struct fm_steps *out_steps);
// Change `text` by all steps; `other` is working memory, and the two may change places. Any bytes may stand in the text:
// those that are no character stay. The text may grow to *io_room bytes, which falls by as many as it had at most. enc is for
// fm_encoder_poll and may be NULL. FM_NOMEM, FM_CANCELLED, FM_UNSUPPORTED for a text that grows further.
enum fm_result fm_steps_apply(struct fm_encoder *enc, const struct fm_steps *steps, struct fm_buffer *text, struct fm_buffer *other,
                              size_t *io_room);

#endif
