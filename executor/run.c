#include "executor/run.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "executor/arena.h"
#include "executor/backend.h"
#include "executor/engine.h"
#include "executor/io.h"
#include "executor/now.h"
#include "executor/sim/resident.h"
#include "executor/state.h"
#include "executor/weights.h"
#include "model/cost.h"
#include "model/in_use.h"
#include "model/integers.h"
#include "model/stream.h"

/* A resource's thread has at most two operations between begin and finish, with numbers 0 and 1 in turn; the last link's has a queue to the disk. */
struct op_queue {
    struct io *io;
    int64_t job[2]; /* of transfers */
    int first, n;
};

/* What lies in the workspace of a tier: model/placement.h, struct workspace. */
struct workspace_view {
    char *lookup, *upload, *unit;
    float *logits, *near;
    struct workspace part;
};

struct runner {
    struct run_options o;
    const struct backend *backend[COMPUTES_MAX]; /* of unit 0, which also copies, and of unit 1: the host's processor */
    struct backend_state *unit[COMPUTES_MAX];
    struct arena arena[TIERS_MAX];
    char *region[TIERS_MAX][REGION_COUNT];
    struct weights weights;
    struct state state;
    struct schedule schedule;
    struct op_queue queue[RESOURCES_MAX];
    struct io *lookup_io; /* of the compute thread */
    double pinning_s;
    struct workspace_view workspace[TIERS_MAX], *host; /* host: of the tier whose lookup is used */
    int64_t qkv_width;
    /* of the current run of the schedule */
    int64_t block;   /* sequences in it */
    int32_t *pad;    /* (block) */
    int32_t *prompt; /* (block, prompt_tokens) left-padded */
    int32_t *tokens; /* (block, gen_tokens) */
    int64_t *length; /* (block) generated so far, the stop token included */
    bool *ended;     /* (block) */
    int64_t wanted;  /* sequences that are not fill */
    int64_t first;   /* number of the block's first sequence in the run */
    atomic_bool stop;
};

/* -- operations ------------------------------------------------------------------------------------------------------- */

static const struct layer *layer_of(const struct runner *r, const struct op *op)
{
    return &r->o.setting.arch->layer[op->layer];
}

static int first_sequence(const struct runner *r, const struct op *op)
{
    return op->batch * r->o.setting.policy->gpu_batch_size;
}

static int32_t token_at(const struct runner *r, int64_t sequence, int step, int64_t token)
{
    const struct workload *w = r->o.setting.workload;
    return step == 0 ? r->prompt[sequence * w->prompt_tokens + token] : r->tokens[sequence * w->gen_tokens + step - 1];
}

/* Copies of a resource: its own queue of unit 0. */
static struct lane lane_of(const struct runner *r, int resource)
{
    return (struct lane){r->backend[0], r->unit[0], resource};
}

/* Hidden states start as token vectors, looked up a workspace-full at a time; the unit may still be reading the one before. */
static enum status run_embed(struct runner *r, const struct op *op, const struct layer_weights *w, const struct batch *batch,
                             struct error *err)
{
    const struct arch *a = r->o.setting.arch;
    struct lane lane = lane_of(r, op->resource);
    int64_t stride = weights_lookup_stride(&r->weights), rows = batch->sequences * batch->tokens;
    int64_t at_once = r->host->part.lookup_bytes / (stride + (int64_t)(sizeof(void *) + sizeof(int32_t)));
    const void **vector = (const void **)(void *)(r->host->lookup + at_once * stride);
    int32_t *ids = (int32_t *)(void *)(vector + at_once);
    enum status s = STATUS_OK;
    if (at_once < 1)
        return error_set(err, STATUS_INVALID, "a workspace of %lld bytes has no room for a token vector",
                         (long long)r->host->part.lookup_bytes);
    for (int64_t row = 0; row < rows && s == STATUS_OK; row += at_once) {
        int64_t n = rows - row < at_once ? rows - row : at_once;
        for (int64_t i = 0; i < n; i++)
            ids[i] = token_at(r, first_sequence(r, op) + (row + i) / batch->tokens, op->step, (row + i) % batch->tokens);
        s = row > 0 ? lane_wait(&lane, err) : STATUS_OK;
        if (s == STATUS_OK)
            s = weights_lookup(&r->weights, ids, n, r->host->lookup, vector, r->lookup_io, err);
        if (s == STATUS_OK)
            s = r->backend[0]->embed(r->unit[0], w, batch, row, n, vector, a->weight_format, err);
    }
    return s;
}

static void accept_token(struct runner *r, int64_t sequence, int step, int32_t token)
{
    r->tokens[sequence * r->o.setting.workload->gen_tokens + step] = token;
    if (r->ended[sequence])
        return;
    r->length[sequence] = step + 1;
    for (int i = 0; i < r->o.n_stop; i++)
        if (token == r->o.stop_tokens[i])
            r->ended[sequence] = true;
}

/* Where a head's operation has the tokens that it chooses: 1 MiB at least, four times what the largest batch takes. */
static int32_t *chosen(const struct runner *r, int number)
{
    return (int32_t *)(void *)r->host->lookup + (int64_t)number * r->o.setting.policy->gpu_batch_size;
}

static void accept_batch(struct runner *r, const struct op *op, const int32_t *token)
{
    for (int i = 0; i < r->o.setting.policy->gpu_batch_size; i++)
        accept_token(r, first_sequence(r, op) + i, op->step, token[i]);
    if (!stream_ends_pass(r->o.setting.workload, r->o.setting.policy, op->batch, op->step))
        return;
    bool all = true;
    for (int64_t i = 0; i < r->wanted; i++)
        all &= r->ended[i];
    r->stop = all;
    if (r->o.step_done)
        r->o.step_done(op->step, r->o.arg);
}

static bool last_layer(const struct runner *r, const struct op *op)
{
    return op->layer + 1 == r->o.setting.arch->n_layers;
}

static float *logits_of(const struct runner *r, const struct op *op)
{
    const struct policy *p = r->o.setting.policy;
    const struct arch *a = r->o.setting.arch;
    return r->workspace[0].logits + (int64_t)(op->batch % workspace_logits(a, p)) * p->gpu_batch_size * a->vocab;
}

/* What a head part has made of the tokens at `token` goes to the hook, by way of the host's memory. */
static enum status show_logits(struct runner *r, const struct op *op, const struct batch *batch, int64_t token,
                               const float *logits, struct error *err)
{
    const struct tensor *table = layer_tensor(layer_of(r, op), ROLE_EMBED_TOKENS);
    const int64_t count = table->row_end - table->row_begin, at = batch->first + token;
    float *row = (float *)(void *)r->host->lookup;
    struct lane lane = lane_of(r, op->resource);
    enum status s = STATUS_OK;
    for (int i = 0; i < batch->sequences && s == STATUS_OK; i++) {
        if (at < batch->pad[i])
            continue;
        s = lane_copy_now(&lane, row, logits + i * r->o.setting.arch->vocab + table->row_begin, count * (int64_t)sizeof *row,
                          err);
        if (s == STATUS_OK)
            r->o.logits(r->first + first_sequence(r, op) + i, at - batch->pad[i], table->row_begin, count, row, r->o.arg);
    }
    return s;
}

/* The last position only, or with a logits hook all of them, the last one last. Its tokens are there when it has ended. */
static enum status run_head(struct runner *r, const struct op *op, const struct layer_weights *w, const struct batch *batch,
                            int32_t *token, struct error *err)
{
    int head = op->layer - layer_of(r, op)->block;
    float *logits = logits_of(r, op);
    struct layer_weights norm;
    weights_view(&r->weights, head, 0, &norm);
    enum status s = STATUS_OK;
    for (int64_t t = r->o.logits ? 0 : batch->tokens - 1; t < batch->tokens && s == STATUS_OK; t++) {
        s = r->backend[0]->head(r->unit[0], w, &norm, batch, t, logits, err);
        if (s == STATUS_OK && r->o.logits)
            s = show_logits(r, op, batch, t, logits, err);
    }
    if (s != STATUS_OK || !last_layer(r, op))
        return s;
    return r->backend[0]->choose(r->unit[0], &r->o.sampling, logits, batch->sequences, r->first + first_sequence(r, op), op->step,
                                 token, err);
}

static float *near_rows(const struct runner *r, int tier, const struct op *op)
{
    return r->workspace[tier].near + (int64_t)op->near_slot * r->o.setting.policy->gpu_batch_size * r->qkv_width;
}

static enum status begin_compute(struct runner *r, const struct op *op, int number, struct error *err)
{
    struct layer_weights w;
    struct batch batch = {.pad = r->pad + first_sequence(r, op)};
    int home = placement_cache_count(r->o.setting.placement, op->layer, op->batch, 0);
    if (op->kind == OP_ATTEND) {
        batch.pad += home;
        state_view_near(&r->state, op, &batch);
        return r->backend[1]->attend(r->unit[1], layer_of(r, op), &batch, near_rows(r, 1, op) + home * r->qkv_width, err);
    }
    weights_view(&r->weights, op->layer, op->slot, &w);
    state_view(&r->state, op, &batch);
    switch (op->kind) {
    case OP_EMBED:
        return run_embed(r, op, &w, &batch, err);
    case OP_ATTENTION:
        return r->backend[0]->attention(r->unit[0], &w, &batch, err);
    case OP_MLP:
        return r->backend[0]->mlp(r->unit[0], &w, &batch, err);
    case OP_HEAD:
        return run_head(r, op, &w, &batch, chosen(r, number), err);
    case OP_QKV:
        return r->backend[0]->qkv(r->unit[0], &w, &batch, near_rows(r, 0, op), err);
    default:
        return r->backend[0]->out(r->unit[0], &w, &batch, near_rows(r, 0, op), err);
    }
}

/* Queries, keys and values of the sequences below tier 0 go down; of what comes up only the queries' place matters. */
static enum status move_near(struct runner *r, const struct op *op, struct error *err)
{
    int home = placement_cache_count(r->o.setting.placement, op->layer, op->batch, 0);
    int64_t n = r->o.setting.policy->gpu_batch_size - home, row = r->qkv_width * (int64_t)sizeof(float),
            queries = r->o.setting.arch->heads * r->o.setting.arch->head_dim * (int64_t)sizeof(float);
    float *upper = near_rows(r, 0, op) + home * r->qkv_width, *lower = near_rows(r, 1, op) + home * r->qkv_width;
    if (op->kind == OP_SEND_QKV)
        return r->backend[0]->copy(r->unit[0], op->resource, lower, upper, n, row, row, err);
    return r->backend[0]->copy(r->unit[0], op->resource, upper, lower, n, queries, row, err);
}

static enum status begin_transfer(struct runner *r, const struct op *op, int64_t *job, struct error *err)
{
    struct lane lane = lane_of(r, op->resource);
    if (op->kind == OP_SEND_QKV || op->kind == OP_RETURN_ATTENDED)
        return move_near(r, op, err);
    if (op->kind == OP_LOAD_WEIGHTS)
        return weights_load(&r->weights, op, &lane, r->queue[op->resource].io, job, err);
    return state_move(&r->state, op, &lane, r->queue[op->resource].io, job, err);
}

/* The unit on whose queue an operation is. */
static int unit_of(const struct op *op)
{
    return op->kind == OP_ATTEND ? 1 : 0;
}

/* A head whose logits are shown uses the buffer that tokens and their vectors pass through. */
static bool queues(void *context, const struct op *op)
{
    const struct runner *r = context;
    const bool shows = op->kind == OP_HEAD && r->o.logits;
    return r->backend[unit_of(op)]->queues && !op_needs_idle_unit(op) && !shows;
}

static enum status begin(void *context, const struct op *op, struct error *err)
{
    struct runner *r = context;
    struct op_queue *q = &r->queue[op->resource];
    const int number = (q->first + q->n) % 2, unit = unit_of(op);
    q->job[number] = -1;
    enum status s = op->link < 0 ? begin_compute(r, op, number, err) : begin_transfer(r, op, &q->job[number], err);
    if (s == STATUS_OK)
        s = r->backend[unit]->mark(r->unit[unit], op->resource, number, err);
    if (s == STATUS_OK)
        q->n++;
    return s;
}

static enum status finish(void *context, const struct op *op, struct error *err)
{
    struct runner *r = context;
    struct op_queue *q = &r->queue[op->resource];
    const int number = q->first, unit = unit_of(op);
    q->first = (q->first + 1) % 2;
    q->n--;
    enum status s = r->backend[unit]->wait(r->unit[unit], op->resource, number, err);
    if (s == STATUS_OK && q->job[number] >= 0)
        s = io_wait(q->io, q->job[number], err);
    if (s == STATUS_OK && op->kind == OP_HEAD && last_layer(r, op))
        accept_batch(r, op, chosen(r, number));
    return s;
}

/* -- opening ---------------------------------------------------------------------------------------------------------- */

/* A device's memory and the host's beside it come in one block from the backend, if it wants that. */
static const struct memory *memory_of(const struct runner *r, int tier)
{
    const struct hardware *hw = r->o.setting.hardware;
    if (hw->tier[tier].kind == TIER_DEVICE)
        return r->backend[0]->device;
    return tier == host_tier(hw) ? r->backend[0]->host : NULL;
}

static enum status take_tier(struct runner *r, int t, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    const struct memory *m = memory_of(r, t);
    bool disk = t == set->hardware->n_tiers - 1;
    arena_init(&r->arena[t], set->hardware->tier[t].name, set->hardware->tier[t].capacity_bytes);
    double start = now_s();
    enum status s = m ? arena_reserve(&r->arena[t], m, placement_block(set->placement, t), err) : STATUS_OK;
    if (m && t == host_tier(set->hardware))
        r->pinning_s = now_s() - start;
    for (int g = 0; g < REGION_COUNT && s == STATUS_OK; g++) {
        void *base = NULL;
        s = (placement_pageable(set->placement, t, g) ? arena_take_plain : arena_take)(&r->arena[t], region_name(g),
                                                                                       set->placement->region_bytes[t][g],
                                                                                       disk ? NULL : &base, err);
        r->region[t][g] = base;
    }
    return s;
}

static void view_workspace(struct runner *r, int t)
{
    const struct run_setting *set = &r->o.setting;
    struct workspace_view *v = &r->workspace[t];
    v->part = workspace_of(set->arch, set->hardware, t, set->workload, set->policy);
    v->lookup = r->region[t][REGION_WORKSPACE];
    v->upload = v->lookup + v->part.lookup_bytes;
    v->logits = (float *)(void *)(v->upload + v->part.upload_bytes);
    v->unit = v->upload + v->part.upload_bytes + v->part.logits_bytes;
    v->near = (float *)(v->unit + v->part.unit_bytes);
}

static enum status take_regions(struct runner *r, struct error *err)
{
    int tiers = r->o.setting.hardware->n_tiers;
    enum status s = STATUS_OK;
    for (int t = 0; t < tiers && s == STATUS_OK; t++) {
        s = take_tier(r, t, err);
        if (s == STATUS_OK && t < tiers - 1)
            view_workspace(r, t);
    }
    r->host = &r->workspace[host_tier(r->o.setting.hardware)];
    return s;
}

static enum status open_unit(struct runner *r, int unit, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    const struct workspace_view *v = &r->workspace[unit];
    int64_t rows = workspace_rows(&set->hardware->compute[unit], set->policy->gpu_batch_size, set->workload->prompt_tokens);
    struct backend_options o = {.arch = set->arch,
                                .unit = &set->hardware->compute[unit],
                                .cache = set->placement->cache,
                                .attention_sparsity = set->policy->attention_sparsity,
                                .cache_tokens = set->placement->cache_tokens,
                                .threads = r->o.threads,
                                .queue = resource_compute(set->hardware, unit),
                                .workspace = v->unit,
                                .workspace_bytes = v->part.unit_bytes,
                                .rows = unit == 0 ? max64(rows, workspace_rows(&set->hardware->compute[unit],
                                                                               set->policy->gpu_batch_size, 1))
                                                  : 0,
                                .upload = r->host->upload,
                                .upload_bytes = r->host->part.upload_bytes};
    return r->backend[unit]->open(&r->unit[unit], &o, err);
}

static enum status open_units(struct runner *r, struct error *err)
{
    enum status s = open_unit(r, 0, err);
    r->qkv_width = (r->o.setting.arch->heads + 2 * r->o.setting.arch->kv_heads) * r->o.setting.arch->head_dim;
    return s == STATUS_OK && r->o.setting.policy->attention_near_cache ? open_unit(r, 1, err) : s;
}

static enum status open_queues(struct runner *r, struct error *err)
{
    int links = r->o.setting.hardware->n_tiers - 1;
    enum status s = io_new(&r->lookup_io, NULL, err);
    for (int i = 2 * (links - 1); i < 2 * links && s == STATUS_OK; i++) /* only the last link touches the disk */
        s = io_new(&r->queue[i].io, NULL, err);
    return s;
}

static enum status open_store(struct runner *r, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    int host = host_tier(set->hardware);
    struct weights_memory wm = {.resident = r->region[0][REGION_RESIDENT],
                                .staging = r->region[host][REGION_WORKSPACE],
                                .staging_bytes = set->placement->region_bytes[host][REGION_WORKSPACE],
                                .threads = r->o.threads,
                                .lane = lane_of(r, resource_compute(set->hardware, 0))};
    struct state_memory sm = {{0}, {0}, {0}, {0}};
    for (int t = 0; t < TIERS_MAX; t++) {
        wm.weights[t] = r->region[t][REGION_WEIGHTS];
        wm.ring[t] = r->region[t][REGION_WEIGHT_RING];
        sm.cache[t] = r->region[t][REGION_CACHE];
        sm.cache_slots[t] = r->region[t][REGION_CACHE_SLOTS];
        sm.hidden[t] = r->region[t][REGION_ACTIVATIONS];
        sm.hidden_slots[t] = r->region[t][REGION_ACTIVATION_SLOTS];
    }
    enum status s = state_open(&r->state, set->placement, set->workload, set->policy, &sm, r->o.scratch_directory, err);
    if (s == STATUS_OK)
        s = weights_open(&r->weights, r->o.model_directory, set->arch, set->placement, set->policy->prefetch, &wm,
                         r->o.scratch_directory, r->lookup_io, r->o.loading, r->o.arg, err);
    return s;
}

static enum status open_block(struct runner *r, struct error *err)
{
    const struct workload *w = r->o.setting.workload;
    r->block = stream_sequences(w, r->o.setting.policy);
    size_t n = (size_t)r->block;
    r->pad = calloc(n, sizeof *r->pad);
    r->prompt = calloc(n * (size_t)w->prompt_tokens, sizeof *r->prompt);
    r->tokens = calloc(n * (size_t)w->gen_tokens, sizeof *r->tokens);
    r->length = calloc(n, sizeof *r->length);
    r->ended = calloc(n, sizeof *r->ended);
    if (!r->pad || !r->prompt || !r->tokens || !r->length || !r->ended)
        return error_set(err, STATUS_RUNTIME, "out of memory for %lld sequences", (long long)r->block);
    return STATUS_OK;
}

enum status runner_open(struct runner **out, const struct run_options *o, struct error *err)
{
    const struct run_setting *set = &o->setting;
    struct runner *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        return error_set(err, STATUS_RUNTIME, "out of memory");
    r->o = *o;
    r->backend[0] = o->backend ? o->backend : &backend_cpu;
    r->backend[1] = &backend_cpu;
    enum status s = placement_check(set->placement, set->hardware, err);
    if (s == STATUS_OK && hardware_waits(set->hardware))
        s = error_set(err, STATUS_INVALID,
                      "profile %s is of another program (its key runtime): it can be predicted and simulated, not run",
                      set->hardware->name);
    if (s == STATUS_OK)
        s = schedule_new(&r->schedule, set->arch, set->hardware, set->workload, set->policy, set->placement, err);
    if (s == STATUS_OK)
        s = take_regions(r, err);
    if (s == STATUS_OK)
        s = open_queues(r, err);
    if (s == STATUS_OK)
        s = open_units(r, err);
    if (s == STATUS_OK)
        s = open_store(r, err);
    if (s == STATUS_OK)
        s = open_block(r, err);
    if (s != STATUS_OK) {
        runner_close(r);
        return s;
    }
    *out = r;
    return STATUS_OK;
}

void runner_close(struct runner *r)
{
    if (!r)
        return;
    for (int u = 0; u < COMPUTES_MAX; u++)
        r->backend[u]->close(r->unit[u]);
    for (int i = 0; i < RESOURCES_MAX; i++)
        io_free(r->queue[i].io);
    io_free(r->lookup_io);
    weights_close(&r->weights);
    state_close(&r->state);
    schedule_free(&r->schedule);
    for (int t = 0; t < TIERS_MAX; t++)
        arena_free(&r->arena[t]);
    free(r->pad);
    free(r->prompt);
    free(r->tokens);
    free(r->length);
    free(r->ended);
    free(r);
}

/* -- generating ------------------------------------------------------------------------------------------------------- */

static enum status fill_block(struct runner *r, const struct prompt *prompts, int64_t n, struct error *err)
{
    int64_t s = r->o.setting.workload->prompt_tokens;
    if (n < 1 || n > r->block)
        return error_set(err, STATUS_INVALID, "%lld prompts for a block of %lld", (long long)n, (long long)r->block);
    r->wanted = n;
    r->stop = false;
    for (int64_t i = 0; i < r->block; i++) {
        const struct prompt *p = &prompts[i < n ? i : n - 1];
        if (p->n_ids < 1 || p->n_ids > s)
            return error_set(err, STATUS_INVALID, "prompt %s has %lld tokens, expected 1 to %lld", p->id, (long long)p->n_ids,
                             (long long)s);
        r->pad[i] = (int32_t)(s - p->n_ids);
        for (int64_t t = 0; t < r->pad[i]; t++)
            r->prompt[i * s + t] = r->o.pad_token;
        memcpy(&r->prompt[i * s + r->pad[i]], p->ids, (size_t)p->n_ids * sizeof *p->ids);
        r->length[i] = 0;
        r->ended[i] = false;
    }
    return STATUS_OK;
}

static enum status collect(const struct runner *r, struct generated *out, struct error *err)
{
    int64_t n = r->o.setting.workload->gen_tokens;
    for (int64_t i = 0; i < r->wanted; i++) {
        out[i] = (struct generated){.tokens = malloc((size_t)n * sizeof(int32_t)), .n = r->length[i], .stopped = r->ended[i]};
        if (!out[i].tokens) {
            while (i-- > 0)
                free(out[i].tokens);
            return error_set(err, STATUS_RUNTIME, "out of memory for %lld tokens", (long long)n);
        }
        memcpy(out[i].tokens, &r->tokens[i * n], (size_t)out[i].n * sizeof(int32_t));
    }
    return STATUS_OK;
}

/* What ran must be what was planned, byte for byte. */
static enum status check_peaks(const struct runner *r, struct trace *trace, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    for (int t = 0; t < set->hardware->n_tiers; t++) {
        int64_t planned = placement_peak(set->placement, t), peak = r->arena[t].peak_bytes;
        if (trace)
            trace->measured_peak_bytes[t] = peak;
        if (planned != peak)
            return error_set(err, STATUS_RUNTIME, "tier %s: %lld bytes were taken, %lld were planned",
                             set->hardware->tier[t].name, (long long)peak, (long long)planned);
    }
    return STATUS_OK;
}

/* Neither may more be in use at once, in either phase, than the prediction says. */
static enum status check_in_use(const struct runner *r, struct trace *trace, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    enum status s = trace_resident(&r->schedule, set, trace, err);
    for (int ph = 0; ph < PHASE_COUNT && s == STATUS_OK; ph++) {
        for (int t = 0; t < set->hardware->n_tiers && s == STATUS_OK; t++) {
            int64_t most = in_use_most(set->placement, set->arch, set->workload, set->policy, (enum phase)ph, t);
            if (trace->in_use_bytes[ph][t] > most)
                s = error_set(err, STATUS_RUNTIME, "tier %s: %lld bytes were in use at once in %s, at most %lld were predicted",
                              set->hardware->tier[t].name, (long long)trace->in_use_bytes[ph][t], phase_name((enum phase)ph),
                              (long long)most);
        }
    }
    return s;
}

enum status runner_generate(struct runner *r, const struct prompt *prompts, int64_t n, int64_t first, struct generated *out,
                            struct trace *trace, struct error *err)
{
    struct engine_work work = {.context = r, .begin = begin, .finish = finish, .queues = queues};
    enum status s = fill_block(r, prompts, n, err);
    r->first = first;
    if (trace)
        trace_describe(trace, hardware_is_emulated(r->o.setting.hardware) ? TRACE_EMULATED : TRACE_MEASURED, &r->o.setting);
    if (s == STATUS_OK)
        s = engine_run(&r->schedule, resource_count(r->o.setting.hardware), &work, r->o.n_stop ? &r->stop : NULL, trace, err);
    if (s == STATUS_OK)
        s = check_peaks(r, trace, err);
    if (s == STATUS_OK && trace)
        s = check_in_use(r, trace, err);
    return s == STATUS_OK ? collect(r, out, err) : s;
}

int64_t runner_peak_bytes(const struct runner *r, int tier)
{
    return r->arena[tier].peak_bytes;
}

double runner_pinning_s(const struct runner *r)
{
    return r->pinning_s;
}

const char *runner_io_method(const struct runner *r)
{
    return io_method(r->lookup_io);
}
