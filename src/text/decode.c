// SPDX-License-Identifier: MIT
// Ids to text: pieces, streaming that never splits a character, whole texts.
#include "base/utf8.h"
#include "text/utf8_stream.h"
#include "text/vocab.h"

uint32_t fm_tokenizer_vocab(const struct fm_tokenizer *tok)
{
    return tok->vocab;
}

uint32_t fm_tokenizer_bos(const struct fm_tokenizer *tok)
{
    return tok->bos;
}

bool fm_tokenizer_adds_bos(const struct fm_tokenizer *tok)
{
    return tok->add_bos && tok->bos != FM_TOKEN_NONE;
}

uint32_t fm_tokenizer_eos(const struct fm_tokenizer *tok)
{
    return tok->eos;
}

bool fm_tokenizer_is_end(const struct fm_tokenizer *tok, uint32_t id)
{
    return id < tok->vocab && tok->tokens[id].end;
}

const char *fm_tokenizer_piece(const struct fm_tokenizer *tok, uint32_t id, bool special, size_t *out_bytes)
{
    *out_bytes = 0;
    if (id >= tok->vocab)
        return "";
    const struct fm_token *token = &tok->tokens[id];
    if (token->type == FM_TOKEN_CONTROL) {
        *out_bytes = special ? token->text_bytes : 0;
        return special ? token->text : "";
    }
    *out_bytes = token->piece_bytes;
    return token->piece;
}

// Each byte of a piece may turn out invalid and become U+FFFD; so may what was held before it.
size_t fm_tokenizer_max_piece(const struct fm_tokenizer *tok)
{
    return ((size_t)tok->max_piece_bytes + 1) * FM_UTF8_REPLACEMENT_BYTES;
}

size_t fm_tokenizer_stream(const struct fm_tokenizer *tok, struct fm_utf8_stream *stream, uint32_t id, bool special,
                           char *out)
{
    size_t bytes, written = 0;
    const char *piece = fm_tokenizer_piece(tok, id, special, &bytes);
    if (id >= tok->vocab)
        return 0;
    uint8_t type = tok->tokens[id].type;
    if (type != FM_TOKEN_CONTROL) {
        // The space that encoding put in front of the text.
        bool mark = type == FM_TOKEN_NORMAL || type == FM_TOKEN_USER || type == FM_TOKEN_UNUSED;
        if (tok->add_space_prefix && !stream->started && mark && bytes > 0 && piece[0] == ' ') {
            piece++;
            bytes--;
        }
        stream->started = true;
    }
    for (size_t i = 0; i < bytes; i++)
        written += fm_utf8_stream_feed(stream, piece[i], out + written);
    return written;
}

enum fm_result fm_tokenizer_decode(const struct fm_tokenizer *tok, const uint32_t *ids, size_t count, bool special,
                                   char **out_text, size_t *out_bytes)
{
    struct fm_utf8_stream stream = {0};
    char *text = NULL;
    size_t used = 0, cap = 0;
    // Room for one more token, what is held at the end, and the NUL.
    size_t room = fm_tokenizer_max_piece(tok) + 8;
    enum fm_result r = fm_array_reserve((void **)&text, &cap, room, 1);
    for (size_t i = 0; r == FM_OK && i < count; i++) {
        r = fm_array_reserve((void **)&text, &cap, used + room, 1);
        if (r == FM_OK)
            used += fm_tokenizer_stream(tok, &stream, ids[i], special, text + used);
    }
    if (r != FM_OK) {
        fm_free(text);
        return r;
    }
    used += fm_utf8_stream_end(&stream, text + used);
    text[used] = '\0';
    *out_text = text;
    *out_bytes = used;
    return FM_OK;
}

void fm_text_free(char *text)
{
    fm_free(text);
}
