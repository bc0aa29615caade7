/* axes.h - the points of a sweep: every option with its list of values, crossed.
 *
 * Numbers, with units too, take the lists and ranges of grammar.h; other values are separated by commas; "ram=1GiB-4GiB*2" is three
 * values of one tier. --vary compress-weight=yes,no gives a flag both ways.
 */
#ifndef BALLAST_CLI_AXES_H
#define BALLAST_CLI_AXES_H

#include "cli/options.h"

struct axis {
    int option, off; /* off: of a flag's "no-" twin, -1 if the option is none */
    char name[64];   /* "prompt-tokens", "budget ram" */
    int64_t n;
    char **value; /* (n) owned; of a flag "yes" or "no" */
};

struct axes {
    int n;
    struct axis axis[USES_MAX]; /* in the order given */
    int64_t points;             /* the product of their lengths, at least 1 */
};

enum status axes_new(struct axes *a, const struct option_use *use, int n, struct error *err);
void axes_free(struct axes *a); /* a zeroed struct is fine */

/* The value of an axis at a point; the last axis varies fastest. */
const char *axes_value(const struct axes *a, int axis, int64_t point);
/* Sets every axis's value of the point on top of *o. */
enum status axes_set(const struct axes *a, int64_t point, struct options *o, struct error *err);

#endif
