/* profile_rounds.h - from the rates of single rounds to those of a profile. */
#ifndef BALLAST_EXECUTOR_PROFILE_ROUNDS_H
#define BALLAST_EXECUTOR_PROFILE_ROUNDS_H

#include "executor/profile.h"

void curve_add(struct curve *c, double x, double y); /* a point behind the last one; none for a rate of 0 */

/* Round 0, 1, ... of a rate: the mean of the times, as a run adds them up. A machine shared with others has fast and slow spells of a
 * second or so: many short looks at every quantity see both, a long one sees one, and a median of few is one or the other. */
void rate_blend(double *mean, double rate, int round);
void curve_blend(struct curve *mean, const struct curve *one, int round);

/* The geometric mean of a curve from `least` on: how fast a round was as a whole. Single rates are looked at for milliseconds and vary far more
 * than a run of seconds does. */
double curve_level(const struct curve *c, double least);

/* The rates of one quantity over the rounds. */
struct tally {
    int n;
    double sum, squares; /* of logarithms */
    struct profile_range range;
};
void tally_count(struct tally *t, double rate);
double tally_variance(const struct tally *t);

/* Two resources that slow each other down: `at_once` is the sum of both rates at once, each over its own alone. 2 is two that share nothing, and
 * adds no group; 1 is two that take turns. With the same share for both, share * (busy of one + busy of the other) is the time they take. A
 * share is at most all of it, though a disk may lose even more. */
void contention_of_pair(struct hardware *hw, const char *name, int resource, int other, double at_once);

#endif
