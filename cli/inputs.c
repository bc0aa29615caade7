/* inputs.c - loads what the options name; see options.h. */
#include "cli/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
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

/* "gpu.rate=2" is all rates of a unit; "cpu->gpu=24GB/s" its field cpu->gpu.rate; the rest are fields as they stand. */
static enum status what_if(const char *text, struct hardware *hw, struct error *err)
{
    char name[128] = "", changed[160];
    const char *equals = strchr(text, '='), *value = equals ? equals + 1 : "";
    snprintf(name, sizeof name, "%.*s", (int)(equals ? equals - text : (long)strlen(text)), text);
    for (int i = 0; i < hw->n_computes; i++) {
        char unit[48];
        snprintf(unit, sizeof unit, "%s.rate", hw->compute[i].name);
        if (strcmp(name, unit) == 0) {
            char *end;
            double factor = strtod(value, &end);
            end += *end == 'x';
            if (*end || !(factor > 0 && factor < INFINITY)) {
                return error_set(err, STATUS_INVALID, "--what-if %s: expected a factor above 0 such as %s=2, found \"%.60s\"",
                                 name, unit, value);
            }
            snprintf(changed, sizeof changed, "%s=%.17g", hw->compute[i].name, factor);
            return hardware_scale(hw, changed, err);
        }
    }
    bool link = strstr(name, "->") && !strchr(name, '.');
    snprintf(changed, sizeof changed, "%s%s=%s", name, link ? ".rate" : "", value);
    return hardware_set(hw, equals ? changed : text, err);
}

enum status options_what_if(const struct options *o, struct hardware *hw, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < o->n_what_ifs; i++) {
        status = what_if(o->what_if[i], hw, err);
    }
    return status;
}

enum status options_workload(const struct options *o, const struct arch *a, struct workload *w, struct error *err)
{
    w->prompt_tokens = o->prompt_tokens;
    w->gen_tokens = o->gen_tokens;
    w->sequences = o->sequences;
    return workload_check(w, a->max_positions, err);
}

enum status options_traces(const struct options *o, struct error *err)
{
    return o->n_arguments > 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID, "a trace is missing: give one or more files that \"ballast run --trace\" wrote");
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
    if (o->attn_sparsity >= 0) {
        p->attention_sparsity = o->attn_sparsity;
    }
    if (o->overlap >= 0) {
        p->overlap = o->overlap;
    }
    if (o->schedule) {
        schedule_named(o->schedule, &p->schedule);
    }
    p->whole_tensors |= o->whole_tensors;
    p->pageable_weights |= o->pageable_weights;
}

enum status options_policy(const struct options *o, const struct hardware *hw, struct policy *p, struct error *err)
{
    enum status status = STATUS_OK;
    if (!o->policy && !o->percent[0]) {
        return error_set(
            err, STATUS_INVALID,
            "a policy is missing: give --policy FILE (\"ballast plan\" makes one) or --percent \"wg wc cg cc hg hc\"");
    }
    if (o->n_fixes > 0) {
        return error_set(err, STATUS_INVALID, "--set %s: fixes a part of what is searched, but a policy is given", o->fix[0]);
    }
    if (o->latency_s > 0 || o->max_block > 0) {
        return error_set(err, STATUS_INVALID, "--%s: limits what is searched, but a policy is given",
                         o->latency_s > 0 ? "latency" : "max-block");
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

/* The cache must be able to be where it is attended to, which is all that sparse attention is for. */
static enum status check_sparsity(const struct search_options *s, const struct hardware *hw, struct error *err)
{
    const struct policy freest = {.attention_near_cache = s->attention_near_cache != 0 && hw->n_computes > 1};
    double most = 0, elsewhere = 0;
    if (!(s->attention_sparsity > 0)) {
        return error_set(err, STATUS_INVALID, "--attn-sparsity: expected more than 0 and at most 1, found %g",
                         s->attention_sparsity);
    }
    for (int t = 0; s->attention_sparsity < 1 && t < hw->n_tiers; t++) {
        bool there = policy_attends_in_place(&freest, t);
        most += there ? s->fraction.high[CLASS_CACHE][t] : 0;
        elsewhere += there ? 0 : s->fraction.low[CLASS_CACHE][t];
    }
    if (s->attention_sparsity < 1 && (most < 1 || elsewhere > 0)) {
        return error_set(
            err, STATUS_INVALID,
            "--attn-sparsity: expected a cache that can be where it is attended to, found --set that keeps some of it elsewhere");
    }
    return STATUS_OK;
}

enum status options_search(const struct options *o, const struct hardware *hw, struct search_options *s, struct error *err)
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
    s->whole_tensors = o->whole_tensors;
    s->pageable_weights = o->pageable_weights;
    if (o->schedule) {
        enum schedule_kind schedule;
        if (schedule_named(o->schedule, &schedule)) {
            s->schedule = (int)schedule;
        }
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
    if (o->attn_sparsity >= 0) {
        s->attention_sparsity = o->attn_sparsity;
    }
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < o->n_fixes; i++) {
        status = fix_variable(o->fix[i], hw, s, err);
    }
    return status == STATUS_OK ? check_sparsity(s, hw, err) : status;
}
