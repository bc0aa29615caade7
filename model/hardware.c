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
