// SPDX-License-Identifier: MIT
// What every SPIR-V module asks for is what its manifest row says that it needs: a device is opened with nothing else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vk/vk.h"

enum { OP_CAPABILITY = 17, OP_DECORATE = 71, OP_FUNCTION = 54, DECORATION_SPEC_ID = 1 };

// SPIR-V capability -> FM_CAP bit that a row must name; index FM_CAP_COUNT: any row may use it.
static const struct {
    uint32_t capability, bit;
    const char *name;
} known[] = {
    {1, FM_CAP_COUNT, "Shader"},
    {5347, FM_CAP_COUNT, "PhysicalStorageBufferAddresses"},
    {61, FM_CAP_INDEX_SUBGROUP, "GroupNonUniform"},
    {62, FM_CAP_INDEX_SUBGROUP, "GroupNonUniformVote"},
    {63, FM_CAP_INDEX_SUBGROUP, "GroupNonUniformArithmetic"},
    {64, FM_CAP_INDEX_SUBGROUP, "GroupNonUniformBallot"},
    {65, FM_CAP_INDEX_SUBGROUP, "GroupNonUniformShuffle"},
    {9, FM_CAP_INDEX_FLOAT16, "Float16"},
    {22, FM_CAP_INDEX_STORAGE16, "Int16"},
    {4433, FM_CAP_INDEX_STORAGE16, "StorageBuffer16BitAccess"},
    {39, FM_CAP_INDEX_STORAGE8, "Int8"},
    {4448, FM_CAP_INDEX_STORAGE8, "StorageBuffer8BitAccess"},
    {6016, FM_CAP_INDEX_INT_DOT, "DotProductInputAll"},
    {6017, FM_CAP_INDEX_INT_DOT, "DotProductInput4x8Bit"},
    {6018, FM_CAP_INDEX_INT_DOT, "DotProductInput4x8BitPacked"},
    {6019, FM_CAP_INDEX_INT_DOT, "DotProduct"},
    {6022, FM_CAP_INDEX_COOPMAT, "CooperativeMatrixKHR"},
    {5345, FM_CAP_INDEX_VULKAN_MEMORY_MODEL, "VulkanMemoryModel"},
    {5346, FM_CAP_INDEX_VULKAN_MEMORY_MODEL, "VulkanMemoryModelDeviceScope"},
    {5430, FM_CAP_INDEX_COOPMAT_REG, "CooperativeMatrixReductionsNV"},
    {5431, FM_CAP_INDEX_COOPMAT_REG, "CooperativeMatrixConversionsNV"},
    {5432, FM_CAP_INDEX_COOPMAT_REG, "CooperativeMatrixPerElementOperationsNV"},
};

// Call fn for every instruction before the first function.
static void for_each_instruction(const struct fm_kernel *kernel,
                                 void (*fn)(const struct fm_kernel *kernel, const uint32_t *words, uint32_t count,
                                            uint64_t *spec_ids),
                                 uint64_t *spec_ids)
{
    size_t n = kernel->spirv_bytes / 4;
    for (size_t at = 5; at < n;) {
        uint32_t count = kernel->spirv[at] >> 16;
        if (count == 0 || at + count > n)
            fail_msg("%s: the module is cut short at word %zu of %zu", kernel->name, at, n);
        if ((kernel->spirv[at] & 0xffff) == OP_FUNCTION)
            return;
        fn(kernel, kernel->spirv + at, count, spec_ids);
        at += count;
    }
}

static void check_instruction(const struct fm_kernel *kernel, const uint32_t *words, uint32_t count,
                              uint64_t *spec_ids)
{
    uint32_t op = words[0] & 0xffff;
    if (op == OP_DECORATE && count >= 4 && words[2] == DECORATION_SPEC_ID && words[3] < 64)
        *spec_ids |= 1ull << words[3];
    if (op != OP_CAPABILITY)
        return;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].capability != words[1])
            continue;
        if (known[i].bit != FM_CAP_COUNT && !(kernel->needs >> known[i].bit & 1))
            fail_msg("%s: its module uses %s, but its row does not need the bit for it", kernel->name, known[i].name);
        return;
    }
    fail_msg("%s: SPIR-V capability %u, which no device is opened with", kernel->name, words[1]);
}

static void modules_ask_for_what_rows_need(void **state)
{
    (void)state;
    assert_true(fm_kernel_count > 0);
    for (size_t i = 0; i < fm_kernel_count; i++) {
        const struct fm_kernel *kernel = &fm_kernels[i];
        uint64_t spec_ids = 0;
        assert_true(kernel->spirv_bytes > 20 && kernel->spirv_bytes % 4 == 0);
        assert_int_equal(kernel->spirv[0], 0x07230203);
        for_each_instruction(kernel, check_instruction, &spec_ids);
        if (kernel->workgroup > 1 && !(spec_ids & 1))
            fail_msg("%s: its workgroup size is not specialisation constant 0", kernel->name);
    }
}

// A bit of a rung above the kernel's own would leave it out of that rung's devices.
static void needs_lie_within_the_rung(void **state)
{
    (void)state;
    static const uint8_t rung_of[FM_CAP_COUNT] = {
#define X(id, name, rung, what) FM_RUNG_##rung,
#include "kernel/rungs.def"
#undef X
    };
    for (size_t i = 0; i < fm_kernel_count; i++) {
        for (int bit = 0; bit < FM_CAP_COUNT; bit++) {
            if ((fm_kernels[i].needs >> bit & 1) && rung_of[bit] > fm_kernels[i].rung)
                fail_msg("%s: needs a bit of rung %s, and is of rung %s", fm_kernels[i].name,
                         fm_rung_name((enum fm_rung)rung_of[bit]), fm_rung_name(fm_kernels[i].rung));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_ask_for_what_rows_need),
        cmocka_unit_test(needs_lie_within_the_rung),
    };
    return cmocka_run_group_tests_name("vk_spirv", tests, NULL, NULL);
}
