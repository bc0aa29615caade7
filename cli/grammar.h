/* grammar.h - lists of integers as llama-bench writes them: "1,2,8", "1-4", "128-512+128", "1-64*2", and mixes by commas; and the same
 * of numbers with units: "8GiB,16GiB-64GiB*2", "12GB/s-24GB/s+6GB/s", "0.5-2+0.5". */
#ifndef BALLAST_CLI_GRAMMAR_H
#define BALLAST_CLI_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

#include "model/error.h"

/* Most values that one list may have. */
#define LIST_MAX 1000000

struct int_list {
    size_t n;
    int64_t *value; /* (n) owned, in the order written, repeats kept */
};

/* list  = item {"," item}
 * item  = first | first "-" last | first "-" last "+" step | first "-" last "*" factor
 *
 * A range ends with the last value that does not exceed `last`; step is 1 if not given, a factor is at least 2. Numbers are decimal without
 * sign and lie in [min, max], min >= 0. `what` names the list in messages ("-p"). */
enum status list_parse(struct int_list *l, const char *what, const char *text, int64_t min, int64_t max, struct error *err);
void list_free(struct int_list *l); /* a zeroed struct is fine */

struct text_list {
    size_t n;
    char **value; /* (n) owned */
};

/* list  = item {"," item}
 * item  = text | first "-" last "+" step | first "-" last "*" factor
 *
 * first, last and step are numbers with the same unit or with units of one kind; the factor is a number above 1. The values of a range
 * come in its unit, or in a readable one if it has several; a text that is no range is kept as it is. */
enum status quantities_parse(struct text_list *l, const char *what, const char *text, struct error *err);
void text_list_free(struct text_list *l); /* a zeroed struct is fine */

#endif
