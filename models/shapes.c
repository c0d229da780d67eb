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
        .vocab_real = 50257, .context = 1024, .norm_eps = 1e-5f, .position_table = true, .tied = true                  \
    }

// TransNormerLLM: layers, D, heads of 128, F, embedding scale. 1B and 7B are the released configurations; the others are the
// paper's table 10, F = 8/3 D rounded up to 256 where no release says it.
#define TRANSNORMER(l, d, h, f, scale)                                                                                 \
    {                                                                                                                  \
        .n_layers = l, .width = d, .heads = h, .heads_kv = h, .head = d / (h), .ffn = f, .vocab = 64000,               \
        .vocab_real = 64000, .context = 8192, .norm_eps = 1e-6f, .act = FM_ACT_SILU, .embed_scale = scale,             \
        .tied = true                                                                                                   \
    }
// Mamba-1 and Mamba-2 of state-spaces: layers, D; E = 2 D, W 4.
#define MAMBA(l, d)                                                                                                    \
    {                                                                                                                  \
        .n_layers = l, .width = d, .vocab = 50280, .vocab_real = 50277, .context = 1u << 20, .norm_eps = 1e-5f,        \
        .tied = true, .ssm = 1, .inner = 2 * (d), .conv = 4, .state = 16, .dt_rank = ((d) + 15) / 16                   \
    }
#define MAMBA2(l, d)                                                                                                   \
    {                                                                                                                  \
        .n_layers = l, .width = d, .vocab = 50288, .vocab_real = 50277, .context = 1u << 20, .norm_eps = 1e-5f,        \
        .tied = true, .ssm = 2, .inner = 2 * (d), .conv = 4, .state = 128, .dt_rank = (d) / 32, .groups = 1            \
    }
// Mamba in the Llama, every second layer attention: layers, D, H, G, C, F, kind, N, dt_rank, groups.
#define HYBRID(l, d, h, g, c, f, tie, kind, n, rank, groups_)                                                          \
    {                                                                                                                  \
        .n_layers = l, .width = d, .heads = h, .heads_kv = g, .head = c, .ffn = f, .vocab = 128256,                    \
        .vocab_real = 128256, .context = 131072, .norm_eps = 1e-5f, .rope_base = 5e5, .rotated = c,                    \
        .rope = FM_ROPE_NEOX, .tied = tie, .ssm = kind, .inner = (h) * (c), .conv = 4, .state = n, .dt_rank = rank,    \
        .groups = groups_, .xb = (g) * (c), .attention = odd_layers                                                    \
    }

// 1, 3, 5, ...: the layers that stay attention in the half hybrids.
#define ODD8 false, true, false, true, false, true, false, true
static const bool odd_layers[32] = {ODD8, ODD8, ODD8, ODD8};

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
    {"qwen2.5-7b-1m", "qwen2", {.n_layers = 28, .width = 3584, .heads = 28, .heads_kv = 4, .head = 128, .ffn = 18944,
                                .vocab = 152064, .vocab_real = 151665, .context = 1010000, .norm_eps = 1e-5f,
                                .rope_base = 1e7, .rotated = 128, .rope = FM_ROPE_NEOX, .chunk = 253952, .cap = 262144,
                                .original = 262144}},
    {"gpt2-124m", "gpt2", GPT2(12, 768, 12)},
    {"gpt2-355m", "gpt2", GPT2(24, 1024, 16)},
    {"gpt2-774m", "gpt2", GPT2(36, 1280, 20)},
    {"gpt2-1.5b", "gpt2", GPT2(48, 1600, 25)},
    {"transnormer-385m", "transnormer", TRANSNORMER(24, 1024, 8, 2816, 32)},
    {"transnormer-1b", "transnormer", TRANSNORMER(16, 2048, 16, 5632, 45.2548340f)},
    {"transnormer-3b", "transnormer", TRANSNORMER(32, 2560, 20, 6912, 1)},
    {"transnormer-7b", "transnormer", TRANSNORMER(30, 4096, 32, 11008, 1)},
    {"transnormer-13b", "transnormer", TRANSNORMER(36, 5120, 40, 13824, 1)},
    {"transnormer-65b", "transnormer", TRANSNORMER(72, 8192, 64, 22016, 1)},
    {"transnormer-175b", "transnormer", TRANSNORMER(88, 12288, 96, 32768, 1)},
    {"mamba-130m", "mamba", MAMBA(24, 768)},
    {"mamba-370m", "mamba", MAMBA(48, 1024)},
    {"mamba-790m", "mamba", MAMBA(48, 1536)},
    {"mamba-1.4b", "mamba", MAMBA(48, 2048)},
    {"mamba-2.8b", "mamba", MAMBA(64, 2560)},
    {"falcon-mamba-7b", "mamba", {.n_layers = 64, .width = 4096, .vocab = 65024, .vocab_real = 65024, .context = 1u << 20,
                                  .norm_eps = 1e-5f, .mixer_eps = 1e-6f, .dt_b_c_norm = true, .ssm = 1, .inner = 8192,
                                  .conv = 4, .state = 16, .dt_rank = 256}},
    {"mamba2-130m", "mamba2", MAMBA2(24, 768)},
    {"mamba2-370m", "mamba2", MAMBA2(48, 1024)},
    {"mamba2-780m", "mamba2", MAMBA2(48, 1536)},
    {"mamba2-1.3b", "mamba2", MAMBA2(48, 2048)},
    {"mamba2-2.7b", "mamba2", MAMBA2(64, 2560)},
    {"mambainllama-3b", "mambainllama", HYBRID(28, 3072, 24, 8, 128, 8192, true, 1, 16, 192, 1)},
    {"mambainllama-8b", "mambainllama", HYBRID(32, 4096, 32, 8, 128, 14336, false, 1, 16, 256, 1)},
    {"mamba2inllama-3b", "mambainllama", HYBRID(28, 3072, 24, 8, 128, 8192, true, 2, 128, 24, 24)},
    {"mamba2inllama-8b", "mambainllama", HYBRID(32, 4096, 32, 8, 128, 14336, false, 2, 128, 32, 32)},
    {0},
};

const struct fm_shape *fm_shape_find(const char *name)
{
    for (const struct fm_shape *s = fm_shapes; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}
