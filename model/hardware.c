#include "model/hardware.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model/data.h"
#include "model/hardware_json.h"
#include "model/units.h"

double curve_at(const struct curve *c, double x)
{
    int i = 0;
    assert(c->n >= 1 && x > 0);
    while (i < c->n && c->x[i] < x)
        i++;
    if (i == c->n)
        return c->y[c->n - 1];
    if (i == 0 || c->x[i] == x)
        return c->y[i];
    double t = log(x / c->x[i - 1]) / log(c->x[i] / c->x[i - 1]);
    return c->y[i - 1] * pow(c->y[i] / c->y[i - 1], t);
}

/* Between samples a curve is monotone, so it is largest at a sample or at an end. */
double curve_best(const struct curve *c, double low, double high)
{
    double best = curve_at(c, low);
    assert(low <= high);
    if (low == high)
        return best;
    for (int i = 0; i < c->n; i++)
        if (c->x[i] > low && c->x[i] < high && c->y[i] > best)
            best = c->y[i];
    double last = curve_at(c, high);
    return last > best ? last : best;
}

static int is_plain_name(const char *path)
{
    return path[0] && !strchr(path, '/');
}

static enum status load_builtin(struct hardware *hw, const char *name, struct error *err)
{
    size_t n = 0;
    const char *text = data_find("hardware", name, &n);
    if (!text) {
        char names[300];
        return error_set(err, STATUS_INVALID, "%.200s: expected a hardware file or a built-in profile (%s), found neither", name,
                         data_names("hardware", names, sizeof names));
    }
    return hardware_parse(hw, name, text, n, err);
}

enum status hardware_load(struct hardware *hw, const char *path, struct error *err)
{
    struct json_file file;
    if (is_plain_name(path) && access(path, F_OK) && errno == ENOENT)
        return load_builtin(hw, path, err);
    enum status status = json_file_load(&file, path, err);
    if (status)
        return status;
    status = hardware_from_json(hw, &file, err);
    json_file_free(&file);
    return status;
}

enum status hardware_parse(struct hardware *hw, const char *path, const char *text, size_t n, struct error *err)
{
    struct json_file file;
    enum status status = json_file_parse(&file, path, text, n, err);
    if (status)
        return status;
    status = hardware_from_json(hw, &file, err);
    json_file_free(&file);
    return status;
}

int hardware_tier(const struct hardware *hw, const char *name)
{
    for (int i = 0; i < hw->n_tiers; i++)
        if (strcmp(hw->tier[i].name, name) == 0)
            return i;
    return -1;
}

bool hardware_is_emulated(const struct hardware *hw)
{
    return strcmp(hw->estimate, "emulated") == 0;
}

bool compute_queues(const struct compute *unit)
{
    return unit->threads == 0 && !unit->whole_batch;
}

bool hardware_waits(const struct hardware *hw)
{
    return hw->runtime.staging_bytes_per_s.n > 0;
}

/* -- resources --------------------------------------------------------------------------------------------------------- */

int resource_link_read(int link)
{
    return 2 * link;
}

int resource_link_write(int link)
{
    return 2 * link + 1;
}

int resource_compute(const struct hardware *hw, int unit)
{
    return 2 * (hw->n_tiers - 1) + unit;
}

int resource_count(const struct hardware *hw)
{
    return 2 * (hw->n_tiers - 1) + hw->n_computes;
}

const char *resource_name(const struct hardware *hw, int resource, char buf[40])
{
    int links = hw->n_tiers - 1, link = resource / 2;
    if (resource >= 2 * links)
        snprintf(buf, 40, "%s compute", hw->compute[resource - 2 * links].name);
    else if (resource % 2 == 0)
        snprintf(buf, 40, "%s->%s", hw->tier[link + 1].name, hw->tier[link].name);
    else
        snprintf(buf, 40, "%s->%s", hw->tier[link].name, hw->tier[link + 1].name);
    return buf;
}

int hardware_resource(const struct hardware *hw, const char *name)
{
    char buf[40];
    for (int r = 0; r < resource_count(hw); r++)
        if (strcmp(resource_name(hw, r, buf), name) == 0)
            return r;
    return -1;
}

/* -- budgets ----------------------------------------------------------------------------------------------------------- */

static void tier_names(const struct hardware *hw, char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = '\0';
    for (int i = 0; i < hw->n_tiers && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s", i ? ", " : "", hw->tier[i].name);
}

enum status hardware_budget(struct hardware *hw, const char *text, struct error *err)
{
    const char *equals = strchr(text, '=');
    char name[sizeof hw->tier[0].name] = "", names[80], most[48];
    double bytes;
    size_t length = equals ? (size_t)(equals - text) : 0;
    if (!equals)
        return error_set(err, STATUS_INVALID, "budget '%.100s': expected TIER=SIZE such as \"gpu=16GiB\"", text);
    if (length < sizeof name)
        memcpy(name, text, length);
    int tier = hardware_tier(hw, name);
    if (tier < 0) {
        tier_names(hw, names, sizeof names);
        return error_set(err, STATUS_INVALID, "budget '%.100s': expected one of the tiers %s of %s, found '%.*s'", text, names,
                         hw->name, (int)(length < 60 ? length : 60), text);
    }
    if (units_parse(equals + 1, UNIT_BYTES, &bytes))
        return error_set(err, STATUS_INVALID, "budget '%.100s': expected %s, found '%.60s'", text, units_expected(UNIT_BYTES),
                         equals + 1);
    if (floor(bytes) > (double)hw->tier[tier].capacity_bytes)
        return error_set(err, STATUS_INVALID, "budget '%.100s': expected at most the %s that tier %s of %s has, found %.60s",
                         text, units_write((double)hw->tier[tier].capacity_bytes, UNIT_BYTES, most, sizeof most), name, hw->name,
                         equals + 1);
    hw->tier[tier].capacity_bytes = (int64_t)floor(bytes);
    return STATUS_OK;
}

enum status hardware_page_cache(struct hardware *hw, const char *text, struct error *err)
{
    int host = hw->n_tiers - 2;
    char most[48];
    if (units_parse(text, UNIT_BYTES, &hw->page_cache_bytes))
        return error_set(err, STATUS_INVALID, "page cache: expected %s, found '%.60s'", units_expected(UNIT_BYTES), text);
    if (hw->page_cache_bytes > (double)hw->tier[host].capacity_bytes)
        return error_set(err, STATUS_INVALID, "page cache: expected at most the %s of tier %s of %s, found %.60s",
                         units_write((double)hw->tier[host].capacity_bytes, UNIT_BYTES, most, sizeof most), hw->tier[host].name,
                         hw->name, text);
    return STATUS_OK;
}

/* -- other rates -------------------------------------------------------------------------------------------------------- */

static void scale_curve(struct curve *c, double factor)
{
    for (int i = 0; i < c->n; i++)
        c->y[i] *= factor;
}

void link_scale(struct link *l, bool write, double factor)
{
    scale_curve(write ? &l->write_bytes_per_s : &l->read_bytes_per_s, factor);
    if (!write)
        scale_curve(&l->pageable_read_bytes_per_s, factor);
}

static void scale_compute(struct compute *u, double factor)
{
    for (int f = 0; f < FORMAT_COUNT; f++) {
        scale_curve(&u->matmul[f], factor);
        u->attention_decode_bytes_per_s[f] *= factor;
    }
    u->attention_prefill_flops_per_s *= factor;
    u->memory_bytes_per_s *= factor;
}

/* "disk->ram" and the other way; returns how many curves or units have that name. */
static int scale_named(struct hardware *hw, const char *wanted, double factor)
{
    char name[2 * sizeof hw->tier[0].name + 4];
    int found = 0;
    for (int i = 0; i + 1 < hw->n_tiers; i++)
        for (int write = 0; write < 2; write++) {
            snprintf(name, sizeof name, "%s->%s", hw->tier[write ? i : i + 1].name, hw->tier[write ? i + 1 : i].name);
            if (strcmp(name, wanted) == 0) {
                link_scale(&hw->link[i], write, factor);
                found++;
            }
        }
    for (int i = 0; i < hw->n_computes; i++)
        if (strcmp(hw->compute[i].name, wanted) == 0) {
            scale_compute(&hw->compute[i], factor);
            found++;
        }
    return found;
}

enum status hardware_scale(struct hardware *hw, const char *text, struct error *err)
{
    const char *equals = strchr(text, '=');
    char name[48], *end = NULL;
    double factor = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || !(factor > 0) || !isfinite(factor) || *end)
        return error_set(err, STATUS_INVALID,
                         "scale '%.100s': expected NAME=FACTOR with a factor above 0, such as \"disk->ram=2\"", text);
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    if (scale_named(hw, name, factor) == 0)
        return error_set(err, STATUS_INVALID, "scale '%.100s': expected a link such as \"%s->%s\" or a unit such as \"%s\" of %s",
                         text, hw->tier[1].name, hw->tier[0].name, hw->compute[0].name, hw->name);
    return STATUS_OK;
}
