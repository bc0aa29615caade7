/* axes.c - see axes.h. */
#define _GNU_SOURCE /* asprintf */
#include "cli/axes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/grammar.h"

static enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_RUNTIME, "out of memory for the values of a sweep");
}

/* Takes over `text`. */
static enum status add_value(struct axis *x, char *text, struct error *err)
{
    char **grown = text ? realloc(x->value, ((size_t)x->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(text);
        return no_memory(err);
    }
    x->value = grown;
    x->value[x->n++] = text;
    return STATUS_OK;
}

static enum status add_numbers(struct axis *x, const char *text, struct error *err)
{
    struct int_list list;
    char number[24];
    enum status status = list_parse(&list, x->name, text, 0, INT64_MAX, err);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < list.n && status == STATUS_OK; i++) {
        snprintf(number, sizeof number, "%lld", (long long)list.value[i]);
        status = add_value(x, strdup(number), err);
    }
    list_free(&list);
    return status;
}

/* What stands between commas, behind `prefix`. */
static enum status add_texts(struct axis *x, const char *prefix, int prefix_length, const char *text, struct error *err)
{
    enum status status = STATUS_OK;
    for (const char *at = text; status == STATUS_OK; at++) {
        int length = (int)strcspn(at, ",");
        char *value = NULL;
        if (length == 0) {
            return error_set(err, STATUS_INVALID, "--%s: \"%s\": expected values between commas, found none", x->name, text);
        }
        if (asprintf(&value, "%.*s%.*s", prefix_length, prefix, length, at) < 0) {
            value = NULL;
        }
        status = add_value(x, value, err);
        at += length;
        if (*at == '\0') {
            break;
        }
    }
    return status;
}

/* Numbers with units, behind `prefix`. */
static enum status add_quantities(struct axis *x, const char *prefix, int prefix_length, const char *text, struct error *err)
{
    struct text_list list;
    enum status status = quantities_parse(&list, x->name, text, err);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < list.n && status == STATUS_OK; i++) {
        char *value = NULL;
        if (asprintf(&value, "%.*s%s", prefix_length, prefix, list.value[i]) < 0) {
            value = NULL;
        }
        status = add_value(x, value, err);
    }
    text_list_free(&list);
    return status;
}

/* --vary FLAG=yes,no */
static enum status vary(struct axis *x, const char *text, struct error *err)
{
    const char *equals = strchr(text, '=');
    char name[56], off[64];
    snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - text) : (int)strlen(text), text);
    snprintf(off, sizeof off, "no-%s", name);
    x->option = option_named(name);
    x->off = option_named(off);
    if (!equals || x->option < 0 || x->off < 0) {
        return error_set(err, STATUS_INVALID, "--vary: expected FLAG=yes,no with a flag such as compress-weight, found \"%s\"",
                         text);
    }
    snprintf(x->name, sizeof x->name, "%s", name);
    enum status status = add_texts(x, "", 0, equals + 1, err);
    for (int64_t i = 0; i < x->n && status == STATUS_OK; i++) {
        if (strcmp(x->value[i], "yes") != 0 && strcmp(x->value[i], "no") != 0) {
            status = error_set(err, STATUS_INVALID, "--vary: %s: expected yes or no, found \"%s\"", name, x->value[i]);
        }
    }
    return status;
}

static enum status fill(struct axis *x, const struct option_use *use, struct error *err)
{
    const char *equals;
    *x = (struct axis){.option = use->option, .off = -1};
    snprintf(x->name, sizeof x->name, "%s", option_name(use->option));
    if (strcmp(x->name, "vary") == 0) {
        return vary(x, use->text, err);
    }
    if (!use->text) { /* a flag that is given is given for all */
        return add_value(x, strdup("yes"), err);
    }
    if (option_counts(use->option)) {
        return add_numbers(x, use->text, err);
    }
    equals = option_takes_pair(use->option) ? strchr(use->text, '=') : NULL;
    if (equals) {
        int length = (int)(equals - use->text);
        snprintf(x->name, sizeof x->name, "%s %.*s", option_name(use->option), length, use->text);
        return (option_measures(use->option) ? add_quantities : add_texts)(x, use->text, length + 1, equals + 1, err);
    }
    if (option_measures(use->option)) {
        return add_quantities(x, "", 0, use->text, err);
    }
    return add_texts(x, "", 0, use->text, err);
}

/* Every value once, so that a wrong one is said before the first point; what values do to each other shows later. */
static enum status check_values(const struct axis *x, struct error *err)
{
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < x->n && status == STATUS_OK && x->off < 0; i++) {
        struct options o;
        options_default(&o, "sweep");
        status = options_set(&o, x->option, x->value[i], err);
    }
    return status;
}

enum status axes_new(struct axes *a, const struct option_use *use, int n, struct error *err)
{
    enum status status = STATUS_OK;
    *a = (struct axes){.points = 1};
    for (int i = 0; i < n && status == STATUS_OK; i++) {
        struct axis *x = &a->axis[a->n++];
        status = fill(x, &use[i], err);
        if (status == STATUS_OK) {
            status = check_values(x, err);
        }
        for (int j = 0; j < a->n - 1 && status == STATUS_OK; j++) {
            if (strcmp(a->axis[j].name, x->name) == 0) {
                status = error_set(err, STATUS_INVALID, "--%s is given twice: give its values as one list", x->name);
            }
        }
        if (status == STATUS_OK && x->n > INT64_MAX / 4 / a->points) {
            status = error_set(err, STATUS_INVALID, "the lists multiply to more points than can be counted");
        }
        a->points *= status == STATUS_OK ? x->n : 1;
    }
    if (status != STATUS_OK) {
        axes_free(a);
    }
    return status;
}

void axes_free(struct axes *a)
{
    for (int i = 0; i < a->n; i++) {
        for (int64_t j = 0; j < a->axis[i].n; j++) {
            free(a->axis[i].value[j]);
        }
        free(a->axis[i].value);
    }
    *a = (struct axes){0};
}

const char *axes_value(const struct axes *a, int axis, int64_t point)
{
    for (int i = a->n - 1; i > axis; i--) {
        point /= a->axis[i].n;
    }
    return a->axis[axis].value[point % a->axis[axis].n];
}

enum status axes_set(const struct axes *a, int64_t point, struct options *o, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < a->n && status == STATUS_OK; i++) {
        const struct axis *x = &a->axis[i];
        const char *value = axes_value(a, i, point);
        bool no = x->off >= 0 && strcmp(value, "no") == 0;
        status = options_set(o, no ? x->off : x->option, value, err);
    }
    return status;
}
