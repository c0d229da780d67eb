// SPDX-License-Identifier: MIT
// What an architecture file provides: configuration keys, the table of weights, the graph.
#ifndef FM_MODELS_ARCH_H
#define FM_MODELS_ARCH_H

#include "format/file.h"
#include "graph/builder.h"

#define FM_MAX_LAYERS 1024

// Hyper-parameters. All architectures share one struct; a field that an architecture does not use is 0.
struct fm_config {
    uint32_t n_layers;
    uint32_t width;          // D
    uint32_t heads;          // H
    uint32_t heads_kv;       // G
    uint32_t head;           // C
    uint32_t ffn;            // F
    uint32_t vocab;          // V: rows of the embedding table
    uint32_t vocab_real;     // ids that the tokenizer knows; rows beyond are padding and never sampled
    uint32_t context;        // positions the model was made for
    float norm_eps;
    double rope_base;
    uint32_t rotated;        // elements of each head that RoPE turns
    uint8_t rope;            // enum fm_rope_kind
    uint32_t window;         // sliding window in positions; 0 = none
    bool position_table;     // learned positions: the context is what the table holds
    bool tied;               // the head is the embedding table
    double *rope_divisors;   // [rotated/2], in the model's arena; NULL = all 1
    uint32_t chunk, cap, original; // dual chunk attention (struct fm_attr); chunk 0 = off

    // Recurrent families and hybrids.
    uint8_t ssm;             // mixer of the layers that are no attention: 1 selective scan, 2 SSD; 0 = neither
    uint32_t inner;          // E: channels of the mixer
    uint32_t conv;           // W: taps of the convolution
    uint32_t state;          // N
    uint32_t dt_rank;        // width of the low-rank time step; SSD: number of SSM heads
    uint32_t groups;         // SSD: groups of b and c, and of the gated norm
    uint32_t xb;             // d_xb of Mamba in the Llama: width of x and b before they are repeated
    bool dt_b_c_norm;        // Falcon-Mamba: dt, b and c are normalised, with
    float mixer_eps;         // this eps
    const bool *attention;   // [n_layers] of a hybrid: layers that are attention, in the model's arena; NULL = no layer
    float embed_scale;       // embeddings times this; 0 counts as 1
    uint8_t act;             // enum fm_act_kind of linear attention's queries and keys
    const double *decay;     // [n_layers,H]: rates of linear attention; NULL = as TransNormerLLM's code computes them
    const double *const *lrpe; // [n_layers]: radians per position [H,C], NULL where a layer has no LRPE; NULL = layer 0, initial
};

// Letters that weight shapes are written in.
enum fm_letter { FM_L_END, FM_L_V, FM_L_D, FM_L_F, FM_L_HC, FM_L_GC, FM_L_HCGC /* HC + GC */, FM_L_QKV /* HC + 2 GC */,
    FM_L_P /* context */, FM_L_R /* rotated/2 */,
    FM_L_HEADS, FM_L_HEAD, FM_L_HC2, FM_L_HC3, FM_L_HC4, // H, C, multiples of HC
    FM_L_E, FM_L_E2, FM_L_W, FM_L_N, FM_L_DT /* dt_rank */, FM_L_DTN /* DT + N */, FM_L_DT2N,
    FM_L_XB, FM_L_EXB /* E + XB */, FM_L_EXB2 /* E + 2 XB */, FM_L_E2XB2, FM_L_E2XB2DT,
    FM_L_XBC /* channels of SSD's convolution */, FM_L_EXBC, FM_L_EXBCDT, FM_L_COUNT };

enum fm_weight_flags {
    FM_W_OPTIONAL = 1, // may be absent
    FM_W_F32 = 2,      // vectors: converted to f32 at load whatever the file holds
    FM_W_LAYER = 4,    // one per layer: the name holds %u
    FM_W_HEAD = 8,     // there exactly when the head is not tied to the embedding
    FM_W_CONFIG = 16,  // read by config(): its shape is checked, no value is made
    FM_W_FLAT = 32,    // a vector that files may hold with more dimensions
    FM_W_ATTENTION = 64, // there in layers that are attention
    FM_W_MIXER = 128,    // there in layers that are none
    FM_W_SSM1 = 256,     // there when config.ssm is 1
    FM_W_SSM2 = 512,     // there when config.ssm is 2
};

struct fm_weight_spec {
    uint32_t role; // index in the architecture's own enum; dense from 0
    const char *name; // "blk.%u.attn_q.weight"
    uint8_t shape[FM_MAX_DIMS]; // enum fm_letter, PyTorch order
    uint32_t flags;
    // Roles that are a row range of one tensor: rows [row0, row0 + shape[0]) of `tensor_rows` (both enum fm_letter;
    // row0 FM_L_END = 0). tensor_rows FM_L_END: the role is the whole tensor.
    uint8_t tensor_rows, row0;
};

// Values of the graph by role and layer; made by the binder before build() is called.
struct fm_weights {
    const uint32_t *ids; // [n_layers + 1][n_roles]; row n_layers = the weights that are not per layer
    uint32_t n_roles, n_layers;
};
// FM_NONE when an optional weight is absent. layer = FM_NONE for weights of the whole model.
uint32_t fm_weight(const struct fm_weights *weights, uint32_t layer, uint32_t role);

struct fm_arch {
    const char *name;           // general.architecture
    const char *const *aliases; // NULL-terminated or NULL
    const struct fm_weight_spec *weights;
    uint32_t n_weights, n_roles;
    const char *const *keys; // all that config() reads, without "<arch>."; NULL-terminated
    // Read and range-check the keys. `arena` owns what the configuration points to.
    enum fm_result (*config)(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config);
    void (*build)(struct fm_builder *b, const struct fm_config *config, const struct fm_weights *weights);
};

extern const struct fm_arch *const fm_archs[]; // NULL-terminated
const struct fm_arch *fm_arch_find(const char *name, size_t name_bytes); // NULL when unknown

// Configuration of a file; FM_UNSUPPORTED lists the known architectures when its own is unknown, and names a key that the
// architecture does not read although it would change what is computed (extra.c).
enum fm_result fm_arch_open(const struct fm_file *file, struct fm_arena *arena, const struct fm_arch **out_arch,
                            struct fm_config *out_config);

// Bind the file's tensors to roles (strict: a missing, mis-shaped or mis-typed tensor is FM_FORMAT naming tensor,
// expected and found; one that is used by nothing and not known as harmless is FM_UNSUPPORTED) and build the graph.
// file = NULL: random weights of `random_type` (norm vectors stay f32).
struct fm_graph_options {
    enum fm_type kv_type[2];
    enum fm_type random_type;
};
enum fm_result fm_arch_build(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file,
                             const struct fm_graph_options *options, struct fm_graph *out_graph);

// Call `fn` with each tensor of the file that no role of the architecture takes, in the file's order. FM_NOMEM.
enum fm_result fm_arch_unused(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file,
                              void (*fn)(void *user, const struct fm_tensor *tensor), void *user);

// ---- what nothing reads: extra.c ------------------------------------------------------------------------------------

// FM_UNSUPPORTED naming the first key, or the first tensor, that nothing reads and that would change what is computed.
enum fm_result fm_extra_keys(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file);
enum fm_result fm_extra_tensors(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file);
// Why an unused tensor of this name changes nothing, or NULL: it could.
const char *fm_extra_tensor_harmless(const char *name);

// Built-in shapes for benchmarks: "llama-8b", "llama-1b", "llama2-7b", "qwen2-7b", "gpt2-1.5b", ... NULL when unknown.
struct fm_shape {
    const char *name, *arch;
    struct fm_config config;
};
extern const struct fm_shape fm_shapes[]; // ends with name = NULL
const struct fm_shape *fm_shape_find(const char *name);

// ---- for architectures: keys.c --------------------------------------------------------------------------------------
// FM_KEYS_*: the names of the keys that the function below it reads, for fm_arch.keys.

// The keys that all decoder-only transformers share: n_layers, width, ffn, heads, heads_kv, head, context, vocab,
// vocab_real, tied.
#define FM_KEYS_DECODER "block_count", "embedding_length", "feed_forward_length", "context_length", "vocab_size",           \
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length", "expert_count"
enum fm_result fm_keys_decoder(const struct fm_file *file, const char *arch, struct fm_config *config);
// Those that are left where there is no attention and maybe no feed-forward part: n_layers, width, context, vocab,
// vocab_real, tied.
#define FM_KEYS_RECURRENT "block_count", "embedding_length", "context_length", "vocab_size"
enum fm_result fm_keys_recurrent(const struct fm_file *file, const char *arch, struct fm_config *config);
// <arch>.ssm.*: conv, inner, state, dt_rank.
#define FM_KEYS_SSM "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank"
enum fm_result fm_keys_ssm(const struct fm_file *file, const char *arch, struct fm_config *config);
// An integer key "<arch>.<key>" in 1..max; fallback 0 = required.
enum fm_result fm_keys_size(const struct fm_file *file, const char *arch, const char *key, uint32_t max, uint32_t fallback,
                            uint32_t *out_value);
// <arch>.attention.dual_chunk.*: chunk, cap, original; all 0 without chunk_size.
#define FM_KEYS_DUAL_CHUNK "attention.dual_chunk.chunk_size", "attention.dual_chunk.local_size",                          \
    "attention.dual_chunk.original_context_length"
enum fm_result fm_keys_dual_chunk(const struct fm_file *file, const char *arch, struct fm_config *config);
// "<arch>.<key>"; `fallback` NAN = required. Finite and in (0, 1e12], else FM_FORMAT.
enum fm_result fm_keys_positive(const struct fm_file *file, const char *arch, const char *key, double fallback,
                                double *out_value);
// RoPE: rotated, rope_base and rope_divisors from rope.dimension_count, rope.freq_base, rope.scaling.* and the tensor
// rope_freqs.weight.
#define FM_KEYS_ROPE "rope.dimension_count", "rope.freq_base", "rope.scale_linear", "rope.scaling.type",                   \
    "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.low_freq_factor", "rope.scaling.high_freq_factor"
enum fm_result fm_keys_rope(const struct fm_file *file, const char *arch, struct fm_arena *arena,
                            struct fm_config *config);

#endif
