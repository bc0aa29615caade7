/* profile_disk.h - the disk's part of a profile: its reads, its writes, and both at once, through the executor's I/O. */
#ifndef BALLAST_EXECUTOR_PROFILE_DISK_H
#define BALLAST_EXECUTOR_PROFILE_DISK_H

#include "executor/profile.h"

struct profile_disk; /* an open sample file, and what the rounds gave so far */

enum status profile_disk_open(struct profile_disk **out, const struct profile_options *o, struct error *err);
void profile_disk_close(struct profile_disk *d); /* NULL is fine */
/* One round, blended into the link above the disk. */
enum status profile_disk_round(struct profile_disk *d, struct link *l, int round, struct error *err);
/* After the last: the spreads, the contention of reads with writes, and the range of large reads (may be NULL). */
void profile_disk_finish(struct profile_disk *d, struct hardware *hw, struct profile_range *reads);

#endif
