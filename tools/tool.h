// SPDX-License-Identifier: MIT
// What the commands of the tool share: options, exit codes, signals, progress, opening things.
#ifndef FM_TOOLS_TOOL_H
#define FM_TOOLS_TOOL_H

#include <stdio.h>

#include "fulmen/fulmen.h"

enum tool_exit { TOOL_DONE = 0, TOOL_FAILED = 1, TOOL_BAD_INPUT = 2, TOOL_NO_DEVICE = 3 };

#define TOOL_SEED_CLOCK UINT64_MAX // no seed: the clock makes one
#define TOOL_UNTIL_END UINT32_MAX  // more tokens than any context holds

// ---- options (options.c) -------------------------------------------------------------------------------------------

enum tool_kind {
    TOOL_TEXT,
    TOOL_U32,
    TOOL_COUNT, // u32, at least 1
    TOOL_COUNT_OR_ALL, // u32; any negative number = 0 = no limit
    TOOL_LENGTH,       // u32; -1 and -2 = TOOL_UNTIL_END
    TOOL_LOOK_BACK,    // u32; -1 = UINT32_MAX = the whole context
    TOOL_SEED, // u64; -1 = TOOL_SEED_CLOCK
    TOOL_FLOAT,
    TOOL_PENALTY, // float, 0 or 0.01 to 100
    TOOL_FLAG,
    TOOL_DCA, // off, auto or CAP,LOCAL
};

struct tool_dca {
    enum fm_dca kind;
    uint32_t cap, local;
};

// X(id, short name, long name, argument, kind, field of struct tool_options, help)
#define TOOL_OPTIONS(X)                                                                                                \
    X(MODEL, "-m", "--model", "FILE", TEXT, model, "model file (GGUF)")                                                \
    X(SHAPE, NULL, "--shape", "NAME:TYPE", TEXT, shape, "random weights of a known shape, as llama-8b:q4_0")           \
    X(PROMPT, "-p", "--prompt", "TEXT", TEXT, prompt, "the text, or the prompt")                                        \
    X(FILE, "-f", "--file", "FILE", TEXT, file, "likewise, from a file; - is standard input")                           \
    X(TOKENS, NULL, "--tokens", "5,17,3", TEXT, tokens, "the prompt as token ids")                                     \
    X(PREDICT, "-n", "--n-predict", "N", LENGTH, predict, "most tokens to generate; -1, -2 = to the end or a full context (-1)") \
    X(CTX, "-c", "--ctx-size", "N", U32, ctx, "positions of the context (0: the model's)")                             \
    X(UBATCH, "-ub", "--ubatch-size", "N", U32, ubatch, "most tokens of one step (512)")                               \
    X(TEMP, NULL, "--temp", "T", FLOAT, temp, "temperature; 0 takes the likeliest token (0.8)")                        \
    X(TOP_K, NULL, "--top-k", "K", COUNT_OR_ALL, top_k, "only the K likeliest tokens; 0 = all (40)")                   \
    X(TOP_P, NULL, "--top-p", "P", FLOAT, top_p, "only the likeliest that make up P; 1 = all (0.95)")                  \
    X(MIN_P, NULL, "--min-p", "P", FLOAT, min_p, "only tokens of at least P of the likeliest's probability (0.05)")    \
    X(REPEAT, NULL, "--repeat-penalty", "R", PENALTY, repeat_penalty, "penalty on tokens seen before; 1 = none (1)")   \
    X(REPEAT_N, NULL, "--repeat-last-n", "N", LOOK_BACK, repeat_last_n, "tokens that the penalty looks back; 0 = none, -1 = all (64)") \
    X(SEED, "-s", "--seed", "SEED", SEED, seed, "of the random numbers; -1 takes the clock (-1)")                      \
    X(IGNORE_END, NULL, "--ignore-eos", NULL, FLAG, ignore_end, "go on after the end of the text")                     \
    X(CTK, "-ctk", "--cache-type-k", "TYPE", TEXT, cache_type_k, "f16, f32 or q8_0 (f16)")                                  \
    X(CTV, "-ctv", "--cache-type-v", "TYPE", TEXT, cache_type_v, "f16, f32 or q8_0, as the keys")                     \
    X(ACTIVATIONS, NULL, "--activations", "TYPE", TEXT, activations, "auto, or q8: integers of 8 bits where that is faster (auto)") \
    X(DCA, NULL, "--dca", "CAP,LOCAL", DCA, dca, "dual chunk attention: auto, off or its sizes (as the model says)")    \
    X(DEVICE, "-dev", "--device", "SEL", TEXT, device, "index, UUID or part of a name (see fulmen devices)")           \
    X(RUNG, NULL, "--rung", "RUNG", TEXT, rung, "use no kernels above: base sg f16 dot cm cmr")                        \
    X(TUNING, NULL, "--tuning", "FILE", TEXT, tuning, "what was measured on this device, in place of what is shipped")  \
    X(JSON, NULL, "--json", NULL, FLAG, json, "one JSON object on standard output")                                    \
    X(ALL, NULL, "--all", NULL, FLAG, all, "of every token, not only the last")                                        \
    X(OUTPUT, "-o", "--output", "FILE", TEXT, output, "write there, not to standard output")                           \
    X(VERIFY, NULL, "--verify", NULL, FLAG, verify, "read all of the file: weights that are no numbers, unused tensors")     \
    X(WHY, NULL, "--why", "NODE", TEXT, why, "every kernel for one node, and why it was taken or not")                 \
    X(STEP, NULL, "--step", "N", U32, step, "plan of a step of N tokens (1)")                                          \
    X(RUN, NULL, "--run", "N", U32, step_run, "a step with at most N tokens of one sequence (as many as --step)")      \
    X(SYSTEM, "-sys", "--system-prompt", "TEXT", TEXT, system, "the system message")                                   \
    X(TEMPLATE, NULL, "--chat-template", "NAME", TEXT, chat_template, "plain chatml llama2 llama3 mistral zephyr")     \
    X(VERBOSE, "-v", "--verbose", NULL, FLAG, verbose, "say more on standard error")                                   \
    X(BENCH_P, "-p", "--n-prompt", "N,...", TEXT, bench_p, "prompt lengths (512)")                                     \
    X(BENCH_N, "-n", "--n-gen", "N,...", TEXT, bench_n, "numbers of tokens to generate (128)")                         \
    X(BENCH_D, "-d", "--n-depth", "N,...", TEXT, bench_d, "tokens in the cache before (0)")                            \
    X(BENCH_NP, "-np", "--parallel", "N,...", TEXT, bench_np, "sequences at once, each with a prompt of its own")      \
    X(PROFILE, NULL, "--profile", NULL, FLAG, profile, "where the time of a step goes, by op and by kernel")           \
    X(BENCH_R, "-r", "--repetitions", "N", U32, bench_r, "samples of each test (5)")                                   \
    X(BENCH_O, "-o", "--output", "FORMAT", TEXT, bench_o, "md, json, jsonl or csv (md)")                               \
    X(PLOT, NULL, "--plot", "FILE.png", TEXT, plot, "draw tokens/s against depth into a picture")                      \
    X(STATE_SAVE, NULL, "--state-save", "FILE", TEXT, state_save, "keep the sequence in a file, also after Ctrl-C")      \
    X(STATE_LOAD, NULL, "--state-load", "FILE", TEXT, state_load, "go on from such a file; then no prompt is needed")  \
    X(CHECK_OP, NULL, "--op", "OP", TEXT, op, "only this op")                                                          \
    X(CHECK_KERNEL, NULL, "--kernel", "TEXT", TEXT, kernel, "only kernels with this in their name")                    \
    X(CHECK_PROBLEM, NULL, "--problem", "TEXT", TEXT, problem, "only problems with this in their name")                \
    X(ALL_KERNELS, NULL, "--all", NULL, FLAG, all_kernels, "every kernel that can run, not only the one chosen")       \
    X(NO_BOS, NULL, "--no-bos", NULL, FLAG, no_bos, "no token for the beginning of the text")                          \
    X(NO_SPECIAL, NULL, "--no-parse-special", NULL, FLAG, no_parse_special, "special tokens are read as plain text")  \
    X(KERNEL_R, "-r", "--repetitions", "N", COUNT, kernel_r, "replays of each kernel (20)")                            \
    X(CHECK_SEED, "-s", "--seed", "SEED", U32, check_seed, "of the random operands (1)")                                          \
    X(CONVERT_O, "-o", "--output", "FILE", TEXT, convert_o, "the GGUF file to make")                                              \
    X(TYPE, NULL, "--type", "TYPE", TEXT, type, "of the matrices: f32 f16 bf16 q8_0 q6_k q5_k q4_k q4_0 ... (as they are stored)") \
    X(PRE, NULL, "--pre", "NAME", TEXT, pre, "pre-tokenizer, where its expressions are not known")                                \
    X(TO, NULL, "--to", "mambainllama", TEXT, to, "make a hybrid of a llama GGUF file, to be distilled")                          \
    X(ATTENTION, NULL, "--attention-layers", "1,3,5", TEXT, attention_layers, "with --to: layers that stay attention, or none")   \
    X(SSM, NULL, "--ssm", "1|2", U32, ssm, "with --to: layers of Mamba-1 or of Mamba-2 (2)")                                          \
    X(CONVERT_SEED, "-s", "--seed", "SEED", U32, convert_seed, "with --to: of the new parameters (1)")

// Options of llama.cpp that have no meaning here. Commands that take a model accept them with a line on standard error.
// X(short name, long names or NULL, another, value, only command or NULL, why)
#define TOOL_NEEDLESS(X)                                                                                               \
    X("-ngl", "--gpu-layers", "--n-gpu-layers", ONE, NULL, "the whole model is on the device (--device picks it)")     \
    X("-t", "--threads", NULL, ONE, NULL, "the device does the work")                                                  \
    X("-tb", "--threads-batch", NULL, ONE, NULL, "the device does the work")                                           \
    X("-fa", "--flash-attn", NULL, SWITCH, NULL, "attention always works over tiles")                                  \
    X("-b", "--batch-size", NULL, ONE, NULL, "a prompt may have any length (-ub sets the tokens of a step)")           \
    X("-sm", "--split-mode", NULL, ONE, NULL, "one device runs the whole model (--device picks it)")                   \
    X("-ts", "--tensor-split", NULL, ONE, NULL, "one device runs the whole model (--device picks it)")                 \
    X("-mg", "--main-gpu", NULL, ONE, NULL, "one device runs the whole model (--device picks it)")                     \
    X("-mmp", "--mmap", NULL, SWITCH, NULL, "files are always read, and copied to the device once")                  \
    X(NULL, "--no-mmap", NULL, NONE, NULL, "files are always read, and copied to the device once")                   \
    X(NULL, "--mlock", NULL, NONE, NULL, "files are always read, and copied to the device once")                     \
    X(NULL, "--no-warmup", NULL, NONE, NULL, "pipelines are made beforehand, and nothing else is")                     \
    X("-nkvo", "--no-kv-offload", NULL, NONE, NULL, "states and weights are on the device")                            \
    X(NULL, "--numa", NULL, ONE, NULL, "the device does the work")                                                     \
    X(NULL, "--poll", NULL, ONE, NULL, "the device does the work")                                                     \
    X(NULL, "--prio", NULL, ONE, NULL, "the device does the work")                                                     \
    X(NULL, "--no-perf", NULL, NONE, NULL, "timings cost nothing")                                                     \
    X(NULL, "--color", NULL, SWITCH, NULL, "colours are not used")                                                     \
    X(NULL, "--simple-io", NULL, NONE, "chat", "the editor takes what the terminal can do")                            \
    X(NULL, "--jinja", NULL, NONE, "chat", "templates are recognised (--chat-template names one)")                     \
    X(NULL, "--no-display-prompt", NULL, NONE, "run", "the prompt is not repeated")                                    \
    X("-no-cnv", "--no-conversation", NULL, NONE, "run", "fulmen run continues a text (fulmen chat converses)")        \
    X("-cnv", "--conversation", NULL, NONE, "chat", "fulmen chat always converses")                                    \
    X("-i", "--interactive", NULL, NONE, "chat", "fulmen chat is interactive on a terminal")

enum tool_option {
#define X(id, short_name, long_name, argument, kind, field, help) OPT_##id,
    TOOL_OPTIONS(X)
#undef X
    OPT_COUNT
};

#define TOOL_FIELD_TEXT const char *
#define TOOL_FIELD_U32 uint32_t
#define TOOL_FIELD_COUNT uint32_t
#define TOOL_FIELD_SEED uint64_t
#define TOOL_FIELD_FLOAT float
#define TOOL_FIELD_FLAG bool
#define TOOL_FIELD_COUNT_OR_ALL uint32_t
#define TOOL_FIELD_LENGTH uint32_t
#define TOOL_FIELD_LOOK_BACK uint32_t
#define TOOL_FIELD_PENALTY float
#define TOOL_FIELD_DCA struct tool_dca

#define TOOL_OPERANDS 16

struct tool_options {
#define X(id, short_name, long_name, argument, kind, field, help) TOOL_FIELD_##kind field;
    TOOL_OPTIONS(X)
#undef X
    bool given[OPT_COUNT];
    const char *operands[TOOL_OPERANDS]; // arguments without a dash; NULL when there are no more
};

struct tool_command {
    const char *name, *operand; // operand: "FILE" or "IN OUT TYPE", or NULL when it takes none
    size_t n_operands;          // most of them; 0 = one where `operand` is set
    const char *summary;
    const enum tool_option *options;
    size_t n_options;
    int (*run)(const struct tool_options *options);
    const char *notes; // after the options in the help, or NULL
};

// Of the commands that write models.
#define TOOL_TYPE_NOTES                                                                                          \
    "Types: f32 f16 bf16 q8_0 q6_k q5_k q5_1 q5_0 q4_k q4_1 q4_0. Vectors, norms, convolutions and positions stay\n"   \
    "f32. With types of less than 8 bits the output head, or the embedding that stands for it, becomes q6_k. Rows\n"   \
    "that do not fill a type's blocks (256 elements for q4_k, q5_k, q6_k, else 32) become q8_0, or else f16."

// 0, or TOOL_BAD_INPUT after a line on standard error. *out_help: the user asked for help, which was printed.
int tool_parse(const struct tool_command *command, int argc, char **argv, struct tool_options *out_options,
               bool *out_help);
// The name that `word` was probably meant to be, whatever its case; NULL when none is near.
const char *tool_nearest(const char *word, const char *const *names, size_t count);

// ---- lists of numbers (lists.c) ------------------------------------------------------------------------------------

// "5,17,3" to numbers [*out_count], at least one; release with free. 0, or an exit code after a line that begins with `what`, the
// option, and says what is wrong.
int tool_parse_list(const char *text, const char *what, uint32_t **out_list, size_t *out_count);
// The same, with ranges among the numbers: A-B counts by one, A-B+N by N, A-B*F multiplies by F, up to B and with B where it is met.
int tool_parse_ranges(const char *text, const char *what, uint32_t **out_list, size_t *out_count);

// ---- helpers (common.c) --------------------------------------------------------------------------------------------

// Print the library's message and return the exit code of a result.
int tool_fail(enum fm_result result);
// After work that was given up for tool_stopped(): a line if it was a signal; TOOL_FAILED.
int tool_cancelled(void);
// Has a row of logits probabilities? False with a NaN in it, without a finite value, or with an infinite greatest one.
bool tool_row_has_numbers(const float *logits, size_t vocab);
// Print a line of our own, "fulmen: ..." on standard error, quoted (fm_quote): it may name files and hold what they say.
void tool_say(const char *fmt, ...) FM_PRINTF(1, 2);
// The same for bad input: returns TOOL_BAD_INPUT.
int tool_bad(const char *fmt, ...) FM_PRINTF(1, 2);
double tool_seconds(void); // of a monotonic clock

// ---- stopping (stop.c) ---------------------------------------------------------------------------------------------

// Ctrl-C, SIGTERM and SIGHUP set a flag and cancel `session` (NULL: none), also when they came before the target was told.
// Another one, while the flag is set, ends the process. Broken pipes become write errors.
void tool_catch_signals(void);
void tool_cancel_target(struct fm_session *session);
bool tool_interrupted(void);
void tool_clear_interrupt(void);
// Called from the signal handler before a second signal ends the process; NULL: nothing is.
void tool_last_words(void (*fn)(void));
// Whether there is no sense in going on: a signal came, or standard output failed.
bool tool_stopped(void);
bool tool_cancel(void *user); // fm_cancel_fn: tool_stopped

// After a failed write to standard output or to the file `name`, errno as the write left it: 0 when the reader of a
// pipe has gone, else a line and TOOL_FAILED.
int tool_output_failed(const char *name);
// Of standard output; a failure is told at the end, and makes tool_stopped() true.
void tool_flush(void);
// The last thing that a command does: what is left in the buffer goes out. The exit status, `status` unless output failed.
int tool_finish_output(int status);
int tool_stopped_by_output(void); // notes that a command ends for that; TOOL_FAILED
// Standard input, output and error are open, or else closed for good: no other file gets their numbers.
void tool_open_standard_files(void);

// ---- working (common.c) --------------------------------------------------------------------------------------------

// fm_progress_fn: a bar on standard error if that is a terminal; stops when interrupted. user: the label.
bool tool_progress(void *user, uint64_t done, uint64_t total);
void tool_clear_bar(void); // before something is printed while it stands there

// A file that is to be written at the end, or NULL for none: told before the work when it cannot be, or is the model or the prompt.
int tool_check_output(const struct tool_options *options, const char *path);
// fm_tokenizer_encode, until a signal comes. 0, or an exit code after a line; *out_tokens may be set then, too.
int tool_encode(const struct fm_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags, uint32_t **out_tokens,
                size_t *out_count);

// Read a whole file or, for "-", standard input, as UTF-8 (tool_text_in of text.h); release with free. The text is
// NUL-terminated, and may hold NULs.
int tool_read_text(const char *path, char **out_text, size_t *out_bytes);

struct tool_setup {
    struct fm_model *model;
    struct fm_device *device;
    struct fm_session *session;
    struct fm_device_info device_info;
    struct fm_model_info model_info;
    uint32_t n_ctx, n_slots;
    double load_s;
};
// Device, model, session as the options say (-m or --shape, -c, -ub, --device, ...); says on standard error which
// device and rung it took. n_ctx and n_slots 0 = as the options or the defaults say. tool_close after success and
// failure.
int tool_open(const struct tool_options *options, uint32_t n_ctx, uint32_t n_slots, struct tool_setup *setup);
int tool_open_model(const struct tool_options *options, struct fm_model **out_model); // only the file or shape
struct fm_session_params tool_session_params(const struct tool_options *options, const struct fm_model *model);
void tool_close(struct tool_setup *setup);
// Prompt of -p, -f or --tokens as ids; release with free. The newline that ends a file is not part of it. With --state-load it
// goes on with what was saved (no token for the beginning of the text), and may be absent: *out_tokens is then NULL.
int tool_prompt(const struct tool_options *options, const struct fm_model *model, uint32_t **out_tokens,
                size_t *out_count);
struct fm_sampling tool_sampling(const struct tool_options *options);
// Whether a share of the device's read bandwidth says something: not where the caches of the CPU serve the reads.
bool tool_has_bandwidth(const struct fm_device_info *device);
// Bytes that a token at position `pos` makes the device read: weights, recurrent states, and the cache up to it.
double tool_token_bytes(const struct fm_model_info *model, const struct fm_memory_need *need, double pos);

// ---- commands ------------------------------------------------------------------------------------------------------

#define X(id) extern const struct tool_command cmd_##id;
#include "commands.def"
#undef X

#endif
