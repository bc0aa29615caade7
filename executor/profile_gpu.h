/* profile_gpu.h - the GPU's part of a profile: its tier, its link to memory and its unit, through the library's functions. */
#ifndef BALLAST_EXECUTOR_PROFILE_GPU_H
#define BALLAST_EXECUTOR_PROFILE_GPU_H

#include "executor/profile.h"

struct profile_gpu; /* an open device, and what the rounds gave so far */

/* `numbers` (PROFILE_NUMBERS_BYTES): ordinary in every format. They are needed until this returns. */
#define PROFILE_NUMBERS_BYTES (256LL << 20)
enum status profile_gpu_open(struct profile_gpu **out, const struct profile_options *o, const void *numbers, struct error *err);
void profile_gpu_close(struct profile_gpu *g); /* NULL is fine */
/* One round, blended into tier 0, link 0 and unit 0. */
enum status profile_gpu_round(struct profile_gpu *g, struct hardware *hw, int round, struct error *err);
/* After the last: the spreads, the contention of the link's directions, and the summary into o->gpu_rates. */
void profile_gpu_finish(struct profile_gpu *g, struct hardware *hw);

#endif
