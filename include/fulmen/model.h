// SPDX-License-Identifier: MIT
// Models: a file opened, described, and put on a device.
#ifndef FULMEN_MODEL_H
#define FULMEN_MODEL_H

#include "fulmen/device.h"
#include "fulmen/text.h"

#ifdef __cplusplus
extern "C" {
#endif

// A model file and, once loaded, its weights on a device. Opening and loading are for one thread; after that it is
// immutable and may be shared by sessions of any threads. Outlives its sessions.
struct fm_model;

// Dual chunk attention (An et al., "Training-free long-context scaling of large language models", 2024): positions never grow
// beyond a cap, so that a model of rotary positions reads texts longer than it was made for.
enum fm_dca {
    FM_DCA_FILE,  // as the model file says
    FM_DCA_OFF,
    FM_DCA_AUTO,  // cap 3/4 and window 1/8 of the model's context
    FM_DCA_GIVEN, // dca_cap, dca_local
};

// How a session will be made; all-zero means defaults. Given at load time it lets the model be refused when its
// weights fit but the session would not.
struct fm_session_params {
    uint32_t n_ctx;           // positions of each slot; 0 = the model's, at most 4096
    uint32_t n_slots;         // sequences held at the same time; 0 = 1
    uint32_t n_ubatch;        // most tokens of one step; 0 = 512. At least n_slots; never more than all slots hold
    const char *cache_type_k; // "f16", "f32" or "q8_0" (n_ctx is then rounded up to a multiple of 8); NULL = f32 when
                              // all matrices of the model are f32, else f16
    const char *cache_type_v; // must be the same as cache_type_k
    const char *activations;  // "auto" or "q8"; NULL = auto. With q8 products of 9 rows and more with quantised weights may see
                              // activations as integers of 8 bits, off by up to 2^-8 of the largest of each 32 neighbours, where
                              // the device has no matrix units, but fast integer dot products; else nothing changes
    uint32_t n_rollback;      // tokens that a sequence can always be rolled back, at most 14: recurrent models keep as many
                              // states more. Models of attention alone roll back anywhere
    enum fm_dca dca;          // all but FM_DCA_FILE and FM_DCA_OFF: FM_UNSUPPORTED for models without rotary positions
    uint32_t dca_cap, dca_local; // largest relative position; positions around a token that stay exact, fewer than dca_cap
    fm_cancel_fn *cancel;        // NULL = none. Asked between steps and between pipelines, also while the session is created
    void *cancel_user;
};

struct fm_model_info {
    const char *path;         // or the name of the built-in shape; lives as long as the model, like all strings here
    const char *name;         // general.name as the file has it (untrusted: see fm_quote), "" when it has none
    size_t name_bytes;        // without the NUL at its end; there may be others
    const char *arch;         // "llama"
    const char *type;         // type of most weight bytes: "q4_K"
    uint32_t n_layers, width, heads, heads_kv, head, ffn, vocab;
    uint32_t context;         // positions that it was made for
    uint64_t n_params;        // elements of all weights
    uint64_t file_bytes;      // 0 for built-in shapes
    uint64_t weight_bytes;    // on the device
    uint64_t token_bytes;     // weight bytes that decoding one token reads
    bool is_recurrent;        // has states that are the same size for any number of tokens, and go back n_rollback tokens
};

// Open a model file: header, configuration, tensors, tokenizer. No device is needed, and no weight is read.
// FM_IO, FM_FORMAT, FM_UNSUPPORTED, FM_NOMEM; the message begins with the path.
FM_API enum fm_result fm_model_open(const char *path, struct fm_model **out_model);
// A built-in shape ("llama-8b", see fm_model_shape_name) with random weights of `type` ("f16", "q4_0", ...), for
// benchmarks. It has no tokenizer. FM_ARG lists the known names.
FM_API enum fm_result fm_model_open_shape(const char *shape, const char *type, struct fm_model **out_model);
FM_API const char *fm_model_shape_name(size_t index); // NULL past the last
// Accepts NULL. The model's sessions must be gone.
FM_API void fm_model_close(struct fm_model **model);

// fm_writer_check, and that `path` is not the model's file, which is in use as long as the model is: also where the file has got
// another name since it was opened. FM_ARG, FM_WRITE, FM_NOMEM.
FM_API enum fm_result fm_model_check_output(const struct fm_model *model, const char *path);

FM_API void fm_model_get_info(const struct fm_model *model, struct fm_model_info *out_info);
// NULL when the file has none.
FM_API const struct fm_tokenizer *fm_model_tokenizer(const struct fm_model *model);
// Number of elements per weight type, most bytes first: *out_name = "q4_K", *out_elems, *out_bytes (on the device).
// false past the last.
FM_API bool fm_model_type_at(const struct fm_model *model, size_t index, const char **out_name, uint64_t *out_elems,
                             uint64_t *out_bytes);

// Device memory of the model with one session, in bytes.
struct fm_memory_need {
    uint64_t weights_bytes, state_bytes, arena_bytes, step_bytes, result_bytes;
    uint64_t total_bytes;
    uint64_t state_fixed_bytes;        // of state_bytes: the same for any n_ctx, as recurrent states are
    uint32_t n_ctx, n_slots, n_ubatch; // what the parameters came to
    uint32_t n_versions;               // state versions: how many of each recurrent state are kept; 0 = the model has none
};
// What `params` (NULL = defaults) would need on `device`. FM_UNSUPPORTED when the device cannot run the model.
FM_API enum fm_result fm_model_need(const struct fm_model *model, const struct fm_device *device,
                                    const struct fm_session_params *params, struct fm_memory_need *out_need);

// ---- looking at all of a file -----------------------------------------------------------------------------------------

enum fm_finding_kind {
    FM_FINDING_NONFINITE, // a tensor has weights that are infinite or NaN
    FM_FINDING_UNUSED,    // nothing of the architecture reads the tensor
};

struct fm_finding {
    enum fm_finding_kind kind;
    const char *path, *tensor; // the file that it is in, and its name there (untrusted: see fm_quote); live until the call returns
    uint64_t elems;            // of the tensor
    uint64_t count, first;     // NONFINITE: how many, and the index of the first. A block with such a scale counts whole
};

typedef void fm_finding_fn(void *user, const struct fm_finding *finding);
// Called now and then from the calling thread; false stops with FM_CANCELLED.
typedef bool fm_progress_fn(void *user, uint64_t done, uint64_t total);

struct fm_verify_params {
    fm_finding_fn *finding;   // called from the calling thread, tensor by tensor; NULL = only counted
    fm_progress_fn *progress; // of bytes; NULL = none
    void *user;
};

struct fm_verify_result {
    uint64_t tensors, bytes, findings; // bytes of all tensors
};

// Read all of a model file (GGUF, safetensors, PyTorch) or checkpoint folder and look at every weight. FM_OK also when there are
// findings. What keeps a file from being opened at all, as tensors that overlap, is an error with its message. Unused tensors are
// looked for in GGUF files of a known architecture. FM_IO, FM_CHANGED, FM_FORMAT, FM_UNSUPPORTED, FM_NOMEM, FM_CANCELLED.
FM_API enum fm_result fm_verify(const char *path, const struct fm_verify_params *params, struct fm_verify_result *out_result);

struct fm_load_params {
    const struct fm_session_params *session; // NULL = defaults: see there
    fm_progress_fn *progress;                // of weight bytes; NULL = none
    void *user;
};
// Put the weights on the device, through a staging ring of fixed size. FM_NOSPACE with the sizes, before anything is
// uploaded, when weights and session do not fit; then, and after FM_CANCELLED, nothing stays on the device. FM_ARG when
// it is loaded already. `params` may be NULL.
FM_API enum fm_result fm_model_load(struct fm_model *model, struct fm_device *device,
                                    const struct fm_load_params *params);

// The compiled program for a step of `n_tokens`, at most `n_run` of them of one sequence (0 = all), both rounded up to their bucket, in
// a session made with `params`, as text: pools, then one line a dispatch. Weights need not be loaded. FM_ARG when n_tokens is 0 or less
// than n_run. Release with fm_text_free.
FM_API enum fm_result fm_model_explain(const struct fm_model *model, const struct fm_device *device,
                                       const struct fm_session_params *params, uint32_t n_tokens, uint32_t n_run,
                                       char **out_text);
// Why node `name` of that program got its kernel: every candidate with the reason for or against it. FM_ARG when there
// is no such node. Release with fm_text_free.
FM_API enum fm_result fm_model_why(const struct fm_model *model, const struct fm_device *device,
                                   const struct fm_session_params *params, uint32_t n_tokens, uint32_t n_run,
                                   const char *name, char **out_text);

#ifdef __cplusplus
}
#endif

#endif
