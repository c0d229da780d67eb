// SPDX-License-Identifier: MIT
// Checkpoint folders: one family a file, each with its configuration keys and a table of tensors. Internal to convert/.
#ifndef FM_CONVERT_HF_H
#define FM_CONVERT_HF_H

#include "convert/conf.h"
#include "convert/output.h"
#include "format/checkpoint.h"

#define FM_HF_LAYERS_MAX 1024
#define FM_HF_SIZE_MAX (1u << 24) // of any width

// Sizes that shapes are written in; families set those that they use.
enum fm_size {
    FM_S_END,
    FM_S_1,
    FM_S_V,   // vocabulary
    FM_S_D,   // width
    FM_S_3D,
    FM_S_4D,
    FM_S_F,   // feed-forward
    FM_S_Q,   // query heads times head width
    FM_S_K,   // key heads times head width
    FM_S_P,   // positions
    FM_S_H,   // heads (Mamba-2: of the state; TransNormer: of attention)
    FM_S_C,   // head width
    FM_S_I,   // inner width of a Mamba
    FM_S_IN,  // rows of Mamba-2's input projection
    FM_S_X,   // rows of Mamba-1's x projection
    FM_S_R,   // rank of the time step
    FM_S_N,   // state size
    FM_S_W,   // convolution width
    FM_S_CH,  // channels of Mamba-2's convolution
    FM_S_G,   // groups of b and c (Mamba-2)
    FM_S_IG,  // I / G
    FM_S_COUNT
};

enum fm_rule_flags {
    FM_R_LAYER = 1,     // one per layer: the names hold %u
    FM_R_OPTIONAL = 2,
    FM_R_JOIN = 4,      // more rows of the output of the rule before
    FM_R_PERMUTE_Q = 8, // rows as RoPE of GGUF's llama wants them, by query heads
    FM_R_PERMUTE_K = 16,
    FM_R_TRANSPOSE = 32,
    FM_R_NEG_EXP = 64,
    FM_R_HEAD = 128,    // there exactly when the head is not tied to the embedding
    FM_R_KIND_A = 256, // only in layers of this kind (fm_hf.layer_kind)
    FM_R_KIND_B = 512,
};
#define FM_R_KINDS (FM_R_KIND_A | FM_R_KIND_B)

struct fm_rule {
    const char *from, *alias; // names in the checkpoint; alias NULL = only one
    const char *to;           // name in the file; JOIN: NULL
    uint8_t shape[4];         // of the source, enum fm_size
    uint8_t out[3];           // empty = the source's without its ones
    uint32_t flags;
};

struct fm_hf;

struct fm_family {
    const char *model_type; // config.json's word for it
    const char *arch;       // general.architecture
    const struct fm_rule *rules;
    uint32_t n_rules;
    const char *const *prefixes; // put before names; NULL-terminated, or NULL: none
    const char *const *ignored;  // ends of names that carry nothing; NULL-terminated, or NULL
    const char *const *keys;     // members of config.json that config() and extra() read, or that change nothing in this family;
                                 // NULL-terminated (extra.c)
    bool copies_head;            // a tied head is written all the same, as GGUF files of this family have it
    // Read the configuration: sizes, tie, keys.
    enum fm_result (*config)(struct fm_hf *hf);
    // Tensors that are computed; may be NULL.
    enum fm_result (*extra)(struct fm_hf *hf);
};

struct fm_hf {
    struct fm_conv *conv;
    const char *folder;
    const struct fm_family *family;
    struct fm_conf config;     // config.json
    struct fm_conf hybrid;     // mamba_config.json; root NULL when there is none
    struct fm_conf generation; // generation_config.json; root NULL when there is none
    struct fm_checkpoint *checkpoint;
    const char *pre; // tokenizer.ggml.pre as the caller has it, or NULL

    uint64_t size[FM_S_COUNT];
    uint32_t n_layers, heads, heads_kv; // heads: those that PERMUTE turns
    bool tied;
    uint32_t layer_kind[FM_HF_LAYERS_MAX];  // FM_R_KIND_* of each layer
    float *rope_divisors;                   // [C/2] of llama3's scaling, in the arena; NULL = none
};

// ---- choosing and writing (convert.c, rules.c) ---------------------------------------------------------------------

// The family that the configuration names. FM_UNSUPPORTED lists the known ones.
enum fm_result fm_hf_family(struct fm_hf *hf);
// Find every tensor of the table, check names, types and shapes, add the outputs. Problems are logged one by one.
enum fm_result fm_hf_tensors(struct fm_hf *hf);
// tokenizer.* keys from the folder's files (vocab.c).
enum fm_result fm_hf_vocab(struct fm_hf *hf);

// FM_UNSUPPORTED naming the first member of config.json that the family does not read although its name is that of something
// which changes the mathematics, and its value is not neutral (extra.c).
enum fm_result fm_hf_extra_keys(const struct fm_hf *hf);

// ---- for families (keys.c) -----------------------------------------------------------------------------------------

// Put "<arch>.<key>".
void fm_hf_put_u32(struct fm_hf *hf, const char *key, uint64_t value);
void fm_hf_put_f32(struct fm_hf *hf, const char *key, double value);
void fm_hf_put_bool(struct fm_hf *hf, const char *key, bool value);
void fm_hf_put_string(struct fm_hf *hf, const char *key, const char *value);

// A width from 1 to FM_HF_SIZE_MAX; `key` and, for older or other dialects, `other` (NULL = none), which must be the same
// where both are there. fallback 0 = required.
enum fm_result fm_hf_size(const struct fm_hf *hf, const char *key, const char *other, uint64_t fallback, uint64_t *out_size);
// FM_FORMAT when `key` and `other`, two spellings of one setting, are both there and differ (spelling.c).
enum fm_result fm_hf_same(const struct fm_hf *hf, const char *key, const char *other);
// All that rope_parameters, rope_scaling and the configuration itself say of RoPE, as one object with rope_type, rope_theta,
// partial_rotary_factor and what the type needs. Release with cJSON_Delete. FM_FORMAT where they disagree, FM_UNSUPPORTED
// for settings by kind of layer.
enum fm_result fm_hf_rope_settings(const struct fm_hf *hf, cJSON **out_settings);
// FM_UNSUPPORTED unless the key is absent or false.
enum fm_result fm_hf_refuse_true(const struct fm_hf *hf, const char *key);
// FM_UNSUPPORTED unless the key is absent or one of two words.
enum fm_result fm_hf_expect_word(const struct fm_hf *hf, const char *key, const char *word, const char *other);
// rope.* and dual chunk attention, for a head of size[C]: rope_theta, rope_scaling or rope_parameters,
// dual_chunk_attention_config.
enum fm_result fm_hf_rope(struct fm_hf *hf);
// Keys and sizes that Llama and its relatives share, under the family's arch. FM_HF_LLAMA_KEYS: those members that extra.c
// would ask about.
#define FM_HF_LLAMA_KEYS                                                                                                    \
    "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "attention_bias", "mlp_bias",            \
        "dual_chunk_attention_config"
enum fm_result fm_hf_llama_keys(struct fm_hf *hf);
// The tensor rope_freqs.weight when rope_divisors are set.
enum fm_result fm_hf_rope_freqs(struct fm_hf *hf);

extern const struct fm_family fm_family_llama, fm_family_mistral, fm_family_qwen2, fm_family_gpt2, fm_family_mamba,
    fm_family_falcon_mamba, fm_family_mamba_ssm, fm_family_mamba2, fm_family_mamba2_ssm, fm_family_transnormer,
    fm_family_mambainllama1, fm_family_mambainllama2;

#endif
