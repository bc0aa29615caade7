#include "model/workload.h"

#include <inttypes.h>

enum status workload_check(const struct workload *w, int64_t max_positions, struct error *err)
{
    if (w->prompt_tokens < 1)
        return error_set(err, STATUS_INVALID, "prompt length: expected at least 1 token, found %" PRId64, w->prompt_tokens);
    if (w->gen_tokens < 1)
        return error_set(err, STATUS_INVALID, "generated tokens: expected at least 1, found %" PRId64, w->gen_tokens);
    if (w->sequences < 0)
        return error_set(err, STATUS_INVALID, "sequences: expected 0 or more, found %" PRId64, w->sequences);
    if (max_positions <= 0) /* a model without a limit */
        return STATUS_OK;
    /* The last generated token is never fed back, so s + n - 1 positions are used. Written so that nothing overflows. */
    if (w->prompt_tokens > max_positions || w->gen_tokens - 1 > max_positions - w->prompt_tokens)
        return error_set(err, STATUS_INVALID,
                         "prompt %" PRId64 " and generated %" PRId64 " tokens: expected at most %" PRId64
                         " positions in the model (prompt + generated - 1)",
                         w->prompt_tokens, w->gen_tokens, max_positions);
    return STATUS_OK;
}
