// SPDX-License-Identifier: MIT
// Tokenizers and chat templates, made from a model file's metadata.
#ifndef FULMEN_TEXT_H
#define FULMEN_TEXT_H

#include "fulmen/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_file;      // internal
struct fm_tokenizer; // immutable after creation, so safe to share between threads

enum fm_encode_flags {
    FM_ENCODE_BOS = 1,     // prepend BOS where the file asks for it (add_bos_token)
    FM_ENCODE_SPECIAL = 2, // match special tokens written out in the text ("<|im_start|>")
};

// Models hand out their tokenizer (fm_model_tokenizer). This opens one alone, of any GGUF file with tokenizer.ggml.* keys, also
// one that holds nothing else: no weights, or an architecture that fulmen does not know. FM_IO, FM_FORMAT, FM_UNSUPPORTED (the
// file has no tokenizer, or one of an unknown kind), FM_NOMEM. Release with fm_tokenizer_close, which accepts NULL; never close
// a model's.
FM_API enum fm_result fm_tokenizer_open(const char *path, struct fm_tokenizer **out_tok);
FM_API void fm_tokenizer_close(struct fm_tokenizer **tok);

// Text (any bytes) to ids. The result is malloc'ed through the library: release it with fm_tokens_free.
// FM_NOMEM; FM_ARG when the text is longer than 2^30 bytes.
FM_API enum fm_result fm_tokenizer_encode(const struct fm_tokenizer *tok, const char *text, size_t text_bytes,
                                          unsigned flags, uint32_t **out_ids, size_t *out_count);
// The same, and now and then (every millisecond or so) asks `cancel` in the calling thread whether to stop: true ends the work
// with FM_CANCELLED. cancel may be NULL.
FM_API enum fm_result fm_tokenizer_encode_until(const struct fm_tokenizer *tok, const char *text, size_t text_bytes,
                                                unsigned flags, fm_cancel_fn *cancel, void *user, uint32_t **out_ids,
                                                size_t *out_count);
FM_API void fm_tokens_free(uint32_t *ids);

// Bytes of one token (may be part of a UTF-8 character). Control tokens give "" unless `special`. Unknown ids give "".
// The pointer lives as long as the tokenizer.
FM_API const char *fm_tokenizer_piece(const struct fm_tokenizer *tok, uint32_t id, bool special, size_t *out_bytes);

FM_API uint32_t fm_tokenizer_vocab(const struct fm_tokenizer *tok);
FM_API uint32_t fm_tokenizer_bos(const struct fm_tokenizer *tok); // FM_TOKEN_NONE when the file names none
FM_API bool fm_tokenizer_adds_bos(const struct fm_tokenizer *tok); // does FM_ENCODE_BOS put BOS before a text?
FM_API uint32_t fm_tokenizer_eos(const struct fm_tokenizer *tok);
// true for every token that ends an answer: EOS (one or several), EOT and EOM of the file, and what is known to be one by its
// text (<|im_end|>, <|eot_id|>, <end_of_turn>, ...).
FM_API bool fm_tokenizer_is_end(const struct fm_tokenizer *tok, uint32_t id);

// ---- streaming decode ---------------------------------------------------------------------------------------------

// Collects token bytes and hands out whole UTF-8 characters only. All-zero is the start.
struct fm_utf8_stream {
    char held[4];
    uint8_t held_bytes;
    bool started; // the first piece came; a SentencePiece text's lost its dummy space. Set it to continue a text
};

// Append token `id`; writes the bytes that are complete now to out (at least fm_tokenizer_max_piece + 4 bytes), returns
// their number. Invalid bytes become U+FFFD. `special` as in fm_tokenizer_piece.
FM_API size_t fm_tokenizer_stream(const struct fm_tokenizer *tok, struct fm_utf8_stream *stream, uint32_t id,
                                  bool special, char *out);
// What is still held at the end (an incomplete character becomes U+FFFD); at most 4 bytes.
FM_API size_t fm_utf8_stream_end(struct fm_utf8_stream *stream, char *out);
// Longest output of one fm_tokenizer_stream call, in bytes.
FM_API size_t fm_tokenizer_max_piece(const struct fm_tokenizer *tok);

// Decode ids to UTF-8 (BOS and other control tokens left out unless `special`). NUL-terminated; release with
// fm_text_free.
FM_API enum fm_result fm_tokenizer_decode(const struct fm_tokenizer *tok, const uint32_t *ids, size_t count,
                                          bool special, char **out_text, size_t *out_bytes);
FM_API void fm_text_free(char *text);

// ---- chat templates -----------------------------------------------------------------------------------------------

// One row per template: enum, name, how it is recognised in a Jinja text.
enum fm_chat_template {
    FM_CHAT_PLAIN,
    FM_CHAT_CHATML,
    FM_CHAT_LLAMA2,
    FM_CHAT_LLAMA3,
    FM_CHAT_MISTRAL,
    FM_CHAT_ZEPHYR,
    FM_CHAT_COUNT
};

struct fm_chat_message {
    const char *role; // "system", "user" or "assistant"
    const char *content;
};

FM_API const char *fm_chat_template_name(enum fm_chat_template t);
FM_API bool fm_chat_template_from_name(const char *name, enum fm_chat_template *out_template);
// The template of the tokenizer's file. *out_known = false when the file has one that fulmen does not know; then
// the result is PLAIN.
FM_API enum fm_chat_template fm_tokenizer_chat_template(const struct fm_tokenizer *tok, bool *out_known);
// The system text that the file's template puts first when the messages bring none (Qwen2.5 has one); NULL when it has
// none. fm_chat_render adds none by itself. The pointer lives as long as the tokenizer.
FM_API const char *fm_tokenizer_chat_system(const struct fm_tokenizer *tok);
// The conversation as ids, from the beginning of the text (BOS where the file asks for it); with `add_prompt` the assistant's
// header is opened at the end. Special tokens stand only where the template writes them: a message that spells them out is
// text, so that nobody can forge a turn. Else as fm_tokenizer_encode_until of the rendered text. FM_ARG on an unknown role.
// Release with fm_tokens_free.
FM_API enum fm_result fm_chat_encode(const struct fm_tokenizer *tok, enum fm_chat_template t, const struct fm_chat_message *messages,
                                     size_t count, bool add_prompt, fm_cancel_fn *cancel, void *user, uint32_t **out_ids,
                                     size_t *out_count);
// Render messages as text, to be read by people: in this text messages and template are not told apart. Leaves out the BOS token
// (fm_tokenizer_encode adds it). FM_ARG on an unknown role. Release with fm_text_free.
FM_API enum fm_result fm_chat_render(enum fm_chat_template t, const struct fm_chat_message *messages, size_t count,
                                     bool add_prompt, char **out_text);

#ifdef __cplusplus
}
#endif

#endif
