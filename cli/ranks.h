/* ranks.h - the processes of an MPI job, for work that is spread over nodes. Built without MPI, or started without mpirun, there is
 * one: rank 0 of 1.
 */
#ifndef BALLAST_CLI_RANKS_H
#define BALLAST_CLI_RANKS_H

#include <stddef.h>
#include <stdint.h>

#include "model/error.h"

struct ranks {
    int rank, size;
};

/* Joins the job that mpirun started, if it did. STATUS_INVALID if it did and this program was built without MPI. */
enum status ranks_join(struct ranks *r, struct error *err);
/* Leaves it. A failure ends the other ranks too, which may wait for this one: does not return then. */
void ranks_leave(const struct ranks *r, enum status status);

void ranks_agree(const struct ranks *r, int64_t *value);                /* rank 0's for all */
void ranks_send(const struct ranks *r, const char *text, size_t bytes); /* to rank 0 */
/* What rank `from` sent next to rank 0; the caller frees *text. */
enum status ranks_receive(const struct ranks *r, int from, char **text, size_t *bytes, struct error *err);

#endif
