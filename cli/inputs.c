/* inputs.c - loads what the options name; see options.h. */
#include "cli/options.h"

#include <string.h>

#include "model/hardware_set.h"

enum status options_model(const struct options *o, struct arch *a, struct error *err)
{
    memset(a, 0, sizeof *a);
    if (!o->model) {
        return error_set(err, STATUS_INVALID,
                         "-m/--model is missing: give a model directory, a config.json or a preset such as opt-1.3b");
    }
    return arch_load(a, o->model, err);
}

enum status options_profile(const struct options *o, struct hardware *hw, struct error *err)
{
    if (!o->hardware) {
        return error_set(
            err, STATUS_INVALID,
            "-H/--hardware is missing: measure this machine with \"ballast profile -o FILE\" or give a built-in profile "
            "such as t4-gcp");
    }
    return hardware_load(hw, o->hardware, err);
}

enum status options_change(const struct options *o, struct hardware *hw, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < o->n_changes; i++) {
        status = hardware_set(hw, o->change[i], err);
    }
    for (int i = 0; status == STATUS_OK && i < o->n_budgets; i++) {
        status = hardware_budget(hw, o->budget[i], err);
    }
    if (status == STATUS_OK && o->page_cache) {
        status = hardware_page_cache(hw, o->page_cache, err);
    }
    for (int i = 0; status == STATUS_OK && i < o->n_scales; i++) {
        status = hardware_scale(hw, o->scale[i], err);
    }
    return status;
}

enum status options_hardware(const struct options *o, struct hardware *hw, struct error *err)
{
    enum status status = options_profile(o, hw, err);
    return status == STATUS_OK ? options_change(o, hw, err) : status;
}

enum status options_workload(const struct options *o, const struct arch *a, struct workload *w, struct error *err)
{
    w->prompt_tokens = o->prompt_tokens;
    w->gen_tokens = o->gen_tokens;
    w->sequences = o->sequences;
    return workload_check(w, a->max_positions, err);
}

/* Every flag that was given, on top of what p holds. */
static void apply_flags(const struct options *o, struct policy *p)
{
    p->gpu_batch_size = o->gpu_batch_size ? (int)o->gpu_batch_size : p->gpu_batch_size;
    p->num_gpu_batches = o->num_gpu_batches ? (int)o->num_gpu_batches : p->num_gpu_batches;
    p->prefetch = o->prefetch ? (int)o->prefetch : p->prefetch;
    if (o->compress_weight >= 0) {
        p->weight_bits = o->compress_weight ? 4 : 16;
    }
    if (o->compress_cache >= 0) {
        p->cache_bits = o->compress_cache ? 4 : 16;
    }
    if (o->cpu_cache_compute >= 0) {
        p->attention_near_cache = o->cpu_cache_compute;
    }
    if (o->overlap >= 0) {
        p->overlap = o->overlap;
    }
    if (o->schedule) {
        schedule_named(o->schedule, &p->schedule);
    }
}

enum status options_policy(const struct options *o, const struct hardware *hw, struct policy *p, struct error *err)
{
    enum status status = STATUS_OK;
    if (!o->policy && !o->percent[0]) {
        return error_set(
            err, STATUS_INVALID,
            "a policy is missing: give --policy FILE (\"ballast plan\" makes one) or --percent \"wg wc cg cc hg hc\"");
    }
    policy_default(p, hw->n_tiers);
    if (o->policy) {
        status = policy_load(p, o->policy, hw, err);
    }
    if (status == STATUS_OK && o->percent[0]) {
        status = policy_percent(p, o->percent, hw, err);
    }
    if (status == STATUS_OK) {
        apply_flags(o, p);
        status = policy_check(p, hw, o->policy ? o->policy : "command line", err);
    }
    return status;
}

enum status options_search(const struct options *o, struct search_options *s, struct error *err)
{
    search_options_default(s);
    if (o->percent[0]) {
        return error_set(err, STATUS_INVALID,
                         "--percent fixes the placement that is to be searched: use \"ballast predict\" for it");
    }
    s->gpu_batch_size = (int)o->gpu_batch_size;
    s->num_gpu_batches = (int)o->num_gpu_batches;
    s->max_block = o->max_block;
    s->max_latency_s = o->latency_s;
    s->prefetch = (int)o->prefetch;
    s->overlap = o->overlap;
    if (o->schedule) {
        s->schedule = strcmp(o->schedule, "row") == 0 ? SCHEDULE_ROW : SCHEDULE_ZIGZAG;
    }
    if (o->compress_weight >= 0) {
        s->weight_bits = o->compress_weight ? 4 : 16;
    }
    if (o->compress_cache >= 0) {
        s->cache_bits = o->compress_cache ? 4 : 16;
    }
    if (o->cpu_cache_compute >= 0) {
        s->attention_near_cache = o->cpu_cache_compute;
    }
    return STATUS_OK;
}
