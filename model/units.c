#include "model/units.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    double scale;
    int file_only; /* parsed and written, but people get its sibling (GiB rather than GB) */
};

#define KI       1024.0
#define MI       (1024.0 * KI)
#define GI       (1024.0 * MI)
#define TI       (1024.0 * GI)
#define PI_BYTES (1024.0 * TI)

/* Increasing scale, NULL-ended. */
static const struct unit bytes_units[] = {{"B", 1, 0},    {"kB", 1e3, 1},  {"KiB", KI, 0},       {"MB", 1e6, 1},
                                          {"MiB", MI, 0}, {"GB", 1e9, 1},  {"GiB", GI, 0},       {"TB", 1e12, 1},
                                          {"TiB", TI, 0}, {"PB", 1e15, 1}, {"PiB", PI_BYTES, 0}, {NULL, 0, 0}};
static const struct unit rate_units[] = {{"B/s", 1, 0},    {"kB/s", 1e3, 0}, {"KiB/s", KI, 1}, {"MB/s", 1e6, 0},
                                         {"MiB/s", MI, 1}, {"GB/s", 1e9, 0}, {"GiB/s", GI, 1}, {"TB/s", 1e12, 0},
                                         {"TiB/s", TI, 1}, {NULL, 0, 0}};
static const struct unit flops_units[] = {{"FLOP/s", 1, 0},     {"kFLOP/s", 1e3, 0},  {"MFLOP/s", 1e6, 0}, {"GFLOP/s", 1e9, 0},
                                          {"TFLOP/s", 1e12, 0}, {"PFLOP/s", 1e15, 0}, {NULL, 0, 0}};
static const struct unit time_units[] = {{"ns", 1e-9, 0}, {"us", 1e-6, 0}, {"ms", 1e-3, 0}, {"s", 1, 0}, {NULL, 0, 0}};

static const struct unit share_units[] = {{"%", 1e-2, 0}, {NULL, 0, 0}};

static const struct unit *units_of(enum unit_kind kind)
{
    switch (kind) {
    case UNIT_BYTES:
        return bytes_units;
    case UNIT_BYTES_PER_S:
        return rate_units;
    case UNIT_FLOPS_PER_S:
        return flops_units;
    case UNIT_SHARE:
        return share_units;
    case UNIT_SECONDS:
        break;
    }
    return time_units;
}

const char *units_expected(enum unit_kind kind)
{
    switch (kind) {
    case UNIT_BYTES:
        return "a size such as \"16 GiB\"";
    case UNIT_BYTES_PER_S:
        return "a rate such as \"12.1 GB/s\"";
    case UNIT_FLOPS_PER_S:
        return "a rate such as \"65 TFLOP/s\"";
    case UNIT_SHARE:
        return "a share such as \"8 %\"";
    case UNIT_SECONDS:
        break;
    }
    return "a time such as \"5 us\"";
}

static const char *skip_digits(const char *p)
{
    while (isdigit((unsigned char)*p))
        p++;
    return p;
}

/* The end of "digits[.digits][e[+-]digits]" at `p`, or NULL: strtod alone would take signs, hexadecimal, inf and nan. */
static const char *number_end(const char *p)
{
    const char *end = skip_digits(p);
    if (end == p)
        return NULL;
    if (*end == '.') {
        const char *fraction = skip_digits(end + 1);
        if (fraction == end + 1)
            return NULL;
        end = fraction;
    }
    if (*end == 'e' || *end == 'E') {
        const char *digits = end + 1 + (end[1] == '+' || end[1] == '-');
        const char *exponent = skip_digits(digits);
        if (exponent == digits)
            return NULL;
        end = exponent;
    }
    return end;
}

/* Scales below one have no exact double but their inverses have: dividing keeps "5 us" the double nearest to 5e-6. */
static double from_unit(double number, const struct unit *u)
{
    return u->scale < 1 ? number / round(1 / u->scale) : number * u->scale;
}

static double in_unit(double value, const struct unit *u)
{
    return u->scale < 1 ? value * round(1 / u->scale) : value / u->scale;
}

int units_parse(const char *text, enum unit_kind kind, double *out)
{
    const char *end = number_end(text);
    if (!end)
        return -1;
    const char *name = *end == ' ' ? end + 1 : end;
    for (const struct unit *u = units_of(kind); u->name; u++)
        if (strcmp(name, u->name) == 0) {
            double value = from_unit(strtod(text, NULL), u);
            if (!isfinite(value))
                return -1;
            *out = value;
            return 0;
        }
    return -1;
}

/* The unit in which the value, once rounded by `format`, reads below 1000; the largest if there is none. */
static const struct unit *readable_unit(double value, enum unit_kind kind, const char *format)
{
    const struct unit *best = units_of(kind);
    for (const struct unit *u = best; u->name; u++) {
        char text[64];
        if (u->file_only)
            continue;
        best = u;
        snprintf(text, sizeof text, format, in_unit(fabs(value), u));
        if (strtod(text, NULL) < 1000)
            break;
    }
    return best;
}

char *units_format(double value, enum unit_kind kind, char *buf, size_t n)
{
    const struct unit *u = readable_unit(value, kind, "%.3g");
    double shown = in_unit(value, u);
    snprintf(buf, n, fabs(shown) >= 1000 ? "%.0f %s" : "%.3g %s", shown, u->name);
    return buf;
}

/* Largest unit of which the value is a whole multiple: exact, and short for the sizes that people choose. */
static char *write_bytes(double value, char *buf, size_t n)
{
    const struct unit *best = NULL;
    for (const struct unit *u = bytes_units; u->name; u++)
        if (fmod(value, u->scale) == 0 && (u == bytes_units || value != 0))
            best = u;
    if (best)
        snprintf(buf, n, "%.0f %s", value / best->scale, best->name);
    else
        snprintf(buf, n, "%.17g B", value);
    return buf;
}

char *units_write(double value, enum unit_kind kind, char *buf, size_t n)
{
    if (kind == UNIT_BYTES)
        return write_bytes(value, buf, n);
    const struct unit *u = readable_unit(value, kind, "%.9g");
    snprintf(buf, n, "%.9g %s", in_unit(value, u), u->name);
    return buf;
}
