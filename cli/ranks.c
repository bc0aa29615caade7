/* ranks.c - see ranks.h. MPI ends the whole job where a call fails, so results are not looked at. */
#include "cli/ranks.h"

#include <stdbool.h>
#include <stdlib.h>

/* As Open MPI, and MPICH's and Slurm's process managers, tell a process. */
static bool started_by_mpi(void)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (int i = 0; i < 2; i++) {
        const char *size = getenv(sizes[i]);
        if (size && atoi(size) > 1) {
            return true;
        }
    }
    return false;
}

#ifdef BALLAST_MPI
#include <mpi.h>

enum { TAG = 1, PART = 1 << 30 }; /* a count is an int: longer texts go in parts */

enum status ranks_join(struct ranks *r, struct error *err)
{
    (void)err;
    *r = (struct ranks){0, 1};
    if (started_by_mpi()) {
        MPI_Init(NULL, NULL);
        MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &r->size);
    }
    return STATUS_OK;
}

void ranks_leave(const struct ranks *r, enum status status)
{
    if (r->size > 1 && status != STATUS_OK) {
        MPI_Abort(MPI_COMM_WORLD, (int)status);
    }
    if (r->size > 1) {
        MPI_Finalize();
    }
}

void ranks_agree(const struct ranks *r, int64_t *value)
{
    if (r->size > 1) {
        MPI_Bcast(value, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
    }
}

void ranks_send(const struct ranks *r, const char *text, size_t bytes)
{
    int64_t length = (int64_t)bytes;
    (void)r;
    MPI_Send(&length, 1, MPI_INT64_T, 0, TAG, MPI_COMM_WORLD);
    for (int64_t at = 0; at < length; at += PART) {
        MPI_Send(text + at, (int)(length - at < PART ? length - at : PART), MPI_CHAR, 0, TAG, MPI_COMM_WORLD);
    }
}

enum status ranks_receive(const struct ranks *r, int from, char **text, size_t *bytes, struct error *err)
{
    int64_t length;
    (void)r;
    MPI_Recv(&length, 1, MPI_INT64_T, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    *bytes = (size_t)length;
    *text = malloc((size_t)length + 1);
    if (!*text) {
        return error_set(err, STATUS_RUNTIME, "out of memory for %lld bytes of rank %d", (long long)length, from);
    }
    for (int64_t at = 0; at < length; at += PART) {
        MPI_Recv(*text + at, (int)(length - at < PART ? length - at : PART), MPI_CHAR, from, TAG, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    }
    return STATUS_OK;
}
#else
enum status ranks_join(struct ranks *r, struct error *err)
{
    *r = (struct ranks){0, 1};
    if (started_by_mpi()) {
        return error_set(err, STATUS_INVALID, "started by mpirun, but built without MPI: install libopenmpi-dev and make again");
    }
    return STATUS_OK;
}

void ranks_leave(const struct ranks *r, enum status status)
{
    (void)r;
    (void)status;
}

void ranks_agree(const struct ranks *r, int64_t *value)
{
    (void)r;
    (void)value;
}

void ranks_send(const struct ranks *r, const char *text, size_t bytes)
{
    (void)r;
    (void)text;
    (void)bytes;
}

enum status ranks_receive(const struct ranks *r, int from, char **text, size_t *bytes, struct error *err)
{
    (void)r;
    (void)text;
    (void)bytes;
    return error_set(err, STATUS_RUNTIME, "rank %d: built without MPI", from);
}
#endif
