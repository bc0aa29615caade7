#include "model/policy.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/atomic_file.h"
#include "model/json.h"

#define BATCH_MAX     65536
#define PREFETCH_MAX  1024
#define SUM_TOLERANCE 1e-6

static const char *const class_names[CLASS_COUNT] =
    {[CLASS_WEIGHT] = "weights", [CLASS_CACHE] = "cache", [CLASS_ACTIVATION] = "activations"};

const char *class_name(enum tensor_class c)
{
    return class_names[c];
}

const char *schedule_name(enum schedule_kind k)
{
    static const char *const names[SCHEDULE_COUNT] = {"zigzag", "row", "diagonal"};
    return names[k];
}

bool schedule_named(const char *name, enum schedule_kind *out)
{
    for (int k = 0; k < SCHEDULE_COUNT; k++)
        if (strcmp(name, schedule_name((enum schedule_kind)k)) == 0) {
            *out = (enum schedule_kind)k;
            return true;
        }
    return false;
}

void policy_default(struct policy *p, int n_tiers)
{
    (void)n_tiers; /* all on tier 0, whatever lies below */
    *p = (struct policy){.gpu_batch_size = 1,
                         .num_gpu_batches = 1,
                         .weight_bits = 16,
                         .cache_bits = 16,
                         .attention_sparsity = 1,
                         .overlap = true,
                         .prefetch = 3};
    p->schedule = SCHEDULE_ZIGZAG;
    for (int c = 0; c < CLASS_COUNT; c++)
        p->fraction[c][0] = 1;
}

int64_t policy_block(const struct policy *p)
{
    return (int64_t)p->gpu_batch_size * p->num_gpu_batches;
}

bool policy_attends_in_place(const struct policy *p, int tier)
{
    return tier <= (p->attention_near_cache ? 1 : 0);
}

static double sum_of(const double *fraction, int n_tiers)
{
    double sum = 0;
    for (int t = 0; t < n_tiers; t++)
        sum += fraction[t];
    return sum;
}

static bool sums_to_one(const double *fraction, int n_tiers)
{
    return fabs(sum_of(fraction, n_tiers) - 1) <= SUM_TOLERANCE;
}

static enum status check_fractions(const struct policy *p, const struct hardware *hw, const char *where, struct error *err)
{
    for (int c = 0; c < CLASS_COUNT; c++) {
        for (int t = 0; t < TIERS_MAX; t++) {
            double most = t < hw->n_tiers ? 1 : 0;
            if (!(p->fraction[c][t] >= 0 && p->fraction[c][t] <= most)) /* so that NaN fails too */
                return error_set(err, STATUS_INVALID, "%s: fraction of the %s on tier %s: expected 0 to %.0f, found %.10g", where,
                                 class_names[c], t < hw->n_tiers ? hw->tier[t].name : "(absent)", most, p->fraction[c][t]);
        }
        if (!sums_to_one(p->fraction[c], hw->n_tiers))
            return error_set(err, STATUS_INVALID, "%s: fractions of the %s: expected a sum of 1, found %.10g", where,
                             class_names[c], sum_of(p->fraction[c], hw->n_tiers));
    }
    return STATUS_OK;
}

static enum status check_range(const char *name, int value, int max, const char *where, struct error *err)
{
    if (value < 1 || value > max)
        return error_set(err, STATUS_INVALID, "%s: %s: expected a whole number from 1 to %d, found %d", where, name, max, value);
    return STATUS_OK;
}

static enum status check_bits(const char *name, int bits, const char *where, struct error *err)
{
    if (bits != 4 && bits != 16)
        return error_set(err, STATUS_INVALID, "%s: %s: expected 4 or 16, found %d", where, name, bits);
    return STATUS_OK;
}

static enum status check_sparsity(const struct policy *p, const struct hardware *hw, const char *where, struct error *err)
{
    if (!(p->attention_sparsity > 0 && p->attention_sparsity <= 1))
        return error_set(err, STATUS_INVALID, "%s: attention_sparsity: expected more than 0 and at most 1, found %.10g", where,
                         p->attention_sparsity);
    for (int t = 0; p->attention_sparsity < 1 && t < hw->n_tiers; t++)
        if (p->fraction[CLASS_CACHE][t] > 0 && !policy_attends_in_place(p, t))
            return error_set(
                err, STATUS_INVALID,
                "%s: attention_sparsity: expected 1 or a cache that is attended to where it is, found %.10g and %.4g %% of "
                "the cache on tier %s, from where it is copied",
                where, p->attention_sparsity, 100 * p->fraction[CLASS_CACHE][t], hw->tier[t].name);
    return STATUS_OK;
}

enum status policy_check(const struct policy *p, const struct hardware *hw, const char *where, struct error *err)
{
    enum status status;
    if ((status = check_range("gpu_batch_size", p->gpu_batch_size, BATCH_MAX, where, err)) ||
        (status = check_range("num_gpu_batches", p->num_gpu_batches, BATCH_MAX, where, err)) ||
        (status = check_fractions(p, hw, where, err)) || (status = check_bits("weight_bits", p->weight_bits, where, err)) ||
        (status = check_bits("cache_bits", p->cache_bits, where, err)) ||
        (status = check_range("prefetch", p->prefetch, PREFETCH_MAX, where, err)))
        return status;
    if (p->attention_near_cache && hw->n_computes < 2)
        return error_set(err, STATUS_INVALID,
                         "%s: attention_near_cache: expected false, as %s has no compute unit on its second tier", where,
                         hw->name);
    if ((int)p->schedule < 0 || p->schedule >= SCHEDULE_COUNT)
        return error_set(err, STATUS_INVALID, "%s: schedule: expected " SCHEDULE_NAMES ", found %d", where, (int)p->schedule);
    return check_sparsity(p, hw, where, err);
}

/* -- the file (docs/formats.md): reading --------------------------------------------------------------------------- */

static enum status read_fractions(const struct json_object *root, enum tensor_class class, const struct hardware *hw,
                                  double *fraction, struct error *err)
{
    struct json_object o;
    const char *keys[TIERS_MAX + 1] = {NULL};
    for (int t = 0; t < hw->n_tiers; t++)
        keys[t] = hw->tier[t].name;
    enum status status = json_child(root, class_name(class), &o, err);
    if (!status)
        status = json_only(&o, keys, err);
    for (int t = 0; !status && t < hw->n_tiers; t++)
        status = json_number(&o, hw->tier[t].name, 0, 1, &fraction[t], err);
    if (!status && !sums_to_one(fraction, hw->n_tiers))
        return json_complain(root, class_name(class), err, "expected fractions that sum to 1, found a sum of %.10g",
                             sum_of(fraction, hw->n_tiers));
    return status;
}

static enum status read_whole(const struct json_object *root, const char *key, int max, int *out, struct error *err)
{
    int64_t value;
    enum status status = json_int(root, key, 1, max, &value, err);
    if (!status)
        *out = (int)value;
    return status;
}

static enum status read_bits(const struct json_object *root, const char *key, int *out, struct error *err)
{
    enum status status = read_whole(root, key, 64, out, err);
    if (!status && *out != 4 && *out != 16)
        return json_complain(root, key, err, "expected 4 or 16, found %d", *out);
    return status;
}

static enum status read_schedule(const struct json_object *root, enum schedule_kind *out, struct error *err)
{
    char text[32];
    enum status status = json_text(root, "schedule", text, sizeof text, err);
    if (status)
        return status;
    if (!schedule_named(text, out))
        return json_complain(root, "schedule", err, "expected \"zigzag\", \"row\" or \"diagonal\", found \"%s\"", text);
    return STATUS_OK;
}

static enum status read_near_cache(const struct json_object *root, const struct hardware *hw, bool *out, struct error *err)
{
    enum status status = json_bool(root, "attention_near_cache", out, err);
    if (!status && *out && hw->n_computes < 2)
        return json_complain(root, "attention_near_cache", err, "expected false, as %s has no compute unit on its second tier",
                             hw->name);
    return status;
}

static enum status read_switches(const struct json_object *root, const struct hardware *hw, struct policy *p, struct error *err)
{
    enum status status;
    if ((status = read_bits(root, "weight_bits", &p->weight_bits, err)) ||
        (status = read_bits(root, "cache_bits", &p->cache_bits, err)) ||
        (status = read_near_cache(root, hw, &p->attention_near_cache, err)) ||
        (json_has(root, "attention_sparsity") &&
         (status = json_number(root, "attention_sparsity", 0, 1, &p->attention_sparsity, err))) ||
        (status = read_schedule(root, &p->schedule, err)) || (status = json_bool(root, "overlap", &p->overlap, err)))
        return status;
    return read_whole(root, "prefetch", PREFETCH_MAX, &p->prefetch, err);
}

/* Switches of programs other than ballast's engine: off where they are left out. */
static enum status read_foreign(const struct json_object *root, const char *key, bool *out, struct error *err)
{
    return json_has(root, key) ? json_bool(root, key, out, err) : STATUS_OK;
}

static enum status from_json(struct policy *p, const struct json_file *file, const struct hardware *hw, struct error *err)
{
    static const char *const keys[] = {"ballast_policy",
                                       "gpu_batch_size",
                                       "num_gpu_batches",
                                       "weights",
                                       "cache",
                                       "activations",
                                       "weight_bits",
                                       "cache_bits",
                                       "attention_near_cache",
                                       "attention_sparsity",
                                       "schedule",
                                       "overlap",
                                       "prefetch",
                                       "whole_tensors",
                                       "pageable_weights",
                                       NULL};
    struct json_object root;
    struct policy read = {.attention_sparsity = 1};
    int64_t version;
    enum status status;
    if ((status = json_root(file, &root, err)) || (status = json_int(&root, "ballast_policy", 1, 1, &version, err)) ||
        (status = json_only(&root, keys, err)) ||
        (status = read_whole(&root, "gpu_batch_size", BATCH_MAX, &read.gpu_batch_size, err)) ||
        (status = read_whole(&root, "num_gpu_batches", BATCH_MAX, &read.num_gpu_batches, err)))
        return status;
    for (int c = 0; c < CLASS_COUNT; c++)
        if ((status = read_fractions(&root, (enum tensor_class)c, hw, read.fraction[c], err)))
            return status;
    if ((status = read_switches(&root, hw, &read, err)) ||
        (status = read_foreign(&root, "whole_tensors", &read.whole_tensors, err)) ||
        (status = read_foreign(&root, "pageable_weights", &read.pageable_weights, err)) ||
        (status = policy_check(&read, hw, file->path, err)))
        return status;
    *p = read;
    return STATUS_OK;
}

enum status policy_load(struct policy *p, const char *path, const struct hardware *hw, struct error *err)
{
    struct json_file file;
    enum status status = json_file_load(&file, path, err);
    if (status)
        return status;
    status = from_json(p, &file, hw, err);
    json_file_free(&file);
    return status;
}

enum status policy_parse(struct policy *p, const char *path, const char *text, size_t n, const struct hardware *hw,
                         struct error *err)
{
    struct json_file file;
    enum status status = json_file_parse(&file, path, text, n, err);
    if (status)
        return status;
    status = from_json(p, &file, hw, err);
    json_file_free(&file);
    return status;
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* The shortest text that reads back as the same double. */
static void print_number(FILE *out, double value)
{
    char text[48] = "";
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, out);
}

static void print_fractions(FILE *out, enum tensor_class class, const double *fraction, const struct hardware *hw)
{
    fprintf(out, "  \"%s\": {", class_name(class));
    for (int t = 0; t < hw->n_tiers; t++) {
        fprintf(out, "%s\"%s\": ", t ? ", " : "", hw->tier[t].name);
        print_number(out, fraction[t]);
    }
    fprintf(out, "},\n");
}

void policy_print(const struct policy *p, const struct hardware *hw, FILE *out)
{
    fprintf(out, "{\n  \"ballast_policy\": 1,\n  \"gpu_batch_size\": %d,\n  \"num_gpu_batches\": %d,\n", p->gpu_batch_size,
            p->num_gpu_batches);
    for (int c = 0; c < CLASS_COUNT; c++)
        print_fractions(out, (enum tensor_class)c, p->fraction[c], hw);
    fprintf(out, "  \"weight_bits\": %d,\n  \"cache_bits\": %d,\n", p->weight_bits, p->cache_bits);
    fprintf(out, "  \"attention_near_cache\": %s,\n", p->attention_near_cache ? "true" : "false");
    if (p->attention_sparsity < 1) {
        fprintf(out, "  \"attention_sparsity\": ");
        print_number(out, p->attention_sparsity);
        fprintf(out, ",\n");
    }
    fprintf(out, "  \"schedule\": \"%s\",\n", schedule_name(p->schedule));
    fprintf(out, "  \"overlap\": %s,\n  \"prefetch\": %d", p->overlap ? "true" : "false", p->prefetch);
    fprintf(out, "%s%s\n}\n", p->whole_tensors ? ",\n  \"whole_tensors\": true" : "",
            p->pageable_weights ? ",\n  \"pageable_weights\": true" : "");
}

enum status policy_save(const struct policy *p, const char *path, const struct hardware *hw, struct error *err)
{
    struct atomic_file out;
    enum status status = policy_check(p, hw, path, err);
    if (!status)
        status = atomic_file_open(&out, path, err);
    if (status)
        return status;
    policy_print(p, hw, out.file);
    return atomic_file_close(&out, status, err);
}

/* -- FlexGen's flags ----------------------------------------------------------------------------------------------- */

/* The next number; 0 or -1. */
static int next_percent(const char **text, double *out)
{
    char *end;
    while (**text == ' ' || **text == '\t' || **text == ',')
        ++*text;
    if (!strchr("0123456789.", **text) || !**text) /* strtod alone would take signs, inf and nan */
        return -1;
    double value = strtod(*text, &end);
    if (end == *text || !(value >= 0 && value <= 100) || !strchr(" \t,", *end))
        return -1;
    *text = end;
    *out = value;
    return 0;
}

/* A class from its percentages on the first n tiers; the remainder goes to the disk. */
static void place(double *fraction, int n_tiers, const double *percent, int n)
{
    double rest = 100;
    for (int t = 0; t < TIERS_MAX; t++) {
        fraction[t] = t < n ? percent[t] / 100 : 0;
        rest -= t < n ? percent[t] : 0;
    }
    /* What is left by rounding alone is nothing: 33.3 and 66.7 leave no bytes on the disk. */
    if (rest > 1e-7)
        fraction[n_tiers - 1] = rest / 100;
}

static enum status check_class(const char *text, int cls, const double *percent, int n, const struct hardware *hw,
                               struct error *err)
{
    double sum = 0;
    for (int t = 0; t < n; t++)
        sum += percent[t];
    if (sum > 100 + 100 * 1e-9)
        return error_set(err, STATUS_INVALID, "percent '%.100s': %s: expected at most 100 together, found %.10g", text,
                         class_names[cls], sum);
    if (hw->n_tiers == 2 && percent[1] != 0)
        return error_set(err, STATUS_INVALID,
                         "percent '%.100s': %s: expected 0 as the second of each pair on the two tiers of %s, found %.10g", text,
                         class_names[cls], hw->name, percent[1]);
    return STATUS_OK;
}

enum status policy_percent(struct policy *p, const char *text, const struct hardware *hw, struct error *err)
{
    const int pairs = 2 * CLASS_COUNT, all = hw->n_tiers > 3 ? CLASS_COUNT * (hw->n_tiers - 1) : pairs;
    double percent[CLASS_COUNT * (TIERS_MAX - 1)];
    const char *at = text;
    int n = 0;
    while (n < all && next_percent(&at, &percent[n]) == 0)
        n++;
    const bool more = at[strspn(at, " \t")] != '\0';
    if (n == all && more)
        return error_set(err, STATUS_INVALID, "percent '%.100s': expected %d numbers, found more", text, all);
    if (more || (n != pairs && n != all))
        return error_set(err, STATUS_INVALID,
                         "percent '%.100s': expected %s numbers from 0 to 100 (wg wc cg cc hg hc), number %d is missing or wrong",
                         text, all == pairs ? "six" : "six or nine", n + 1);
    const int each = n / CLASS_COUNT;
    for (int c = 0; c < CLASS_COUNT; c++) {
        enum status status = check_class(text, c, &percent[each * c], each, hw, err);
        if (status)
            return status;
    }
    for (int c = 0; c < CLASS_COUNT; c++)
        place(p->fraction[c], hw->n_tiers, &percent[each * c], each);
    return STATUS_OK;
}

/* Adds to a text that may be full already: it is then cut short. */
static void add(char *buf, size_t n, const char *text)
{
    size_t used = strlen(buf);
    snprintf(buf + used, n - used, "%s", text);
}

/* A percentage with the digits it takes (ten at least) to give the same fraction again. */
static void add_percent(char *buf, size_t n, double fraction, const char *before)
{
    char text[48] = "";
    for (int digits = 10; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%s%.*g", before, digits, 100 * fraction);
        if (strtod(text + strlen(before), NULL) / 100 == fraction)
            break;
    }
    add(buf, n, text);
}

/* Tiers for which percentages are written: FlexGen's two, or all above the disk if something is on another. */
static int tiers_written(const struct policy *p, int n_tiers)
{
    for (int c = 0; c < CLASS_COUNT; c++)
        for (int t = 2; t < n_tiers - 1; t++)
            if (p->fraction[c][t] > 0)
                return n_tiers - 1;
    return 2;
}

char *policy_flags(const struct policy *p, const struct hardware *hw, char *buf, size_t n)
{
    char text[200], schedule[32] = "", sparsity[48] = "";
    if (n == 0)
        return buf;
    if (p->schedule != SCHEDULE_ZIGZAG)
        snprintf(schedule, sizeof schedule, " --schedule %s", schedule_name(p->schedule));
    for (int digits = 1; p->attention_sparsity < 1 && digits <= 17; digits++) {
        snprintf(sparsity, sizeof sparsity, " --attn-sparsity %.*g", digits, p->attention_sparsity);
        if (strtod(strrchr(sparsity, ' '), NULL) == p->attention_sparsity)
            break;
    }
    snprintf(buf, n, "--gpu-batch-size %d --num-gpu-batches %d --percent \"", p->gpu_batch_size, p->num_gpu_batches);
    for (int c = 0, tiers = tiers_written(p, hw->n_tiers); c < CLASS_COUNT; c++)
        for (int t = 0; t < tiers; t++)
            add_percent(buf, n, t < hw->n_tiers - 1 ? p->fraction[c][t] : 0, c + t > 0 ? " " : "");
    snprintf(text, sizeof text, "\"%s%s%s%s%s%s%s%s --prefetch %d", p->weight_bits == 4 ? " --compress-weight" : "",
             p->cache_bits == 4 ? " --compress-cache" : "", p->attention_near_cache ? " --cpu-cache-compute" : "", sparsity,
             schedule, p->overlap ? "" : " --no-overlap", p->whole_tensors ? " --whole-tensors" : "",
             p->pageable_weights ? " --pageable-weights" : "", p->prefetch);
    add(buf, n, text);
    return buf;
}
