/* grammar.h - lists of integers as llama-bench writes them: "1,2,8", "1-4", "128-512+128", "1-64*2", and mixes by commas. */
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

#endif
