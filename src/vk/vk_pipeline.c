// SPDX-License-Identifier: MIT
// Compute pipelines, one per kernel and set of specialisation values, shared by all programs of a device.
#include "base/os.h"
#include "vk/vk_internal.h"

#define MAX_SPEC (FM_KERNEL_SPECS + 1) // a dispatch's and the workgroup size

struct pipeline_key { // compared byte by byte: made from zeroed memory
    const struct fm_kernel *kernel;
    uint32_t n_spec;
    struct {
        uint32_t id, value;
    } spec[MAX_SPEC];
};

struct fm_vk_pipeline {
    struct pipeline_key key;
    VkPipeline handle; // null until created
    VkResult result;
    bool cached;
};

// ---- life --------------------------------------------------------------------------------------------------------

enum fm_result fm_vk_pipelines_init(struct fm_vk *vk)
{
    VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = FM_VK_PUSH_BYTES};
    VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .pushConstantRangeCount = 1,
                                       .pPushConstantRanges = &range};
    VkResult result = FM_VK_CALL(vk->fn.vkCreatePipelineLayout(vk->device, &info, NULL, &vk->pipelines.layout));
    if (result) {
        vk->pipelines.layout = VK_NULL_HANDLE;
        return fm_vk_error(vk, result, "vkCreatePipelineLayout");
    }
    return fm_vk_cache_load(vk, &vk->pipelines.cache);
}

void fm_vk_pipelines_finish(struct fm_vk *vk)
{
    struct fm_vk_pipelines *p = &vk->pipelines;
    for (size_t i = 0; i < p->count; i++) {
        vk->fn.vkDestroyPipeline(vk->device, p->entries[i]->handle, NULL);
        fm_free(p->entries[i]);
    }
    fm_free(p->entries);
    fm_map_finish(&p->map);
    vk->fn.vkDestroyPipelineCache(vk->device, p->cache, NULL);
    vk->fn.vkDestroyPipelineLayout(vk->device, p->layout, NULL);
}

void fm_vk_pipeline_stats(const struct fm_vk *vk, uint64_t *out_ns, uint32_t *out_created, uint32_t *out_cached)
{
    *out_ns = vk->pipelines.create_ns;
    *out_created = vk->pipelines.created;
    *out_cached = vk->pipelines.cached;
}

// ---- lookup ------------------------------------------------------------------------------------------------------

static void make_key(const struct fm_dispatch *dispatch, struct pipeline_key *key)
{
    bool has_group = false;
    memset(key, 0, sizeof(*key));
    key->kernel = dispatch->kernel;
    for (uint32_t i = 0; i < dispatch->n_spec && i < FM_KERNEL_SPECS; i++) {
        key->spec[key->n_spec].id = dispatch->spec[i].id;
        key->spec[key->n_spec++].value = dispatch->spec[i].value;
        has_group |= dispatch->spec[i].id == 0;
    }
    if (!has_group) // constant 0 is the workgroup size everywhere
        key->spec[key->n_spec++].value = dispatch->kernel->workgroup;
}

// Index of the entry for a dispatch; a new one (with a null handle) when there is none yet.
static enum fm_result find_entry(struct fm_vk_pipelines *p, const struct fm_dispatch *dispatch, uint32_t *out_index)
{
    struct pipeline_key key;
    make_key(dispatch, &key);
    if (fm_map_get(&p->map, &key, sizeof(key), out_index))
        return FM_OK;
    enum fm_result err =
        fm_array_reserve((void **)&p->entries, &p->capacity, p->count + 1, sizeof(struct fm_vk_pipeline *));
    if (err)
        return err;
    struct fm_vk_pipeline *entry = fm_alloc_zero(1, sizeof(*entry));
    if (!entry)
        return fm_nomem();
    memcpy(&entry->key, &key, sizeof(key));
    err = fm_map_put(&p->map, &entry->key, sizeof(entry->key), (uint32_t)p->count, NULL);
    if (err) {
        fm_free(entry);
        return err;
    }
    p->entries[p->count] = entry;
    *out_index = (uint32_t)p->count++;
    return FM_OK;
}

// ---- creation ----------------------------------------------------------------------------------------------------

static VkResult create_from_module(struct fm_vk *vk, struct fm_vk_pipeline *entry, VkShaderModule module)
{
    const struct fm_kernel *kernel = entry->key.kernel;
    VkSpecializationMapEntry map[MAX_SPEC];
    uint32_t values[MAX_SPEC];
    for (uint32_t i = 0; i < entry->key.n_spec; i++) {
        values[i] = entry->key.spec[i].value;
        map[i] = (VkSpecializationMapEntry){.constantID = entry->key.spec[i].id,
                                            .offset = i * (uint32_t)sizeof(values[0]),
                                            .size = sizeof(values[0])};
    }
    VkSpecializationInfo spec = {.mapEntryCount = entry->key.n_spec,
                                 .pMapEntries = map,
                                 .dataSize = entry->key.n_spec * sizeof(values[0]),
                                 .pData = values};
    bool full = kernel->full_subgroups && vk->caps.subgroup_size_control;
    bool varies = vk->caps.subgroup_min != vk->caps.subgroup_max; // else there is nothing to require
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = vk->caps.subgroup_size};
    VkPipelineCreationFeedback feedback = {.flags = 0}, stage_feedback = {.flags = 0};
    VkPipelineCreationFeedbackCreateInfo feedback_info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CREATION_FEEDBACK_CREATE_INFO,
        .pPipelineCreationFeedback = &feedback,
        .pipelineStageCreationFeedbackCount = 1,
        .pPipelineStageCreationFeedbacks = &stage_feedback};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .pNext = &feedback_info,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = full && varies ? &subgroup : NULL,
                  .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &spec},
        .layout = vk->pipelines.layout};
    VkPipeline handle = VK_NULL_HANDLE;
    VkResult result =
        FM_VK_CALL(vk->fn.vkCreateComputePipelines(vk->device, vk->pipelines.cache, 1, &info, NULL, &handle));
    if (result != VK_SUCCESS)
        return result;
    entry->handle = handle;
    entry->cached = (feedback.flags & VK_PIPELINE_CREATION_FEEDBACK_VALID_BIT) &&
                    (feedback.flags & VK_PIPELINE_CREATION_FEEDBACK_APPLICATION_PIPELINE_CACHE_HIT_BIT);
    fm_vk_name_object(vk, VK_OBJECT_TYPE_PIPELINE, (uint64_t)handle, kernel->name);
    return VK_SUCCESS;
}

struct creation {
    struct fm_vk *vk;
    struct fm_vk_pipeline **missing;
    _Atomic bool stop;
    pthread_mutex_t cancel_lock; // callers' cancel functions need not be thread-safe
    bool (*cancel)(void *user);
    void *user;
    bool cancelled;
};

// One step of the parallel loop. Errors are kept in the entry: messages are per thread.
static void create_one(void *user, uint32_t i)
{
    struct creation *c = user;
    struct fm_vk_pipeline *entry = c->missing[i];
    const struct fm_kernel *kernel = entry->key.kernel;
    if (c->cancel && !atomic_load(&c->stop)) {
        pthread_mutex_lock(&c->cancel_lock);
        if (!c->cancelled && c->cancel(c->user)) {
            c->cancelled = true;
            atomic_store(&c->stop, true);
        }
        pthread_mutex_unlock(&c->cancel_lock);
    }
    if (atomic_load(&c->stop))
        return;
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = kernel->spirv_bytes,
                                     .pCode = kernel->spirv};
    VkShaderModule module = VK_NULL_HANDLE;
    entry->result = FM_VK_CALL(c->vk->fn.vkCreateShaderModule(c->vk->device, &info, NULL, &module));
    if (entry->result == VK_SUCCESS) {
        entry->result = create_from_module(c->vk, entry, module);
        c->vk->fn.vkDestroyShaderModule(c->vk->device, module, NULL);
    }
    if (entry->result != VK_SUCCESS)
        atomic_store(&c->stop, true);
}

static enum fm_result create_missing(struct creation *c, uint32_t count)
{
    struct fm_vk_pipelines *p = &c->vk->pipelines;
    uint64_t start = fm_clock_ns();
    enum fm_result err = FM_OK;
    fm_thread_for(0, count, create_one, c);
    p->create_ns += fm_clock_ns() - start;
    for (uint32_t i = 0; i < count; i++) {
        struct fm_vk_pipeline *entry = c->missing[i];
        if (entry->result && !err)
            err = fm_vk_error(c->vk, entry->result, "kernel %s: pipeline creation", entry->key.kernel->name);
        entry->result = VK_SUCCESS; // a later program may try again
        if (!entry->handle)
            continue;
        p->created++;
        p->cached += entry->cached;
        p->unsaved += !entry->cached;
    }
    if (!err && c->cancelled)
        err = fm_fail(FM_CANCELLED, "cancelled while pipelines were made");
    return err;
}

// Limits that drivers do not check: they accept the pipeline and lose the device when it runs.
static enum fm_result check_limits(const struct fm_vk *vk, const struct fm_kernel *kernel)
{
    const struct fm_caps *caps = &vk->caps;
    uint64_t most = (uint64_t)caps->subgroup_size * vk->max_workgroup_subgroups;
    if (kernel->shared_bytes > caps->shared_bytes)
        return fm_fail(FM_UNSUPPORTED, "kernel %s wants %u bytes of shared memory, %s has %u", kernel->name,
                       kernel->shared_bytes, caps->name, caps->shared_bytes);
    if (kernel->full_subgroups && caps->subgroup_min != caps->subgroup_max && kernel->workgroup > most)
        return fm_fail(FM_UNSUPPORTED, "kernel %s has workgroups of %u, %s at most %llu with full subgroups of %u",
                       kernel->name, kernel->workgroup, caps->name, (unsigned long long)most, caps->subgroup_size);
    return FM_OK;
}

static enum fm_result get_locked(struct fm_vk *vk, const struct fm_plan *plan, struct creation *c, uint32_t *index,
                                 VkPipeline *out_pipelines)
{
    struct fm_vk_pipelines *p = &vk->pipelines;
    uint32_t count = 0;
    enum fm_result err = FM_OK;
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        if ((err = check_limits(vk, plan->dispatches[i].kernel)))
            return err;
        if ((err = find_entry(p, &plan->dispatches[i], &index[i])))
            return err;
    }
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        struct fm_vk_pipeline *entry = p->entries[index[i]];
        if (!entry->handle && !entry->result) {
            entry->result = VK_NOT_READY; // listed
            c->missing[count++] = entry;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        c->missing[i]->result = VK_SUCCESS;
    if (count > 0 && (err = create_missing(c, count)))
        return err;
    for (size_t i = 0; i < plan->n_dispatches; i++)
        out_pipelines[i] = p->entries[index[i]]->handle;
    return FM_OK;
}

enum fm_result fm_vk_pipelines_get(struct fm_vk *vk, const struct fm_plan *plan, bool (*cancel)(void *user),
                                   void *user, VkPipeline *out_pipelines)
{
    struct creation c = {.vk = vk, .cancel = cancel, .user = user};
    uint32_t *index = fm_alloc_zero(FM_MAX(plan->n_dispatches, 1u), sizeof(*index));
    enum fm_result err = FM_OK;
    c.missing = fm_alloc_zero(FM_MAX(plan->n_dispatches, 1u), sizeof(struct fm_vk_pipeline *));
    if (!index || !c.missing) {
        err = fm_nomem();
        goto out;
    }
    pthread_mutex_init(&c.cancel_lock, NULL);
    pthread_mutex_lock(&vk->pipelines.lock);
    err = get_locked(vk, plan, &c, index, out_pipelines);
    pthread_mutex_unlock(&vk->pipelines.lock);
    pthread_mutex_destroy(&c.cancel_lock);
out:
    fm_free(c.missing);
    fm_free(index);
    return err;
}
