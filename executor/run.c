#include "executor/run.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "executor/arena.h"
#include "executor/backend.h"
#include "executor/engine.h"
#include "executor/io.h"
#include "executor/sim/resident.h"
#include "executor/state.h"
#include "executor/weights.h"
#include "model/cost.h"
#include "model/stream.h"

/* A link's thread has its own queue to the disk and at most two operations between begin and finish. */
struct link_queue {
    struct io *io;
    int64_t job[2];
    int first, n;
};

struct runner {
    struct run_options o;
    const struct backend *backend;
    struct backend_state *unit[COMPUTES_MAX];
    struct arena arena[TIERS_MAX];
    char *region[TIERS_MAX][REGION_COUNT];
    struct weights weights;
    struct state state;
    struct schedule schedule;
    struct link_queue queue[RESOURCES_MAX];
    struct io *lookup_io; /* of the compute thread */
    float *logits;        /* (batches, batch_size, vocab) inside the workspace */
    char *lookup;         /* token vectors on their way, then scratch for sampling */
    int64_t lookup_bytes;
    float *near_upper, *near_lower; /* (2, batch_size, q+k+v) on tiers 0 and 1 */
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

/* Hidden states start as token vectors, fetched a workspace-full at a time. */
static enum status run_embed(struct runner *r, const struct op *op, const struct layer_weights *w, const struct batch *batch,
                             struct error *err)
{
    const struct arch *a = r->o.setting.arch;
    int64_t stride = weights_lookup_stride(&r->weights), rows = batch->sequences * batch->tokens;
    int64_t at_once = r->lookup_bytes / (stride + 8);
    int32_t *ids = (int32_t *)(r->lookup + at_once * stride), *shift = ids + at_once;
    enum status s = STATUS_OK;
    if (at_once < 1)
        return error_set(err, STATUS_INVALID, "a workspace of %lld bytes has no room for a token vector",
                         (long long)r->lookup_bytes);
    for (int64_t row = 0; row < rows && s == STATUS_OK; row += at_once) {
        int64_t n = rows - row < at_once ? rows - row : at_once;
        for (int64_t i = 0; i < n; i++)
            ids[i] = token_at(r, first_sequence(r, op) + (row + i) / batch->tokens, op->step, (row + i) % batch->tokens);
        s = weights_lookup(&r->weights, ids, n, r->lookup, stride, shift, r->lookup_io, err);
        for (int64_t i = 0; i < n && s == STATUS_OK; i++)
            s = r->backend->embed(r->unit[0], w, batch, row + i, 1, r->lookup + i * stride + shift[i], stride, a->weight_format,
                                  err);
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

static void sample_batch(struct runner *r, const struct op *op, float *logits)
{
    int64_t vocab = r->o.setting.arch->vocab;
    int n = r->o.setting.policy->gpu_batch_size, first = first_sequence(r, op);
    for (int i = 0; i < n; i++)
        accept_token(r, first + i, op->step,
                     sample_token(&r->o.sampling, logits + i * vocab, vocab, r->first + first + i, op->step, r->lookup));
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

/* Batches under way have room for their logits. */
static float *logits_of(const struct runner *r, const struct op *op)
{
    const struct policy *p = r->o.setting.policy;
    return r->logits + (int64_t)(op->batch % p->num_gpu_batches) * p->gpu_batch_size * r->o.setting.arch->vocab;
}

/* The last position only, or with a logits hook all of them, the last one last. */
static enum status run_head(struct runner *r, const struct op *op, const struct layer_weights *w, const struct batch *batch,
                            struct error *err)
{
    const struct arch *a = r->o.setting.arch;
    const struct tensor *table = layer_tensor(w->layer, ROLE_EMBED_TOKENS);
    int head = op->layer - layer_of(r, op)->block;
    float *logits = logits_of(r, op);
    struct layer_weights norm;
    weights_view(&r->weights, head, 0, &norm);
    enum status s = STATUS_OK;
    for (int64_t t = r->o.logits ? 0 : batch->tokens - 1; t < batch->tokens && s == STATUS_OK; t++) {
        s = r->backend->head(r->unit[0], w, &norm, batch, t, logits, err);
        for (int i = 0; i < batch->sequences && s == STATUS_OK && r->o.logits; i++)
            if (batch->first + t >= batch->pad[i])
                r->o.logits(r->first + first_sequence(r, op) + i, batch->first + t - batch->pad[i], table->row_begin,
                            table->row_end - table->row_begin, logits + i * a->vocab + table->row_begin, r->o.arg);
    }
    if (s == STATUS_OK && last_layer(r, op))
        sample_batch(r, op, logits);
    return s;
}

static float *near_rows(float *base, const struct runner *r, const struct op *op)
{
    return base + (int64_t)(op->batch % 2) * r->o.setting.policy->gpu_batch_size * r->qkv_width;
}

static enum status run_compute(struct runner *r, const struct op *op, struct error *err)
{
    struct layer_weights w;
    struct batch batch = {.pad = r->pad + first_sequence(r, op)};
    int home = placement_cache_count(r->o.setting.placement, op->layer, op->batch, 0);
    if (op->kind == OP_ATTEND) {
        batch.pad += home;
        state_view_near(&r->state, op, &batch);
        return r->backend->attend(r->unit[1], layer_of(r, op), &batch, near_rows(r->near_lower, r, op) + home * r->qkv_width,
                                  err);
    }
    weights_view(&r->weights, op->layer, op->slot, &w);
    state_view(&r->state, op, &batch);
    switch (op->kind) {
    case OP_EMBED:
        return run_embed(r, op, &w, &batch, err);
    case OP_ATTENTION:
        return r->backend->attention(r->unit[0], &w, &batch, err);
    case OP_MLP:
        return r->backend->mlp(r->unit[0], &w, &batch, err);
    case OP_HEAD:
        return run_head(r, op, &w, &batch, err);
    case OP_QKV:
        return r->backend->qkv(r->unit[0], &w, &batch, near_rows(r->near_upper, r, op), err);
    default:
        return r->backend->out(r->unit[0], &w, &batch, near_rows(r->near_upper, r, op), err);
    }
}

/* Queries, keys and values of the sequences below tier 0 go down; of what comes up only the queries' place matters. */
static void move_near(struct runner *r, const struct op *op)
{
    int home = placement_cache_count(r->o.setting.placement, op->layer, op->batch, 0);
    int64_t from = home * r->qkv_width, n = (r->o.setting.policy->gpu_batch_size - home) * r->qkv_width;
    float *upper = near_rows(r->near_upper, r, op) + from, *lower = near_rows(r->near_lower, r, op) + from;
    if (op->kind == OP_SEND_QKV) {
        r->backend->copy(lower, upper, n * (int64_t)sizeof *upper);
        return;
    }
    int64_t width = r->o.setting.arch->heads * r->o.setting.arch->head_dim;
    for (int64_t i = 0; i < n; i += r->qkv_width)
        r->backend->copy(upper + i, lower + i, width * (int64_t)sizeof *upper);
}

static enum status begin(void *context, const struct op *op, struct error *err)
{
    struct runner *r = context;
    if (op->link < 0)
        return run_compute(r, op, err);
    struct link_queue *q = &r->queue[op->resource];
    int64_t *job = &q->job[(q->first + q->n++) % 2];
    *job = -1;
    if (op->kind == OP_SEND_QKV || op->kind == OP_RETURN_ATTENDED) {
        move_near(r, op);
        return STATUS_OK;
    }
    if (op->kind == OP_LOAD_WEIGHTS)
        return weights_load(&r->weights, op, r->backend, q->io, job, err);
    return state_move(&r->state, op, r->backend, q->io, job, err);
}

static enum status finish(void *context, const struct op *op, struct error *err)
{
    struct runner *r = context;
    if (op->link < 0)
        return STATUS_OK;
    struct link_queue *q = &r->queue[op->resource];
    int64_t job = q->job[q->first];
    q->first = (q->first + 1) % 2;
    q->n--;
    return job >= 0 ? io_wait(q->io, job, err) : STATUS_OK;
}

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static enum status take_regions(struct runner *r, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    int disk = set->hardware->n_tiers - 1;
    enum status s = STATUS_OK;
    for (int t = 0; t <= disk && s == STATUS_OK; t++) {
        arena_init(&r->arena[t], set->hardware->tier[t].name, set->hardware->tier[t].capacity_bytes);
        for (int g = 0; g < REGION_COUNT && s == STATUS_OK; g++) {
            void *base = NULL;
            s = arena_take(&r->arena[t], region_name(g), set->placement->region_bytes[t][g], t < disk ? &base : NULL, err);
            r->region[t][g] = base;
        }
    }
    return s;
}

/* The workspace of tier 0: look-ups, the backend's part, rows of attention near the cache, the logits of the block. */
static enum status open_units(struct runner *r, struct error *err)
{
    const struct run_setting *set = &r->o.setting;
    const struct placement *pl = set->placement;
    int64_t logits = policy_block(set->policy) * set->arch->vocab * 4, own = pl->region_bytes[0][REGION_WORKSPACE] - logits;
    int64_t rows = workspace_rows(set->policy->gpu_batch_size, set->workload->prompt_tokens);
    int64_t decode_rows = workspace_rows(set->policy->gpu_batch_size, 1);
    bool near = set->policy->attention_near_cache;
    struct backend_options o = {.arch = set->arch,
                                .unit = &set->hardware->compute[0],
                                .cache = pl->cache,
                                .threads = r->o.threads,
                                .workspace = r->region[0][REGION_WORKSPACE] + lookup_bytes(set->arch),
                                .workspace_bytes = own - lookup_bytes(set->arch),
                                .rows = rows > decode_rows ? rows : decode_rows};
    r->lookup = r->region[0][REGION_WORKSPACE];
    r->logits = (float *)(r->lookup + own);
    r->lookup_bytes = lookup_bytes(set->arch);
    r->qkv_width = (set->arch->heads + 2 * set->arch->kv_heads) * set->arch->head_dim;
    if (near) { /* the same layout on both tiers, at the end of tier 0's part and at the start of tier 1's */
        int64_t bytes = near_rows_bytes(set->arch, set->policy);
        o.workspace_bytes -= bytes;
        r->near_upper = (float *)((char *)o.workspace + o.workspace_bytes);
        r->near_lower = (float *)r->region[1][REGION_WORKSPACE];
        struct backend_options below = {.arch = set->arch,
                                        .unit = &set->hardware->compute[1],
                                        .cache = pl->cache,
                                        .threads = r->o.threads,
                                        .workspace = r->region[1][REGION_WORKSPACE] + bytes,
                                        .workspace_bytes = pl->region_bytes[1][REGION_WORKSPACE] - bytes};
        enum status s = r->backend->open(&r->unit[1], &below, err);
        if (s != STATUS_OK)
            return s;
    }
    return r->backend->open(&r->unit[0], &o, err);
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
    struct weights_memory wm = {.resident = r->region[0][REGION_RESIDENT],
                                .staging = r->region[0][REGION_WORKSPACE],
                                .staging_bytes = set->placement->region_bytes[0][REGION_WORKSPACE] / IO_ALIGN * IO_ALIGN,
                                .threads = r->o.threads};
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
    r->backend = &backend_cpu;
    enum status s = placement_check(set->placement, set->hardware, err);
    if (s == STATUS_OK)
        s = schedule_new(&r->schedule, set->arch, set->hardware, set->workload, set->policy, set->placement, err);
    if (s == STATUS_OK)
        s = take_regions(r, err);
    if (s == STATUS_OK)
        s = open_queues(r, err);
    if (s == STATUS_OK)
        s = open_store(r, err);
    if (s == STATUS_OK)
        s = open_units(r, err);
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
        r->backend->close(r->unit[u]);
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

enum status runner_generate(struct runner *r, const struct prompt *prompts, int64_t n, int64_t first, struct generated *out,
                            struct trace *trace, struct error *err)
{
    struct engine_work work = {.context = r, .begin = begin, .finish = finish};
    enum status s = fill_block(r, prompts, n, err);
    r->first = first;
    if (trace)
        trace_describe(trace, TRACE_MEASURED, &r->o.setting);
    if (s == STATUS_OK)
        s = engine_run(&r->schedule, resource_count(r->o.setting.hardware), &work, r->o.n_stop ? &r->stop : NULL, trace, err);
    if (s == STATUS_OK)
        s = check_peaks(r, trace, err);
    if (s == STATUS_OK && trace)
        s = trace_resident(&r->schedule, &r->o.setting, trace, err);
    return s == STATUS_OK ? collect(r, out, err) : s;
}

int64_t runner_peak_bytes(const struct runner *r, int tier)
{
    return r->arena[tier].peak_bytes;
}

const char *runner_io_method(const struct runner *r)
{
    return io_method(r->lookup_io);
}
