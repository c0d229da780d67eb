// SPDX-License-Identifier: MIT
// Measures how long a session waits for a program that it needs for the first time: measure_first_steps SHAPE:TYPE PASSES, as
// llama-8b:q4_0 2.
// Build: cc -O2 -Iinclude tools/dev/measure_first_steps.c -o measure_first_steps build/libfulmen.a $(pkg-config --libs libpcre2-8 libcjson
//     libutf8proc libzip) -lm -lpthread
// For each number of prompt tokens it reads the prompt and generates 40 tokens, PASSES times. It prints when the first token came and the
// longest time between two tokens, in ms; the first pass less the last is what was waited for programs. Run it twice, so that the
// pipeline cache is warm.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fulmen/fulmen.h>

enum { PREDICT = 40, MOST = 700 };

struct watch { double last, first, longest; };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static bool see_token(void *user, uint32_t token)
{
    (void)token;
    struct watch *w = user;
    double now = now_ms(), gap = now - w->last;
    if (w->first == 0.0)
        w->first = gap;
    else if (gap > w->longest)
        w->longest = gap;
    w->last = now;
    return true;
}

int main(int argc, char **argv)
{
    static const unsigned lengths[] = {1, 2, 3, 5, 7, 9, 12, 17, 24, 33, 45, 60, 65, 100, 129, 180, 257, 350, 512, 513, 700};
    static uint32_t tokens[MOST];
    char shape[64], *type;
    struct fm_device *device = NULL;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    const struct fm_session_params params = {.n_slots = 1, .n_ctx = 1024};
    int passes = argc > 2 ? atoi(argv[2]) : 2;
    if (argc < 2 || strlen(argv[1]) >= sizeof shape || passes < 1 || strchr(argv[1], ':') == NULL) {
        fprintf(stderr, "measure_first_steps SHAPE:TYPE [PASSES]\n");
        return 2;
    }
    strcpy(shape, argv[1]);
    type = strchr(shape, ':');
    *type++ = '\0';
    double began = now_ms();
    bool ok = fm_device_open(NULL, &device) == FM_OK && fm_model_open_shape(shape, type, &model) == FM_OK &&
              fm_model_load(model, device, NULL) == FM_OK;
    double loaded = now_ms();
    ok = ok && fm_session_create(model, &params, &session) == FM_OK;
    printf("load %.0f ms, session %.1f ms\n", loaded - began, now_ms() - loaded);
    for (unsigned i = 0; i < MOST; i++)
        tokens[i] = 1 + i * 7 % 1000;
    for (size_t n = 0; ok && n < sizeof lengths / sizeof lengths[0]; n++) {
        printf("%3u tokens:", lengths[n]);
        for (int pass = 0; ok && pass < passes; pass++) {
            struct watch w = {.last = now_ms()};
            struct fm_request r = {.tokens = tokens, .n_tokens = lengths[n], .n_predict = PREDICT, .ignore_end = true,
                                   .on_token = see_token, .user = &w};
            ok = fm_session_rewind(session, 0, 0) == FM_OK && fm_session_generate(session, &r, 1) == FM_OK;
            printf("  first %6.2f longest %6.2f", w.first, w.longest);
        }
        printf("\n");
    }
    if (!ok)
        fprintf(stderr, "%s\n", fm_error_message());
    fm_session_destroy(&session), fm_model_close(&model), fm_device_close(&device);
    return ok ? 0 : 1;
}
