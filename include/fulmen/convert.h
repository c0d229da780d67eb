// SPDX-License-Identifier: MIT
// Making model files: from checkpoint folders, from other model files, and hybrids from Llamas. No device is needed, and
// memory stays at a few hundred MB whatever the model's size. The result appears under its final name only when it is
// whole and was read back (fulmen/writer.h); it replaces a file of that name, but none that it is made of. FM_ARG where the
// name is at fault, FM_WRITE where the file cannot be written.
#ifndef FULMEN_CONVERT_H
#define FULMEN_CONVERT_H

#include "fulmen/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_convert_params {
    // Type of the matrices: "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k" or "q6_k";
    // NULL = as they are stored. Vectors, convolutions, positions and what else is small stay f32. With a type of less
    // than 8 bits the output head (or the embedding that stands for it) becomes q6_k. Rows that do not fill the type's
    // blocks become q8_0, or else f16.
    const char *type;
    const char *pre;          // tokenizer.ggml.pre; NULL = found by the tokenizer's expressions. Checkpoints only
    fm_progress_fn *progress; // of the bytes read; NULL = none. false ends it with FM_CANCELLED and no file
    void *user;
};

// A checkpoint folder (config.json, safetensors or PyTorch .bin files, the tokenizer's files) to GGUF.
// FM_IO, FM_FORMAT, FM_UNSUPPORTED (an unknown model_type lists the known ones), FM_NOMEM, FM_CANCELLED. Missing, extra,
// mis-shaped and mis-typed tensors are logged one by one. `params` may be NULL.
FM_API enum fm_result fm_convert(const char *folder, const char *out_path, const struct fm_convert_params *params);

// A GGUF file to one of another type; the metadata is kept. params->type must be set. FM_ARG where out_path is that file.
FM_API enum fm_result fm_quantize(const char *path, const char *out_path, const struct fm_convert_params *params);

// How a Llama becomes a hybrid.
struct fm_hybrid_params {
    const uint32_t *attention_layers; // indices of the layers that stay attention
    size_t n_attention_layers;        // 0 = none stays
    uint32_t ssm_version;             // of the layers that are not attention: Mamba-1 or Mamba-2; 0 = 2
    uint64_t seed;                    // of the new parameters: the same seed gives the same file
};

// Mamba in the Llama, Algorithm 1 (Wang et al. 2024, arXiv 2408.15237): in every layer that does not stay attention the
// projections of queries, keys, values and output become those of C, B, x and output; the parameters that attention
// does not have are initialised as the authors' code does. The result is ready for distillation, not for use.
// `path`: a GGUF file of architecture llama.
FM_API enum fm_result fm_convert_mambainllama(const char *path, const char *out_path, const struct fm_hybrid_params *hybrid,
                                              const struct fm_convert_params *params);

#ifdef __cplusplus
}
#endif

#endif
