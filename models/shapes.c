// SPDX-License-Identifier: MIT
// Shapes of well-known models, for benchmarks with random weights and no file. Numbers from the models' published
// configurations.
#include "models/arch.h"

// Llama and Qwen2: layers, D, H, G, C, F, V, ids in use, context, eps, RoPE base.
#define DECODER(l, d, h, g, c, f, v, real, ctx, eps, base, kind, tie)                                                  \
    {                                                                                                                  \
        .n_layers = l, .width = d, .heads = h, .heads_kv = g, .head = c, .ffn = f, .vocab = v, .vocab_real = real,     \
        .context = ctx, .norm_eps = eps, .rope_base = base, .rotated = c, .rope = kind, .tied = tie                    \
    }
#define LLAMA(l, d, h, g, c, f, v, ctx, base, tie) DECODER(l, d, h, g, c, f, v, v, ctx, 1e-5f, base, FM_ROPE_NORM, tie)
#define QWEN2(l, d, h, g, c, f, v, ctx, tie) DECODER(l, d, h, g, c, f, v, 151665, ctx, 1e-6f, 1e6, FM_ROPE_NEOX, tie)
#define GPT2(l, d, h)                                                                                                  \
    {                                                                                                                  \
        .n_layers = l, .width = d, .heads = h, .heads_kv = h, .head = d / (h), .ffn = 4 * (d), .vocab = 50257,         \
        .vocab_real = 50257, .context = 1024, .norm_eps = 1e-5f, .tied = true                                          \
    }

// Llama 3.1 and 3.2 rescale RoPE, which changes constants but no shape and no time: the built-in shapes leave it out.
const struct fm_shape fm_shapes[] = {
    {"llama-1b", "llama", LLAMA(16, 2048, 32, 8, 64, 8192, 128256, 131072, 5e5, true)},
    {"llama-3b", "llama", LLAMA(28, 3072, 24, 8, 128, 8192, 128256, 131072, 5e5, true)},
    {"llama-8b", "llama", LLAMA(32, 4096, 32, 8, 128, 14336, 128256, 131072, 5e5, false)},
    {"llama2-7b", "llama", LLAMA(32, 4096, 32, 32, 128, 11008, 32000, 4096, 1e4, false)},
    {"llama2-13b", "llama", LLAMA(40, 5120, 40, 40, 128, 13824, 32000, 4096, 1e4, false)},
    {"llama2-70b", "llama", LLAMA(80, 8192, 64, 8, 128, 28672, 32000, 4096, 1e4, false)},
    {"mistral-7b", "llama", {.n_layers = 32, .width = 4096, .heads = 32, .heads_kv = 8, .head = 128, .ffn = 14336,
                             .vocab = 32000, .vocab_real = 32000, .context = 32768, .norm_eps = 1e-5f, .rope_base = 1e4,
                             .rotated = 128, .rope = FM_ROPE_NORM, .window = 4096}},
    {"qwen2-0.5b", "qwen2", QWEN2(24, 896, 14, 2, 64, 4864, 151936, 32768, true)},
    {"qwen2-1.5b", "qwen2", QWEN2(28, 1536, 12, 2, 128, 8960, 151936, 32768, true)},
    {"qwen2-7b", "qwen2", QWEN2(28, 3584, 28, 4, 128, 18944, 152064, 32768, false)},
    {"gpt2-124m", "gpt2", GPT2(12, 768, 12)},
    {"gpt2-355m", "gpt2", GPT2(24, 1024, 16)},
    {"gpt2-774m", "gpt2", GPT2(36, 1280, 20)},
    {"gpt2-1.5b", "gpt2", GPT2(48, 1600, 25)},
    {0},
};

const struct fm_shape *fm_shape_find(const char *name)
{
    for (const struct fm_shape *s = fm_shapes; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}
