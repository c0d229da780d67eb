// SPDX-License-Identifier: MIT
// The reader of PyTorch's archives: good ones, and everything that a pickle may try.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "format/file.h"
#include "format/zip.h"
#include "support/checkpoint_make.h"
#include "support/file_check.h"
#include "support/temporary.h"
#include "support/tensor_data.h"

static const size_t sizes[] = {96, 12};

static void put(struct gguf_bytes *p, const char *text)
{
    gguf_put(p, text, strlen(text));
}

// ---- good files --------------------------------------------------------------------------------------------------

// Two tensors of one storage (tied, and a part of it), a parameter, a scalar, attributes, the memo.
static struct gguf_bytes good_pickle(void)
{
    struct gguf_bytes p = {0};
    const struct pickle_tensor embed = {"FloatStorage", "0", 24, 0, 2, {6, 4}, {0}},
                               part = {"FloatStorage", "0", 24, 8, 2, {2, 4}, {0}},
                               unit = {"HalfStorage", "1", 6, 0, 3, {1, 6, 1}, {99, 1, 77}},
                               scalar = {"HalfStorage", "1", 6, 5, 0, {0}, {0}};
    pickle_begin(&p);
    pickle_text(&p, "embed.weight");
    pickle_tensor(&p, &embed);
    gguf_put(&p, "q\x05", 2); // remembered ...
    pickle_text(&p, "part");
    pickle_tensor(&p, &part);
    pickle_text(&p, "lm_head.weight");
    gguf_put(&p, "h\x05", 2); // ... and recalled
    put(&p, "u(");
    pickle_text(&p, "unit");
    pickle_global(&p, "torch._utils", "_rebuild_parameter");
    put(&p, "(");
    pickle_tensor(&p, &unit);
    gguf_put(&p, "\x88}t", 3);
    put(&p, "R");
    pickle_text(&p, "scalar");
    pickle_tensor(&p, &scalar);
    put(&p, "u}");
    pickle_text(&p, "_metadata"); // an attribute of the dict, as state dicts have
    put(&p, "}");
    pickle_text(&p, "version");
    put(&p, "K\x01ssb.");
    return p;
}

static void check_good(const struct gguf_bytes *bytes)
{
    struct fm_file *file = NULL;
    if (fm_file_open_memory(bytes->data, bytes->size_bytes, "good", &file) != FM_OK)
        fail_msg("%s", fm_error_message());
    assert_string_equal(fm_file_format(file), "PyTorch");
    assert_int_equal(fm_file_tensor_count(file), 5);
    const struct fm_tensor *embed = fm_file_find(file, "embed.weight"), *part = fm_file_find(file, "part"),
                           *head = fm_file_find(file, "lm_head.weight"), *unit = fm_file_find(file, "unit"),
                           *scalar = fm_file_find(file, "scalar");
    assert_true(embed && part && head && unit && scalar);
    assert_true(embed->type == FM_TYPE_F32 && embed->n_dims == 2 && embed->dims[0] == 6 && embed->dims[1] == 4);
    assert_true(embed->data_bytes == 96 && part->data_bytes == 32 && unit->data_bytes == 12);
    uint8_t ramp[96];
    for (size_t i = 0; i < sizeof(ramp); i++)
        ramp[i] = (uint8_t)i;
    assert_true(tensor_holds(embed, ramp, 96) && tensor_holds(unit, ramp + 16, 12));
    assert_int_equal(part->offset, embed->offset + 32);
    assert_int_equal(head->offset, embed->offset);
    assert_true(unit->type == FM_TYPE_F16 && unit->n_dims == 3 && unit->dims[1] == 6);
    assert_true(scalar->n_dims == 0 && scalar->offset == unit->offset + 10 && scalar->data_bytes == 2);
    fm_file_close(&file);
}

static void test_good(void **state)
{
    (void)state;
    struct gguf_bytes p = good_pickle();
    struct gguf_bytes bytes = torch_make(&p, sizes, 2);
    check_good(&bytes);
    gguf_bytes_finish(&bytes);
}

// An archive of this pickle, of a kind that torch_make does not write.
static struct gguf_bytes archive(struct gguf_bytes pickle, bool is_zip64, const char *byte_order, const char *folder)
{
    struct zip_writer w = {.is_zip64 = is_zip64};
    char name[1024];
    uint8_t data[96];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    snprintf(name, sizeof(name), "%s/data/0", folder);
    zip_put(&w, name, data, 96);
    snprintf(name, sizeof(name), "%s/data/1", folder);
    zip_put(&w, name, data + 16, 12);
    snprintf(name, sizeof(name), "%s/data.pkl", folder);
    zip_put(&w, name, pickle.data, pickle.size_bytes);
    snprintf(name, sizeof(name), "%s/byteorder", folder);
    if (byte_order != NULL)
        zip_put(&w, name, byte_order, strlen(byte_order));
    gguf_bytes_finish(&pickle);
    return zip_finish(&w);
}

static void test_archives(void **state)
{
    (void)state;
    struct gguf_bytes bytes = archive(good_pickle(), false, NULL, "pytorch_model"); // as before PyTorch 2.1
    check_good(&bytes);
    gguf_bytes_finish(&bytes);
    bytes = archive(good_pickle(), true, "little", "x"); // as if larger than 4 GiB
    check_good(&bytes);
    gguf_bytes_finish(&bytes);
    bytes = archive(good_pickle(), false, "little", "mod\xc3\xa8le"); // a folder's name in UTF-8
    check_good(&bytes);
    gguf_bytes_finish(&bytes);
    bytes = archive(good_pickle(), false, "little", "mod\xe8le"); // and in no encoding that is told
    check_good(&bytes);
    gguf_bytes_finish(&bytes);
}

// libzip's reads go through the same source: an archive that is cut while it is open ends in the same message.
static void test_changes(void **state)
{
    (void)state;
    char path[TEST_PATH_BYTES];
    int fd = test_temporary_file("torch", path);
    assert_true(fd >= 0);
    struct gguf_bytes bytes = archive(good_pickle(), false, "little", "x");
    for (size_t cut = 0; cut < bytes.size_bytes; cut += 13) {
        struct fm_source source;
        struct fm_zip zip = {0};
        uint64_t offset, entry_bytes;
        assert_int_equal(pwrite(fd, bytes.data, bytes.size_bytes, 0), bytes.size_bytes);
        assert_int_equal(fm_source_open(path, "m.bin", &source), FM_OK);
        bool at_once = cut % 2 == 0;
        if (at_once)
            assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        enum fm_result result = fm_zip_open(&zip, &source);
        if (!at_once) {
            assert_int_equal(result, FM_OK);
            assert_int_equal(ftruncate(fd, 10), 0); // not even the header of the first entry is whole
            result = fm_zip_find(&zip, "x/data/1", &offset, &entry_bytes);
        }
        assert_int_equal(result, FM_CHANGED);
        assert_non_null(strstr(fm_error_message(), "m.bin: became shorter while it was read"));
        fm_zip_close(&zip);
        fm_source_close(&source);
    }
    gguf_bytes_finish(&bytes);
    close(fd);
    unlink(path);
}

// Protocol 4: frames, short texts, callables named on the stack, the memo without numbers.
static void test_protocol_4(void **state)
{
    (void)state;
    struct gguf_bytes p = {0};
    put(&p, "\x80\x04\x95");
    gguf_put_u64(&p, 100);
    put(&p, "}\x94(\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94((");
    put(&p, "\x8c\x07storage\x94\x8c\x05torch\x94\x8c\x0f"
            "BFloat16Storage");
    put(&p, "\x94\x93\x94\x8c\x01" "1\x94\x8c\x06" "cuda:0\x94K\x06t\x94QM");
    gguf_put(&p, "\x00\x00K\x02K\x03\x86\x94K\x03K\x01\x86\x94\x89}\x94t\x94R\x94u.", 24);
    struct gguf_bytes bytes = torch_make(&p, sizes, 2);
    struct fm_file *file = NULL;
    if (fm_file_open_memory(bytes.data, bytes.size_bytes, "good", &file) != FM_OK)
        fail_msg("%s", fm_error_message());
    const struct fm_tensor *w = fm_file_find(file, "w");
    assert_non_null(w);
    assert_true(w->type == FM_TYPE_BF16 && w->dims[0] == 2 && w->dims[1] == 3 && tensor_holds(w, "\x10", 1));
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
}

// ---- archives that are refused -----------------------------------------------------------------------------------

static void refuse_pickle(struct gguf_bytes pickle, enum fm_result expected, const char *text)
{
    file_refuse(torch_make(&pickle, sizes, 2), expected, text);
}

static void test_bad_archives(void **state)
{
    (void)state;
    static const uint8_t legacy[] = {0x80, 2,    0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                     0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
    char folder[600];
    struct gguf_bytes bytes = {0};
    struct zip_writer w = {0};
    gguf_put(&bytes, legacy, sizeof(legacy));
    file_refuse(bytes, FM_UNSUPPORTED, "a PyTorch file as written before 1.6");
    zip_put(&w, "word/document.xml", "<>", 2);
    file_refuse(zip_finish(&w), FM_FORMAT, "without an entry data.pkl");
    zip_put(&w, "data.pkl", "N.", 2);
    file_refuse(zip_finish(&w), FM_FORMAT, "without an entry data.pkl");
    w.method = 8;
    zip_put(&w, "a/data.pkl", "N.", 2);
    file_refuse(zip_finish(&w), FM_UNSUPPORTED, "entry 'a/data.pkl' of the zip archive is compressed, expected stored");
    w.flags = 1;
    zip_put(&w, "a/data.pkl", "N.", 2);
    file_refuse(zip_finish(&w), FM_UNSUPPORTED, "entry 'a/data.pkl' of the zip archive is encrypted");
    zip_put(&w, "a/data.pkl", "", 0);
    file_refuse(zip_finish(&w), FM_FORMAT, "pickle: its 0 bytes do not end it");
    file_refuse(archive(good_pickle(), false, "big", "x"), FM_UNSUPPORTED, "byte order of its data is 'big', expected");
    file_refuse(archive(good_pickle(), false, "", "x"), FM_UNSUPPORTED, "byte order of its data is ''");
    memset(folder, 'f', sizeof(folder) - 1);
    folder[sizeof(folder) - 1] = '\0';
    file_refuse(archive(good_pickle(), false, NULL, folder), FM_FORMAT, "the archive's folder has a name of 600 bytes");
    bytes = archive(good_pickle(), false, "little", "x");
    bytes.size_bytes -= 40;
    file_refuse(bytes, FM_FORMAT, "without a directory at its end");
}

// Sizes and places that lie beyond the file, in the directory of 64 bits.
static void test_bad_places(void **state)
{
    (void)state;
    struct gguf_bytes good = archive(good_pickle(), true, "little", "x");
    const uint64_t values[] = {good.size_bytes, (uint64_t)1 << 62, UINT64_MAX - 7, UINT64_MAX / 2};
    size_t first = 0;
    for (size_t i = 0; i + 4 < good.size_bytes && first == 0; i++)
        if (memcmp(good.data + i, "PK\001\002", 4) == 0)
            first = i;
    size_t extra = first + 46 + strlen("x/data/0") + 4; // size, stored size, place
    for (size_t field = 0; field < 3; field++)
        for (size_t i = 0; i < FM_COUNT(values); i++) {
            uint64_t kept;
            memcpy(&kept, good.data + extra + 8 * field, 8);
            memcpy(good.data + extra + 8 * field, &values[i], 8);
            assert_int_not_equal(file_open_copy(good.data, good.size_bytes), FM_OK);
            memcpy(good.data + extra + 8 * field, &kept, 8);
        }
    assert_int_equal(file_open_copy(good.data, good.size_bytes), FM_OK);
    gguf_bytes_finish(&good);
}

// ---- pickles that are refused ------------------------------------------------------------------------------------

static void refuse_raw(const char *pickle, size_t bytes, enum fm_result expected, const char *text)
{
    struct gguf_bytes p = {0};
    gguf_put(&p, pickle, bytes);
    refuse_pickle(p, expected, text);
}

#define REFUSE(pickle, expected, text) refuse_raw(pickle, sizeof(pickle) - 1, expected, text)

static void test_callables(void **state)
{
    (void)state;
    REFUSE("\x80\x02" "cos\nsystem\n(X\x05\x00\x00\x00touchtR.", FM_UNSUPPORTED,
           "pickle, byte 2: callable os.system is not one that rebuilds tensors");
    REFUSE("\x80\x02" "cbuiltins\neval\n.", FM_UNSUPPORTED, "callable builtins.eval is not one");
    REFUSE("\x80\x02" "ctorch\nload\n.", FM_UNSUPPORTED, "callable torch.load is not one");
    REFUSE("\x80\x02" "ctorch._utils\n_rebuild_tensor_v22\n.", FM_UNSUPPORTED,
           "callable torch._utils._rebuild_tensor_v22");
    REFUSE("\x80\x02" "ctorch\nFloatStorag\n.", FM_UNSUPPORTED, "callable torch.FloatStorag is not one");
    REFUSE("\x80\x02" "c\x1b[2J\nx\n.", FM_UNSUPPORTED, "callable \\x1b[2J.x is not one");
    REFUSE("\x80\x04\x8c\x02os\x8c\x06system\x93.", FM_UNSUPPORTED, "callable os.system is not one");
    REFUSE("\x80\x04\x8c\x02osK\x01\x93.", FM_FORMAT, "the name of a callable is an integer, expected text");
    REFUSE("\x80\x02" "cos\nsystem", FM_FORMAT, "the name of a callable does not end");
    REFUSE("\x80\x02" "ctorch\nFloatStorage\n)R.", FM_FORMAT, "what is called is a class of storages");
    REFUSE("\x80\x02" "ccollections\nOrderedDict\nK\x01\x85R.", FM_FORMAT, "OrderedDict is called with arguments");
    REFUSE("\x80\x02" "ctorch._utils\n_rebuild_parameter\nK\x01\x85R.", FM_FORMAT,
           "what a parameter is made of of 1 items, expected 3");
}

static void test_opcodes(void **state)
{
    (void)state;
    REFUSE("\x80\x02]q\x00.", FM_UNSUPPORTED, "pickle, byte 2: opcode 0x5d is not one that rebuilds tensors");
    REFUSE("\x80\x02\x00", FM_UNSUPPORTED, "opcode 0x00 is not one");
    REFUSE("\x80\x02(i__main__\nX\n.", FM_UNSUPPORTED, "opcode 0x69");     // INST
    REFUSE("\x80\x02" "N\x81.", FM_UNSUPPORTED, "opcode 0x81");             // NEWOBJ
    REFUSE("\x80\x02\x82\x01.", FM_UNSUPPORTED, "opcode 0x82");             // EXT1
    REFUSE("\x80\x02P0\n.", FM_UNSUPPORTED, "opcode 0x50");                 // PERSID
    REFUSE("\x80\x01N.", FM_UNSUPPORTED, "pickle protocol 1, expected 2 to 5");
    REFUSE("\x80\x06N.", FM_UNSUPPORTED, "pickle protocol 6, expected 2 to 5");
    REFUSE("\x80", FM_FORMAT, "pickle, byte 0: its 1 bytes end here");
    REFUSE("\x80\x02", FM_FORMAT, "pickle: its 2 bytes do not end it");
    REFUSE("\x80\x02J\x01\x00", FM_FORMAT, "pickle, byte 2: its 5 bytes end here");
    REFUSE("\x80\x02X\xff\xff\xff\x7fxx", FM_FORMAT, "a text of 2147483647 bytes, 2 are left");
    REFUSE("\x80\x02X\xff\xff\xff\xffxx", FM_FORMAT, "a text of 4294967295 bytes, 2 are left");
    REFUSE("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", FM_FORMAT, "pickle, byte 2: its 13 bytes end here");
    REFUSE("\x80\x02\x8a\x09" "123456789.", FM_FORMAT, "an integer of more than 64 bits");
    REFUSE("\x80\x02.", FM_FORMAT, "takes a value from an empty stack");
    REFUSE("\x80\x02K\x01(\x85.", FM_FORMAT, "takes a value from an empty stack"); // not below a mark
    REFUSE("\x80\x02R.", FM_FORMAT, "takes a value from an empty stack");
    REFUSE("\x80\x02" "b.", FM_FORMAT, "takes a value from an empty stack");
    REFUSE("\x80\x02Q.", FM_FORMAT, "takes a value from an empty stack");
    REFUSE("\x80\x02t.", FM_FORMAT, "no mark on the stack");
    REFUSE("\x80\x02u.", FM_FORMAT, "no mark on the stack");
    REFUSE("\x80\x02(u.", FM_FORMAT, "takes a value from an empty stack");
    REFUSE("\x80\x02}(K\x01u.", FM_FORMAT, "a key without a value");
    REFUSE("\x80\x02}K\x01K\x02s.", FM_FORMAT, "the key of an entry is an integer, expected text");
    REFUSE("\x80\x02NK\x01K\x02s.", FM_FORMAT, "what gets entries is None, expected a dict");
    REFUSE("\x80\x02}}s.", FM_FORMAT, "takes a value from an empty stack");
    REFUSE("\x80\x02N}b.", FM_FORMAT, "attributes of something that is no dict");
    REFUSE("\x80\x02q\x00.", FM_FORMAT, "remembers a value of an empty stack");
    REFUSE("\x80\x02Nr\xff\xff\xff\xff.", FM_FORMAT, "the number of a remembered value is too high");
    REFUSE("\x80\x02Nq\x01h\x00.", FM_FORMAT, "recalls a value that was not remembered");
    REFUSE("\x80\x02j\xff\xff\xff\xff.", FM_FORMAT, "recalls a value that was not remembered");
}

static void test_not_tensors(void **state)
{
    (void)state;
    REFUSE("\x80\x02N.", FM_UNSUPPORTED, "the file holds None, expected a dict of tensors");
    REFUSE("\x80\x02}X\x05\x00\x00\x00" "epochK\x03s.", FM_UNSUPPORTED,
           "entry 'epoch' is an integer, expected a tensor");
    REFUSE("\x80\x02}X\x05\x00\x00\x00model}s.", FM_UNSUPPORTED, "entry 'model' is a dict, expected a tensor");
    struct gguf_bytes p = {0};
    pickle_begin(&p);
    pickle_entry(&p, "w", "FloatStorage", "0", 24);
    pickle_entry(&p, "w", "FloatStorage", "0", 24);
    pickle_end(&p);
    refuse_pickle(p, FM_FORMAT, "tensor 'w' is there twice");
    p = (struct gguf_bytes){0};
    pickle_begin(&p);
    pickle_entry(&p, "", "FloatStorage", "0", 24);
    pickle_end(&p);
    refuse_pickle(p, FM_FORMAT, "the name of a tensor, '', has 0 bytes");
}

// A dict that holds itself is no trouble: nothing walks down.
static void test_circles(void **state)
{
    (void)state;
    struct gguf_bytes p = {0};
    put(&p, "\x80\x02}q");
    gguf_put_u8(&p, 0);
    pickle_text(&p, "self");
    gguf_put(&p, "h\x00s.", 4);
    refuse_pickle(p, FM_UNSUPPORTED, "entry 'self' is a dict, expected a tensor");
}

static void refuse_tensor(struct pickle_tensor tensor, enum fm_result expected, const char *text)
{
    struct gguf_bytes p = {0};
    pickle_begin(&p);
    pickle_text(&p, "w");
    pickle_tensor(&p, &tensor);
    pickle_end(&p);
    refuse_pickle(p, expected, text);
}

static void test_tensors(void **state)
{
    (void)state;
    const int64_t huge = (int64_t)1 << 62;
    refuse_tensor((struct pickle_tensor){"FloatStorage", "7", 24, 0, 1, {24}, {0}}, FM_FORMAT,
                  "storage '7' is not in the archive");
    const char *key = "../../etc/passwd/../../../../etc/passwd";
    refuse_tensor((struct pickle_tensor){"FloatStorage", key, 24, 0, 1, {24}, {0}}, FM_FORMAT,
                  "its key has 39 bytes, expected a number");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 25, 0, 1, {24}, {0}}, FM_FORMAT,
                  "storage '0': 96 bytes in the archive, expected 25 elements of F32");
    refuse_tensor((struct pickle_tensor){"HalfStorage", "0", 24, 0, 1, {24}, {0}}, FM_FORMAT,
                  "storage '0': 96 bytes in the archive, expected 24 elements of F16");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", -24, 0, 1, {24}, {0}}, FM_FORMAT,
                  "expected -24 elements");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", huge + 24, 0, 1, {24}, {0}}, FM_FORMAT,
                  "expected 4611686018427387928 elements");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 1, {25}, {0}}, FM_FORMAT,
                  "tensor 'w': 25 elements from element 0 exceed its storage of 96 bytes of F32");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 1, 1, {24}, {0}}, FM_FORMAT,
                  "tensor 'w': 24 elements from element 1 exceed its storage");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, -1, 1, {1}, {0}}, FM_FORMAT,
                  "from element -1 exceed");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, huge, 1, {1}, {0}}, FM_FORMAT, "exceed its storage");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, INT64_MAX / 4, 1, {1}, {0}}, FM_FORMAT, "exceed its");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 2, {6, 4}, {1, 6}}, FM_UNSUPPORTED,
                  "tensor 'w': stride 6 of dimension 1, expected 1; save it with .contiguous()");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 2, {3, 4}, {8, 1}}, FM_UNSUPPORTED,
                  "tensor 'w': stride 8 of dimension 0, expected 4");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 1, {4}, {-1}}, FM_FORMAT,
                  "tensor 'w': stride 0 is -1, expected 0 or more");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 2, {-6, -4}, {4, 1}}, FM_FORMAT,
                  "tensor 'w': dimension 0 is -6, expected 0 or more");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 2, {6, 0}, {4, 1}}, FM_OK, "");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 5, {1, 1, 1, 1, 24}, {0}}, FM_FORMAT,
                  "tensor 'w': 5 dimensions, expected at most 4");
    refuse_tensor((struct pickle_tensor){"FloatStorage", "0", 24, 0, 3, {INT64_MAX, INT64_MAX, 1}, {1, 1, 1}},
                  FM_FORMAT, "the product of its dimensions overflows at dimension 1");
}

// The parts of a tensor and of a storage have their kinds checked.
static void test_parts(void **state)
{
    (void)state;
#define REBUILD "\x80\x02}X\x01\x00\x00\x00w" "ctorch._utils\n_rebuild_tensor_v2\n("
#define STORAGE "(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x18tQ"
    REFUSE(REBUILD "tRs.", FM_FORMAT, "what a tensor is made of of 0 items, expected 6");
    REFUSE(REBUILD "K\x01K\x00)) \x89}tRs.", FM_UNSUPPORTED, "opcode 0x20");
    REFUSE(REBUILD "K\x01K\x00))\x89}tRs.", FM_FORMAT,
           "item 0 of what a tensor is made of is an integer, expected a storage");
    REFUSE(REBUILD STORAGE "K\x00K\x01)\x89}tRs.", FM_FORMAT, "item 2 of what a tensor is made of is an integer");
    REFUSE(REBUILD STORAGE "K\x00K\x01\x85)\x89}tRs.", FM_FORMAT, "tensor 'w': 1 dimensions and 0 strides");
    REFUSE(REBUILD STORAGE "K\x00N\x85K\x01\x85\x89}tRs.", FM_FORMAT, "dimension is None, expected an integer");
    REFUSE(REBUILD STORAGE "K\x00K\x01\x85K\x01\x85\x89}}X\x04\x00\x00\x00" "conj\x88stRs.", FM_UNSUPPORTED,
           "tensor 'w': it has metadata");
    REFUSE("\x80\x02K\x01Q.", FM_FORMAT, "a persistent id is an integer, expected a tuple");
    REFUSE("\x80\x02)Q.", FM_FORMAT, "a persistent id of 0 items, expected 5");
    REFUSE("\x80\x02(X\x06\x00\x00\x00modulectorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x18tQ.",
           FM_UNSUPPORTED, "a persistent id of 'module', expected 'storage'");
    REFUSE("\x80\x02(X\x07\x00\x00\x00storageNX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x18tQ.", FM_FORMAT,
           "item 1 of a persistent id is None, expected a class of storages");
}

// Stack, marks and memory have an end.
static void test_bounds(void **state)
{
    (void)state;
    struct gguf_bytes p = {0};
    put(&p, "\x80\x02");
    for (int i = 0; i < 70000; i++)
        put(&p, "N");
    refuse_pickle(p, FM_FORMAT, "pickle, byte 65538: more than 65536 values on its stack");
    p = (struct gguf_bytes){0};
    put(&p, "\x80\x02");
    for (int i = 0; i < 1000; i++)
        put(&p, "(");
    refuse_pickle(p, FM_FORMAT, "pickle, byte 258: nested too deeply");
    p = (struct gguf_bytes){0};
    put(&p, "\x80\x02N");
    for (int i = 0; i < 17000000; i++) // a tuple in a tuple in a tuple ...
        put(&p, "\x85");
    refuse_pickle(p, FM_FORMAT, "needs more than 268435456 bytes of memory");
    p = (struct gguf_bytes){0};
    put(&p, "\x80\x02N");
    for (int i = 0; i < 4200000; i++)
        put(&p, "\x94");
    refuse_pickle(p, FM_FORMAT, "pickle, byte 4194307: the number of a remembered value is too high");
    p = (struct gguf_bytes){0};
    put(&p, "\x80\x02N");
    for (int i = 0; i < 100000; i++) // deep, but not too much: nothing recurses
        put(&p, "\x85");
    put(&p, ".");
    refuse_pickle(p, FM_UNSUPPORTED, "the file holds a tuple, expected a dict of tensors");
}

static void test_broken_everywhere(void **state)
{
    (void)state;
    struct gguf_bytes p = good_pickle();
    struct gguf_bytes bytes = torch_make(&p, sizes, 2);
    size_t size_bytes = bytes.size_bytes;
    assert_true(file_break_everywhere(bytes) > size_bytes);
    bytes = archive(good_pickle(), true, "little", "x");
    size_bytes = bytes.size_bytes;
    assert_true(file_break_everywhere(bytes) > size_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),        cmocka_unit_test(test_archives),
        cmocka_unit_test(test_changes),     cmocka_unit_test(test_protocol_4),
        cmocka_unit_test(test_bad_archives), cmocka_unit_test(test_bad_places), cmocka_unit_test(test_callables),
        cmocka_unit_test(test_opcodes),     cmocka_unit_test(test_not_tensors), cmocka_unit_test(test_circles),
        cmocka_unit_test(test_tensors),     cmocka_unit_test(test_parts),      cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_broken_everywhere),
    };
    return cmocka_run_group_tests_name("torchbin", tests, NULL, NULL);
}
