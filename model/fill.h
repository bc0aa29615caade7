/* fill.h - when a resource waits although there is work: until the first weights have come, after the last, and along the chain of attention
 * near the cache. docs/cost-model.md, "Fill". */
#ifndef BALLAST_MODEL_FILL_H
#define BALLAST_MODEL_FILL_H

#include "model/cost.h"

/* Sets c->fill of a table. */
void fill_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                const struct policy *p);

#endif
