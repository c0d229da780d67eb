// SPDX-License-Identifier: MIT
// Checkpoint folders: which file is taken, shards and their index, what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/checkpoint.h"
#include "support/checkpoint_make.h"
#include "support/temporary.h"
#include "support/tensor_data.h"

static char folder[TEST_PATH_BYTES];

static int make_folder(void **state)
{
    (void)state;
    return test_temporary_folder("checkpoint", folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return test_remove_folder(folder) ? 0 : -1;
}

// Takes over the bytes.
static void save(const char *name, struct gguf_bytes bytes)
{
    char path[TEST_PATH_BYTES + 512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size_bytes, file), bytes.size_bytes);
    assert_int_equal(fclose(file), 0);
    gguf_bytes_finish(&bytes);
}

static void save_text(const char *name, const char *text)
{
    struct gguf_bytes bytes = {0};
    gguf_put(&bytes, text, strlen(text));
    save(name, bytes);
}

// A shard with these tensors (NULL ends them) of 4 floats, each of which is the number of the tensor in it.
static void save_shard(const char *name, const char *const *tensors)
{
    struct safetensors_writer w = {0};
    for (size_t i = 0; tensors[i] != NULL; i++) {
        const uint64_t dims[] = {4};
        const float values[4] = {(float)i, (float)i, (float)i, (float)i};
        safetensors_put(&w, tensors[i], "F32", 1, dims, values, sizeof(values));
    }
    save(name, safetensors_finish(&w));
}

#define TENSORS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void save_torch(const char *name, const char *tensor)
{
    const size_t sizes[] = {16};
    struct gguf_bytes p = {0};
    pickle_begin(&p);
    pickle_entry(&p, tensor, "FloatStorage", "0", 4);
    pickle_end(&p);
    save(name, torch_make(&p, sizes, 1));
}

static struct fm_checkpoint *open_or_fail(const char *name)
{
    char path[TEST_PATH_BYTES + 512];
    struct fm_checkpoint *checkpoint = NULL;
    snprintf(path, sizeof(path), "%s%s", folder, name);
    if (fm_checkpoint_open(path, &checkpoint) != FM_OK)
        fail_msg("%s", fm_error_message());
    return checkpoint;
}

static void refuse(const char *name, enum fm_result expected, const char *text)
{
    char path[TEST_PATH_BYTES + 512];
    struct fm_checkpoint *checkpoint = NULL;
    snprintf(path, sizeof(path), "%s%s", folder, name);
    enum fm_result result = fm_checkpoint_open(path, &checkpoint);
    assert_null(checkpoint);
    if (result != expected || strstr(fm_error_message(), text) == NULL ||
        strncmp(fm_error_message(), folder, strlen(folder)) != 0)
        fail_msg("got '%s' (%s), expected '%s...%s...' (%s)", fm_error_message(), fm_result_text(result), folder, text,
                 fm_result_text(expected));
}

static void check_path(const struct fm_checkpoint *checkpoint, const char *name)
{
    const char *path = fm_checkpoint_path(checkpoint);
    assert_string_equal(path + strlen(folder) + 1, name);
}

// ---- good folders ------------------------------------------------------------------------------------------------

static void test_order(void **state)
{
    (void)state;
    refuse("", FM_IO, "no checkpoint in this folder (expected model.safetensors, ");
    save_torch("pytorch_model-00001-of-00001.bin", "d");
    save_text("pytorch_model.bin.index.json", "{\"weight_map\":{\"d\":\"pytorch_model-00001-of-00001.bin\"}}");
    const char *const found[] = {"pytorch_model.bin.index.json", "pytorch_model.bin", "model.safetensors.index.json",
                                 "model.safetensors"};
    const char *const tensors[] = {"d", "c", "b", "a"};
    for (size_t i = 0; i < FM_COUNT(found); i++) {
        if (i == 1)
            save_torch("pytorch_model.bin", "c");
        if (i == 2) {
            save_shard("b.safetensors", TENSORS("b"));
            save_text("model.safetensors.index.json", "{\"weight_map\":{\"b\":\"b.safetensors\"}}");
        }
        if (i == 3)
            save_shard("model.safetensors", TENSORS("a"));
        struct fm_checkpoint *checkpoint = open_or_fail(i % 2 == 0 ? "" : "/");
        assert_int_equal(fm_checkpoint_count(checkpoint), 1);
        assert_string_equal(fm_checkpoint_at(checkpoint, 0)->name, tensors[i]);
        assert_string_equal(strrchr(fm_checkpoint_path(checkpoint), '/') + 1, found[i]);
        fm_checkpoint_close(&checkpoint);
        assert_null(checkpoint);
    }
}

static void test_shards(void **state)
{
    (void)state;
    save_shard("one.safetensors", TENSORS("a", "b", "shared"));
    save_shard("two.safetensors", TENSORS("c", "shared", "extra"));
    save_text("model.safetensors.index.json",
              "{\"metadata\":{\"total_size\":64},\n \"weight_map\":{\"c\":\"two.safetensors\","
              "\"a\":\"one.safetensors\",\"b\":\"one.safetensors\", \"shared\":\"one.safetensors\"}}");
    struct fm_checkpoint *checkpoint = open_or_fail("");
    check_path(checkpoint, "model.safetensors.index.json");
    // In the order of the shards as the index names them first; what no index names is there, too.
    const char *const names[] = {"c", "extra", "a", "b", "shared"};
    assert_int_equal(fm_checkpoint_count(checkpoint), FM_COUNT(names));
    assert_int_equal(fm_checkpoint_data_bytes(checkpoint), 16 * FM_COUNT(names));
    for (uint32_t i = 0; i < FM_COUNT(names); i++) {
        const struct fm_tensor *tensor = fm_checkpoint_at(checkpoint, i);
        assert_string_equal(tensor->name, names[i]);
        assert_ptr_equal(fm_checkpoint_find(checkpoint, names[i]), tensor);
        const char *path = fm_file_path(fm_checkpoint_file_of(checkpoint, i));
        assert_string_equal(path + strlen(folder), i < 2 ? "/two.safetensors" : "/one.safetensors");
    }
    float value;
    assert_int_equal(fm_tensor_read(fm_checkpoint_find(checkpoint, "shared"), 0, sizeof(value), &value), FM_OK);
    assert_true(value == 2.0f);
    assert_null(fm_checkpoint_find(checkpoint, "d"));
    fm_checkpoint_close(&checkpoint);
    checkpoint = open_or_fail("/one.safetensors");
    assert_int_equal(fm_checkpoint_count(checkpoint), 3);
    fm_checkpoint_close(&checkpoint);
    checkpoint = open_or_fail("/model.safetensors.index.json");
    assert_int_equal(fm_checkpoint_count(checkpoint), 5);
    fm_checkpoint_close(&checkpoint);
}

static struct fm_checkpoint *open_fixture(const char *name)
{
    char path[TEST_PATH_BYTES + 512];
    const char *data = getenv("FULMEN_TEST_DATA");
    struct fm_checkpoint *checkpoint = NULL;
    assert_non_null(data);
    snprintf(path, sizeof(path), "%s/checkpoints/%s", data, name);
    if (fm_checkpoint_open(path, &checkpoint) != FM_OK)
        fail_msg("%s", fm_error_message());
    return checkpoint;
}

// The same weights as the official packages write them: save_pretrained to safetensors, torch.save to a pickle.
static void test_official(void **state)
{
    (void)state;
    struct fm_checkpoint *tensors = open_fixture("mamba2-small"), *pickle = open_fixture("state-spaces-mamba2");
    static const char renamed[] = "backbone.embeddings.weight", name_there[] = "backbone.embedding.weight";
    uint32_t count = fm_checkpoint_count(tensors);
    assert_true(count > 15);
    assert_int_equal(fm_checkpoint_count(pickle), count + 1); // and the tied head
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_tensor *a = fm_checkpoint_at(tensors, i);
        const struct fm_tensor *b = fm_checkpoint_find(pickle, strcmp(a->name, renamed) == 0 ? name_there : a->name);
        assert_non_null(b);
        assert_true(a->type == FM_TYPE_F32 && b->type == FM_TYPE_F32 && a->n_dims == b->n_dims);
        assert_memory_equal(a->dims, b->dims, sizeof(a->dims));
        assert_int_equal(a->data_bytes, b->data_bytes);
        uint8_t *data = tensor_data(a);
        assert_non_null(data);
        assert_true(tensor_holds(b, data, (size_t)a->data_bytes));
        free(data);
    }
    const struct fm_tensor *head = fm_checkpoint_find(pickle, "lm_head.weight");
    assert_non_null(head);
    assert_int_equal(head->offset, fm_checkpoint_find(pickle, name_there)->offset);
    fm_checkpoint_close(&tensors);
    fm_checkpoint_close(&pickle);
}

static void test_official_shards(void **state)
{
    (void)state;
    struct fm_checkpoint *checkpoint = open_fixture("llama-llama3-keys");
    uint32_t count = fm_checkpoint_count(checkpoint), files = 1;
    for (uint32_t i = 1; i < count; i++)
        files += fm_checkpoint_file_of(checkpoint, i) != fm_checkpoint_file_of(checkpoint, i - 1);
    assert_int_equal(files, 2);
    assert_true(count > 15);
    assert_non_null(fm_checkpoint_find(checkpoint, "model.embed_tokens.weight"));
    assert_non_null(fm_checkpoint_find(checkpoint, "lm_head.weight"));
    fm_checkpoint_close(&checkpoint);
}

// ---- bad folders -------------------------------------------------------------------------------------------------

static void test_bad_folders(void **state)
{
    (void)state;
    struct gguf_writer w = {0};
    refuse("/nothing", FM_IO, "/nothing: cannot open");
    gguf_write_string(&w, "general.architecture", "llama");
    save("model.gguf", gguf_write_make(&w));
    gguf_write_finish(&w);
    refuse("/model.gguf", FM_UNSUPPORTED, "/model.gguf: is a GGUF file already");
    save_text("model.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    refuse("", FM_FORMAT, "/model.safetensors: this is a Git LFS pointer");
}

static void refuse_index(const char *text, enum fm_result expected, const char *message)
{
    save_text("model.safetensors.index.json", text);
    refuse("", expected, message);
}

static void test_bad_index(void **state)
{
    (void)state;
    save_shard("one.safetensors", TENSORS("a", "b"));
    save_shard("two.safetensors", TENSORS("b", "c"));
    refuse_index("", FM_FORMAT, "model.safetensors.index.json: index: ends at byte 0, expected '{'");
    refuse_index("[]", FM_FORMAT, "index: byte 0: expected '{', found '[]'");
    refuse_index("{\"weights\":{}}", FM_FORMAT, "index: weight_map is missing");
    refuse_index("{\"weight_map\":{}}", FM_FORMAT, "index: weight_map names no tensors");
    refuse_index("{\"weight_map\":[]}", FM_FORMAT, "weight_map: byte 0: expected '{'");
    refuse_index("{\"weight_map\":{\"a\":1}}", FM_FORMAT, "weight_map, tensor 'a': expected a string, found '1'");
    refuse_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}", FM_FORMAT,
                 "weight_map: tensor 'a' is there twice");
    refuse_index("{\"weight_map\":{\"a\":\"one.safetensors\"},\"weight_map\":{}}", FM_FORMAT,
                 "weight_map is there twice");
    refuse_index("{\"weight_map\":{\"\":\"one.safetensors\"}}", FM_FORMAT, "the name of a tensor, '', has 0 bytes");
    refuse_index("{\"weight_map\":{\"a\":\"one.safetensors\"}} {}", FM_FORMAT, "expected nothing after the object");
    refuse_index("{\"weight_map\":{\"z\":\"one.safetensors\"}}", FM_FORMAT,
                 "one.safetensors: tensor 'z' is not there, but ");
    refuse_index("{\"weight_map\":{\"a\":\"two.safetensors\",\"c\":\"two.safetensors\"}}", FM_FORMAT,
                 "two.safetensors: tensor 'a' is not there, but ");
    refuse_index("{\"weight_map\":{\"a\":\"three.safetensors\"}}", FM_IO, "three.safetensors: cannot open");
    refuse_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}", FM_FORMAT,
                 "two.safetensors: tensor 'b' is in ");
}

static void test_paths(void **state)
{
    (void)state;
    refuse_index("{\"weight_map\":{\"a\":\"../one.safetensors\"}}", FM_FORMAT,
                 "weight_map: file name '../one.safetensors': expected no dot at its beginning");
    refuse_index("{\"weight_map\":{\"a\":\"..\"}}", FM_FORMAT, "expected no dot");
    refuse_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", FM_FORMAT, "file name '/etc/passwd': expected no path");
    refuse_index("{\"weight_map\":{\"a\":\"x/../../one\"}}", FM_FORMAT, "expected no path");
    refuse_index("{\"weight_map\":{\"a\":\"x\\\\one\"}}", FM_FORMAT, "expected no path");
    refuse_index("{\"weight_map\":{\"a\":\"\\u002e./one\"}}", FM_FORMAT, "expected no dot");
    refuse_index("{\"weight_map\":{\"a\":\"\"}}", FM_FORMAT, "file name '': expected 1 to 255 bytes");
}

// An index cannot ask for more mappings than are sensible.
static void test_many_shards(void **state)
{
    (void)state;
    struct gguf_bytes text = {0};
    gguf_put(&text, "{\"weight_map\":{", 15);
    for (int i = 0; i < 4097; i++) {
        char entry[64];
        snprintf(entry, sizeof(entry), "%s\"%d\":\"%d\"", i > 0 ? "," : "", i, i);
        gguf_put(&text, entry, strlen(entry));
    }
    gguf_put(&text, "}}", 2);
    save("model.safetensors.index.json", text);
    refuse("", FM_FORMAT, "weight_map: more than 4096 files");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_shards),
        TEST(test_bad_folders),
        TEST(test_bad_index),
        TEST(test_paths),
        TEST(test_many_shards),
        cmocka_unit_test(test_official),
        cmocka_unit_test(test_official_shards),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
