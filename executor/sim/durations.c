/* durations.c - op_seconds for a whole schedule: most operations repeat one of few, so a small table answers for them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "executor/sim/sim.h"
#include "model/stream.h"

#define ENTRIES 4096 /* a power of two; a collision only costs another call */

/* What op_seconds depends on. */
struct question {
    int64_t bytes; /* of a transfer or a staging copy */
    int32_t kind_resource, shape, step, at_home;
};

struct answer {
    struct question q;
    bool known;
    double seconds;
};

static bool same_shape(const struct layer *x, const struct layer *y)
{
    bool same = x->kind == y->kind && x->n_tensors == y->n_tensors && x->a == y->a && x->b == y->b && x->window == y->window &&
                x->state_const == y->state_const && x->state_per_token == y->state_per_token;
    for (int j = 0; same && j < x->n_tensors; j++) {
        const struct tensor *s = &x->tensor[j], *t = &y->tensor[j];
        same = s->role == t->role && s->placed == t->placed && s->cols == t->cols && s->rows == t->rows &&
               s->row_end - s->row_begin == t->row_end - t->row_begin;
    }
    return same;
}

/* The first layer that costs the same, for each. */
static void find_shapes(const struct arch *a, int32_t *shape)
{
    for (int i = 0; i < a->n_layers; i++) {
        shape[i] = i;
        for (int j = 0; j < i && shape[i] == i; j++)
            if (shape[j] == j && same_shape(&a->layer[i], &a->layer[j]))
                shape[i] = j;
    }
}

static struct question question(const struct op *op, const struct run_setting *s, const int32_t *shape)
{
    struct question q = {.bytes = op->bytes, .kind_resource = op->resource};
    bool paged = op->kind == OP_STORE_CACHE && hardware_waits(s->hardware); /* then it matters where the rows go */
    if (op->link >= 0 && !paged)
        return q;
    q.kind_resource |= (op->kind + 1) << 8;
    q.shape = shape[op->layer];
    q.step = op->step;
    q.at_home = s->arch->layer[op->layer].kind == LAYER_ATTENTION
                    ? placement_cache_count(s->placement, op->layer, op->batch, paged ? s->hardware->n_tiers - 1 : 0)
                    : 0;
    return q;
}

static size_t place_of(const struct question *q)
{
    uint64_t h = (uint64_t)q->bytes * 0x9E3779B97F4A7C15u;
    h ^= ((uint64_t)(uint32_t)q->kind_resource << 40) ^ ((uint64_t)(uint32_t)q->shape << 20) ^ (uint64_t)(uint32_t)q->step ^
         ((uint64_t)(uint32_t)q->at_home << 32);
    h *= 0xD6E8FEB86659FD93u;
    return (size_t)(h >> 52) & (ENTRIES - 1);
}

struct pass {
    double disk_s; /* what the disk reads in it */
    bool prefills; /* and it is all for the first time */
};

/* Memory serves the same part of every read of a pass (cost.h, the page cache). */
static void serve(const struct schedule *schedule, const struct run_setting *s, struct pass *pass, double *out)
{
    const int link = s->hardware->n_tiers - 2;
    const double served_s = cost_page_cache_s(s->hardware);
    for (int again = 0; again < 2; again++)
        for (int32_t i = 0; i < schedule->n_ops; i++) {
            const struct op *op = &schedule->op[i];
            struct pass *in = &pass[stream_entry(s->workload, s->policy, op->batch) + op->step];
            const double disk_s =
                op->resource == resource_link_read(link) ? cost_transfer_s(s->hardware, link, false, (double)op->bytes) : 0;
            if (!again) {
                in->disk_s += disk_s;
                in->prefills |= op->step == 0;
            } else if (disk_s > 0 && !in->prefills) {
                out[i] = fmax(0, out[i] - disk_s * fmin(1, served_s / in->disk_s));
            }
        }
}

static enum status serve_from_memory(const struct schedule *schedule, const struct run_setting *s, double *out, struct error *err)
{
    struct pass *pass;
    if (s->hardware->page_cache_bytes <= 0)
        return STATUS_OK;
    pass = calloc((size_t)stream_passes(s->workload, s->policy) + 1, sizeof *pass);
    if (!pass)
        return error_set(err, STATUS_RUNTIME, "out of memory for a simulation");
    serve(schedule, s, pass, out);
    free(pass);
    return STATUS_OK;
}

enum status op_durations(const struct schedule *schedule, const struct run_setting *s, double *out, struct error *err)
{
    struct answer *table = calloc(ENTRIES, sizeof *table);
    int32_t *shape = malloc(((size_t)s->arch->n_layers + 1) * sizeof *shape);
    enum status status = table && shape ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for a simulation");
    if (status == STATUS_OK)
        find_shapes(s->arch, shape);
    for (int32_t i = 0; i < schedule->n_ops && status == STATUS_OK; i++) {
        struct question q = question(&schedule->op[i], s, shape);
        struct answer *a = &table[place_of(&q)];
        if (!a->known || memcmp(&a->q, &q, sizeof q) != 0)
            *a = (struct answer){q, true, op_seconds(&schedule->op[i], s)};
        out[i] = a->seconds;
    }
    free(table);
    free(shape);
    return status == STATUS_OK ? serve_from_memory(schedule, s, out, err) : status;
}
