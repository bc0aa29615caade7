#include "model/hardware_json.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* Sizes up to here are exact in a double: 8 PiB. */
#define SIZE_MAX_BYTES 9007199254740992.0
#define ROWS_MAX       1000000000
#define THREADS_MAX    65536

static const char *const kind_names[] = {[TIER_DEVICE] = "device", [TIER_HOST] = "host", [TIER_DISK] = "disk", NULL};
static const char *const estimate_names[] = {"measured", "mixed", "datasheet", "emulated", NULL};
static const char *const activation_names[] = {"f32", "f16", NULL};
static const char *const math_names[] = {"f32", "bf16", "f16", NULL};

/* -- values -------------------------------------------------------------------------------------------------------- */

static enum status read_name(const struct json_object *o, const char *key, char *out, size_t n, struct error *err)
{
    enum status status = json_text(o, key, out, n, err);
    if (status)
        return status;
    for (const char *p = out; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", *p))
            return json_complain(o, key, err, "expected a name of a-z, 0-9, '_' and '-', found \"%s\"", out);
    if (!out[0])
        return json_complain(o, key, err, "expected a name, found the empty text");
    return STATUS_OK;
}

/* One of a NULL-ended list of words: its index in *index. */
static enum status read_choice(const struct json_object *o, const char *key, const char *const *words, int *index,
                               struct error *err)
{
    char text[64], known[100];
    size_t used = 0;
    enum status status = json_text(o, key, text, sizeof text, err);
    if (status)
        return status;
    for (int i = 0; words[i]; i++)
        if (strcmp(text, words[i]) == 0) {
            *index = i;
            return STATUS_OK;
        }
    for (int i = 0; words[i] && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? ", " : "", words[i]);
    return json_complain(o, key, err, "expected one of %s, found \"%s\"", known, text);
}

static enum status read_size(const struct json_object *o, const char *key, double min, int64_t *out, struct error *err)
{
    double bytes;
    enum status status = json_quantity(o, key, UNIT_BYTES, &bytes, err);
    if (status)
        return status;
    bytes = floor(bytes);
    if (bytes < min || bytes > SIZE_MAX_BYTES)
        return json_complain(o, key, err, "expected %.0f B to 8 PiB, found %.0f B", min, bytes);
    *out = (int64_t)bytes;
    return STATUS_OK;
}

static enum status read_rate(const struct json_object *o, const char *key, enum unit_kind kind, double *out, struct error *err)
{
    enum status status = json_quantity(o, key, kind, out, err);
    if (!status && *out <= 0)
        return json_complain(o, key, err, "expected a rate above 0, found %s", json_string_value(json_object_get(o->value, key)));
    return status;
}

/* Optional: what is left out is not known. */
static enum status read_spread(const struct json_object *o, const char *key, double *out, struct error *err)
{
    enum status status = json_has(o, key) ? json_quantity(o, key, UNIT_SHARE, out, err) : STATUS_OK;
    if (!status && *out > SPREAD_MAX)
        return json_complain(o, key, err, "expected 0 %% to %.0f %%, found %.6g %%", 100 * SPREAD_MAX, 100 * *out);
    return status;
}

/* Every group of numbers says where it comes from. */
static enum status check_source(const struct json_object *o, struct error *err)
{
    const char *text = json_string_value(json_object_get(o->value, "source"));
    if (!text)
        return json_complain(o, "source", err, "expected a text that says where these numbers come from, found none");
    while (isspace((unsigned char)*text))
        text++;
    if (!*text)
        return json_complain(o, "source", err, "expected a text that says where these numbers come from, found an empty one");
    return STATUS_OK;
}

/* -- curves -------------------------------------------------------------------------------------------------------- */

/* What the samples of a curve are called and measured in. */
struct curve_kind {
    const char *x_key; /* "size": a quantity; "rows": a whole number */
    enum unit_kind y_unit;
};
static const struct curve_kind link_curve = {"size", UNIT_BYTES_PER_S};
static const struct curve_kind matmul_curve = {"rows", UNIT_FLOPS_PER_S};

static enum status read_x(const struct json_object *point, const struct curve_kind *kind, double *x, struct error *err)
{
    int64_t value = 0;
    enum status status;
    if (kind == &link_curve)
        status = read_size(point, kind->x_key, 1, &value, err);
    else
        status = json_int(point, kind->x_key, 1, ROWS_MAX, &value, err);
    *x = (double)value;
    return status;
}

static enum status read_curve(const struct json_object *o, const char *key, const struct curve_kind *kind, struct curve *c,
                              struct error *err)
{
    size_t n;
    const char *const keys[] = {kind->x_key, "rate", NULL};
    enum status status = json_list(o, key, 1, CURVE_MAX, &n, err);
    for (size_t i = 0; !status && i < n; i++) {
        struct json_object point;
        if ((status = json_item(o, key, i, &point, err)) || (status = json_only(&point, keys, err)) ||
            (status = read_x(&point, kind, &c->x[i], err)) || (status = read_rate(&point, "rate", kind->y_unit, &c->y[i], err)))
            break;
        if (i > 0 && c->x[i] <= c->x[i - 1])
            return json_complain(&point, kind->x_key, err, "expected more than the %.0f before it, found %.0f", c->x[i - 1],
                                 c->x[i]);
    }
    if (!status)
        c->n = (int)n;
    return status;
}

/* An object of entries by format, each read by `read` into its place of `out`; one at least. */
static enum status read_by_format(const struct json_object *o, const char *name, void *out,
                                  enum status (*read)(const struct json_object *o, const char *key, void *out, enum format format,
                                                      struct error *err),
                                  struct error *err)
{
    struct json_object child;
    const char *key;
    json_t *value;
    enum status status = json_child(o, name, &child, err);
    if (status)
        return status;
    json_object_foreach(child.value, key, value)
    {
        enum format format;
        if (format_parse(key, &format))
            return json_complain(&child, key, err, "expected one of the formats f32, f16, bf16, q4");
        if ((status = read(&child, key, out, format, err)))
            return status;
    }
    if (json_object_size(child.value) == 0)
        return json_complain(o, name, err, "expected the rate of at least one format, found none");
    return STATUS_OK;
}

static enum status read_matmul(const struct json_object *o, const char *key, void *curves, enum format format, struct error *err)
{
    return read_curve(o, key, &matmul_curve, (struct curve *)curves + format, err);
}

static enum status read_attention_decode(const struct json_object *o, const char *key, void *rates, enum format format,
                                         struct error *err)
{
    return read_rate(o, key, UNIT_BYTES_PER_S, (double *)rates + format, err);
}

/* -- tiers, links, computes ---------------------------------------------------------------------------------------- */

static enum status read_tier(const struct json_object *o, struct hardware *hw, struct error *err)
{
    static const char *const keys[] = {"name", "kind", "capacity", "source", NULL};
    struct tier *t = &hw->tier[hw->n_tiers];
    int kind = 0;
    enum status status;
    if ((status = json_only(o, keys, err)) || (status = read_name(o, "name", t->name, sizeof t->name, err)) ||
        (status = read_choice(o, "kind", kind_names, &kind, err)) ||
        (status = read_size(o, "capacity", 1, &t->capacity_bytes, err)) || (status = check_source(o, err)))
        return status;
    t->kind = (enum tier_kind)kind;
    if (hardware_tier(hw, t->name) >= 0)
        return json_complain(o, "name", err, "expected a name used once, found \"%s\" twice", t->name);
    if (hw->n_tiers > 0 && t->kind < t[-1].kind)
        return json_complain(o, "kind", err, "expected the tiers in the order device, host, disk; found \"%s\" below \"%s\"",
                             kind_names[kind], kind_names[t[-1].kind]);
    hw->n_tiers++;
    return STATUS_OK;
}

/* Kinds never rise going down, so the disks are last. */
static enum status read_tiers(const struct json_object *root, struct hardware *hw, struct error *err)
{
    size_t n;
    int disks = 0;
    enum status status = json_list(root, "tiers", 2, TIERS_MAX, &n, err);
    for (size_t i = 0; !status && i < n; i++) {
        struct json_object o;
        if ((status = json_item(root, "tiers", i, &o, err)) || (status = read_tier(&o, hw, err)))
            return status;
        disks += hw->tier[i].kind == TIER_DISK;
    }
    if (!status && disks != 1)
        return json_complain(root, "tiers", err, "expected the last tier, and no other, of kind \"disk\"; found %d of that kind",
                             disks);
    return status;
}

/* The tier named at `key` must be `expected`, for the reason given. */
static enum status check_tier(const struct json_object *o, const char *key, const struct tier *expected, const char *reason,
                              struct error *err)
{
    char name[sizeof expected->name];
    enum status status = read_name(o, key, name, sizeof name, err);
    if (!status && strcmp(name, expected->name) != 0)
        return json_complain(o, key, err, "expected \"%s\" (%s), found \"%s\"", expected->name, reason, name);
    return status;
}

static enum status read_link(const struct json_object *o, struct hardware *hw, int i, struct error *err)
{
    static const char *const keys[] = {"upper",        "lower",         "read",        "write",        "pageable_read", "pinning",
                                       "read_latency", "write_latency", "read_spread", "write_spread", "source",        NULL};
    static const char reason[] = "links join neighbouring tiers, in their order";
    struct link *l = &hw->link[i];
    enum status status;
    if ((status = json_only(o, keys, err)) || (status = check_tier(o, "upper", &hw->tier[i], reason, err)) ||
        (status = check_tier(o, "lower", &hw->tier[i + 1], reason, err)) ||
        (status = read_curve(o, "read", &link_curve, &l->read_bytes_per_s, err)) ||
        (status = read_curve(o, "write", &link_curve, &l->write_bytes_per_s, err)) ||
        (json_has(o, "pageable_read") &&
         (status = read_curve(o, "pageable_read", &link_curve, &l->pageable_read_bytes_per_s, err))) ||
        (json_has(o, "pinning") && (status = read_rate(o, "pinning", UNIT_BYTES_PER_S, &l->pinning_bytes_per_s, err))) ||
        (status = json_quantity(o, "read_latency", UNIT_SECONDS, &l->read_latency_s, err)) ||
        (status = json_quantity(o, "write_latency", UNIT_SECONDS, &l->write_latency_s, err)) ||
        (status = read_spread(o, "read_spread", &l->read_spread, err)) ||
        (status = read_spread(o, "write_spread", &l->write_spread, err)))
        return status;
    return check_source(o, err);
}

static enum status read_links(const struct json_object *root, struct hardware *hw, struct error *err)
{
    size_t n, expected = (size_t)hw->n_tiers - 1;
    enum status status = json_list(root, "links", expected, expected, &n, err);
    for (size_t i = 0; !status && i < n; i++) {
        struct json_object o;
        if (!(status = json_item(root, "links", i, &o, err)))
            status = read_link(&o, hw, (int)i, err);
    }
    return status;
}

/* Unit i works on tier i. */
static enum status read_place(const struct json_object *o, struct hardware *hw, int i, struct error *err)
{
    struct compute *c = &hw->compute[i];
    enum status status;
    if ((status = read_name(o, "name", c->name, sizeof c->name, err)) ||
        (status = check_tier(o, "tier", &hw->tier[i], "the units are on the first tiers, in their order", err)))
        return status;
    c->tier = i;
    if (i > 0 && strcmp(c->name, hw->compute[0].name) == 0)
        return json_complain(o, "name", err, "expected a name used once, found \"%s\" twice", c->name);
    if (hw->tier[i].kind == TIER_DISK)
        return json_complain(o, "tier", err, "expected a tier that is memory, found the disk \"%s\"", hw->tier[i].name);
    return STATUS_OK;
}

static enum status read_arithmetic(const struct json_object *o, struct compute *c, struct error *err)
{
    int64_t threads;
    int activation, math;
    enum status status;
    if ((status = read_choice(o, "activation", activation_names, &activation, err)) ||
        (status = read_choice(o, "math", math_names, &math, err)) ||
        (status = json_int(o, "threads", 0, THREADS_MAX, &threads, err)))
        return status;
    c->activation = activation == 0 ? FORMAT_F32 : FORMAT_F16;
    c->threads = (int)threads;
    snprintf(c->math, sizeof c->math, "%s", math_names[math]);
    return STATUS_OK;
}

static enum status read_compute(const struct json_object *o, struct hardware *hw, int i, struct error *err)
{
    static const char *const keys[] = {"name",
                                       "tier",
                                       "activation",
                                       "math",
                                       "threads",
                                       "matmul",
                                       "attention_prefill",
                                       "attention_decode",
                                       "memory_bandwidth",
                                       "launch",
                                       "workspace",
                                       "spread",
                                       "source",
                                       NULL};
    struct compute *c = &hw->compute[i];
    enum status status;
    if ((status = json_only(o, keys, err)) || (status = read_place(o, hw, i, err)) || (status = read_arithmetic(o, c, err)) ||
        (status = read_by_format(o, "matmul", c->matmul, read_matmul, err)) ||
        (status = read_rate(o, "attention_prefill", UNIT_FLOPS_PER_S, &c->attention_prefill_flops_per_s, err)) ||
        (status = read_by_format(o, "attention_decode", c->attention_decode_bytes_per_s, read_attention_decode, err)) ||
        (status = read_rate(o, "memory_bandwidth", UNIT_BYTES_PER_S, &c->memory_bytes_per_s, err)) ||
        (status = json_quantity(o, "launch", UNIT_SECONDS, &c->launch_s, err)) ||
        (status = read_size(o, "workspace", 0, &c->workspace_bytes, err)) || (status = read_spread(o, "spread", &c->spread, err)))
        return status;
    return check_source(o, err);
}

static enum status read_computes(const struct json_object *root, struct hardware *hw, struct error *err)
{
    size_t n;
    enum status status = json_list(root, "compute", 1, COMPUTES_MAX, &n, err);
    for (size_t i = 0; !status && i < n; i++) {
        struct json_object o;
        if (!(status = json_item(root, "compute", i, &o, err)))
            status = read_compute(&o, hw, (int)i, err);
        hw->n_computes = (int)i + 1;
    }
    return status;
}

/* -- contention ---------------------------------------------------------------------------------------------------- */

static void list_resources(const struct hardware *hw, char *out, size_t n)
{
    char name[40];
    size_t used = 0;
    for (int r = 0; r < resource_count(hw) && used < n; r++)
        used += (size_t)snprintf(out + used, n - used, "%s%s", r ? ", " : "", resource_name(hw, r, name));
}

static enum status read_shares(const struct json_object *o, const struct hardware *hw, double *share, struct error *err)
{
    struct json_object child;
    const char *key;
    json_t *value;
    char known[400];
    enum status status = json_child(o, "resources", &child, err);
    if (status)
        return status;
    json_object_foreach(child.value, key, value)
    {
        int r = hardware_resource(hw, key);
        if (r < 0) {
            list_resources(hw, known, sizeof known);
            return json_complain(&child, key, err, "expected one of the resources %s", known);
        }
        if ((status = json_quantity(&child, key, UNIT_SHARE, &share[r], err)))
            return status;
        if (share[r] <= 0 || share[r] > 1)
            return json_complain(&child, key, err, "expected more than 0 %% and at most 100 %%, found %s",
                                 json_string_value(value));
    }
    if (json_object_size(child.value) < 2)
        return json_complain(o, "resources", err, "expected at least two resources, found %zu", json_object_size(child.value));
    return STATUS_OK;
}

static enum status read_contention(const struct json_object *o, struct hardware *hw, struct error *err)
{
    static const char *const keys[] = {"name", "resources", "source", NULL};
    struct contention *c = &hw->contention[hw->n_contentions];
    enum status status;
    if ((status = json_only(o, keys, err)) || (status = read_name(o, "name", c->name, sizeof c->name, err)) ||
        (status = read_shares(o, hw, c->share, err)) || (status = check_source(o, err)))
        return status;
    for (int i = 0; i < hw->n_contentions; i++)
        if (strcmp(hw->contention[i].name, c->name) == 0)
            return json_complain(o, "name", err, "expected a name used once, found \"%s\" twice", c->name);
    hw->n_contentions++;
    return STATUS_OK;
}

static enum status read_runtime(const struct json_object *root, struct hardware *hw, struct error *err)
{
    static const char *const keys[] = {"waits", "staging", "pageable_write", "dequantise", "source", NULL};
    static const char *const waits[] = {"turn", NULL};
    struct runtime *rt = &hw->runtime;
    struct json_object o;
    int choice;
    enum status status;
    if (!json_has(root, "runtime"))
        return STATUS_OK;
    if ((status = json_child(root, "runtime", &o, err)) || (status = json_only(&o, keys, err)) ||
        (status = read_choice(&o, "waits", waits, &choice, err)) ||
        (status = read_curve(&o, "staging", &link_curve, &rt->staging_bytes_per_s, err)) ||
        (status = read_rate(&o, "pageable_write", UNIT_BYTES_PER_S, &rt->pageable_write_bytes_per_s, err)) ||
        (status = read_rate(&o, "dequantise", UNIT_BYTES_PER_S, &rt->dequantise_bytes_per_s, err)) ||
        (status = check_source(&o, err)))
        return status;
    if (hw->n_computes < 2)
        return json_complain(root, "runtime", err, "expected two compute units, the second of which stages copies; found %d",
                             hw->n_computes);
    hw->compute[0].whole_batch = true;
    return STATUS_OK;
}

static enum status read_contentions(const struct json_object *root, struct hardware *hw, struct error *err)
{
    size_t n = 0;
    enum status status = json_has(root, "contention") ? json_list(root, "contention", 1, CONTENTIONS_MAX, &n, err) : STATUS_OK;
    for (size_t i = 0; !status && i < n; i++) {
        struct json_object o;
        if (!(status = json_item(root, "contention", i, &o, err)))
            status = read_contention(&o, hw, err);
    }
    return status;
}

enum status hardware_from_json(struct hardware *hw, const struct json_file *file, struct error *err)
{
    static const char *const keys[] = {"ballast_hardware", "name",    "estimate",   "tiers", "links",
                                       "compute",          "runtime", "contention", NULL};
    struct json_object root;
    struct hardware read = {0};
    int64_t version;
    int estimate = 0;
    enum status status;
    if ((status = json_root(file, &root, err)) || (status = json_int(&root, "ballast_hardware", 1, 1, &version, err)) ||
        (status = json_only(&root, keys, err)) || (status = read_name(&root, "name", read.name, sizeof read.name, err)) ||
        (status = read_choice(&root, "estimate", estimate_names, &estimate, err)) || (status = read_tiers(&root, &read, err)) ||
        (status = read_links(&root, &read, err)) || (status = read_computes(&root, &read, err)) ||
        (status = read_runtime(&root, &read, err)) || (status = read_contentions(&root, &read, err)))
        return status;
    snprintf(read.estimate, sizeof read.estimate, "%s", estimate_names[estimate]);
    *hw = read;
    return STATUS_OK;
}
