// SPDX-License-Identifier: MIT
// The smallest program that chats: chat MODEL.gguf "a question". It prints the answer while it is being made.
#include <stdio.h>
#include <stdlib.h>

#include <fulmen/fulmen.h>

struct printer { const struct fm_tokenizer *tokenizer; struct fm_utf8_stream stream; char *piece; };

static bool print_token(void *user, uint32_t token)
{
    struct printer *p = user;
    fwrite(p->piece, 1, fm_tokenizer_stream(p->tokenizer, &p->stream, token, false, p->piece), stdout);
    return fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
    struct fm_device *device = NULL;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    struct printer printer = {.stream.started = true};
    const struct fm_chat_message message = {.role = "user", .content = argc > 2 ? argv[2] : "Hello!"};
    struct fm_request request = {.n_predict = 256, .on_token = print_token, .user = &printer};
    uint32_t *tokens = NULL;
    bool known, ok = argc > 1 && fm_device_open(NULL, &device) == FM_OK && fm_model_open(argv[1], &model) == FM_OK &&
                     (printer.tokenizer = fm_model_tokenizer(model)) != NULL && fm_model_load(model, device, NULL) == FM_OK &&
                     fm_session_create(model, NULL, &session) == FM_OK &&
                     (printer.piece = malloc(fm_tokenizer_max_piece(printer.tokenizer) + 4)) != NULL &&
                     fm_chat_encode(printer.tokenizer, fm_tokenizer_chat_template(printer.tokenizer, &known), &message, 1, true, NULL,
                                    NULL, &tokens, &request.n_tokens) == FM_OK;
    request.tokens = tokens;
    ok = ok && fm_session_generate(session, &request, 1) == FM_OK;
    if (!ok)
        fprintf(stderr, "chat MODEL.gguf QUESTION: %s\n", fm_error_message());
    fm_tokens_free(tokens), free(printer.piece);
    fm_session_destroy(&session), fm_model_close(&model), fm_device_close(&device);
    puts("");
    return ok ? 0 : 1;
}
