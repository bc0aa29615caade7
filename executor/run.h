/* run.h - carry out a policy: place a model, run its schedule on prompts, and report what happened.
 *
 *     struct runner *r;
 *     runner_open(&r, &options, err);            // takes every region from its tier's arena, reads resident weights
 *     runner_generate(r, prompts, n, 0, out, NULL, err); // one block (diagonal: a stream): n <= stream_sequences()
 *     runner_close(r);
 *
 * What is executed equals what was planned: runner_open takes exactly the placement's regions, and runner_generate checks the recorded
 * peaks against them.
 */
#ifndef BALLAST_EXECUTOR_RUN_H
#define BALLAST_EXECUTOR_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/backend.h"
#include "executor/prompts.h"
#include "executor/sample.h"
#include "executor/sim/sim.h"
#include "traces/trace.h"

struct run_options {
    struct run_setting setting;    /* borrowed for the runner's life; prediction only describes the trace */
    const char *model_directory;   /* config.json and *.safetensors */
    const char *scratch_directory; /* spilled cache, activations and 4-bit weights; on the disk tier */
    const struct backend *backend; /* of compute unit 0; NULL: the CPU, which unit 1 always is */
    int threads;                   /* of compute unit 0; unit 1 gets as many */
    struct sampling sampling;
    const int32_t *stop_tokens; /* (n_stop) */
    int n_stop;
    int32_t pad_token;
    /* All may be NULL. */
    void (*loading)(int64_t done, int64_t total, void *arg);
    void (*step_done)(int step, void *arg); /* a pass over the layers has ended */
    /* Logits [begin, begin + count) of every real position (padding not counted) of every sequence, one head part after the other;
     * makes the head score every position. */
    void (*logits)(int64_t sequence, int64_t position, int64_t begin, int64_t count, const float *logits, void *arg);
    void *arg;
};

struct runner;

enum status runner_open(struct runner **out, const struct run_options *o, struct error *err);
void runner_close(struct runner *r); /* NULL is fine */

struct generated {
    int32_t *tokens; /* (n) owned by the caller: free() */
    int64_t n;       /* up to and including a stop token */
    bool stopped;
};

/* Generates for n >= 1 prompts, at most stream_sequences() of them (the block, or a diagonal's stream); a smaller block is filled with copies of the last prompt whose results are dropped.
 * `first` numbers the first prompt among all of a run, so that sampling does not depend on the blocks. Prompts longer than the workload's are an error. `out` has n entries. *trace (may be NULL) must be initialised. */
enum status runner_generate(struct runner *r, const struct prompt *prompts, int64_t n, int64_t first, struct generated *out,
                            struct trace *trace, struct error *err);

/* Recorded peak of a tier, and how its bytes divide: exactly the placement's. */
int64_t runner_peak_bytes(const struct runner *r, int tier);
double runner_pinning_s(const struct runner *r); /* that runner_open took the host's block in; 0: there is none */
const char *runner_io_method(const struct runner *r);

#endif
