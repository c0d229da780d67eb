// SPDX-License-Identifier: MIT
// Normalisation forms of Unicode.
#ifndef FM_TEXT_FORMS_H
#define FM_TEXT_FORMS_H

#include "text/vocab.h"

enum fm_form { FM_FORM_C, FM_FORM_D, FM_FORM_KC, FM_FORM_KD };

// Append the form of `text` to `out`, as Unicode 9.0 has it: characters that are newer stay as they are, and nothing combines
// across them. Bytes that are no part of a well-formed character stay, too. `typed` belongs to the text, as for fm_buffer_add_part.
// enc is for fm_encoder_poll and may be NULL. FM_NOMEM, FM_CANCELLED.
enum fm_result fm_form(struct fm_encoder *enc, enum fm_form form, const char *text, size_t text_bytes, const uint8_t *typed,
                       struct fm_buffer *out);

#endif
