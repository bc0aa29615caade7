/* hardware_set.h - the numbers of a machine by name, to be read and changed one by one: what-if questions, sweeps, fitting.
 *
 *     hardware_set(&hw, "gpu.capacity=24GiB", &err)       a value with its unit; may exceed what the machine has
 *     hardware_set(&hw, "cpu->gpu.rate=2x", &err)         or a factor
 *
 * | name                   | value                                                                              |
 * | TIER.capacity          | bytes                                                                              |
 * | A->B.rate              | bytes/s of that direction: the highest of its curve, the others stay in proportion |
 * | A->B.latency           | seconds a transfer                                                                 |
 * | UNIT.matmul.FORMAT     | FLOP/s with weights of that format: the highest, as above                          |
 * | UNIT.attention_prefill | FLOP/s                                                                             |
 * | UNIT.attention_decode.FORMAT | bytes/s of cache                                                             |
 * | UNIT.memory_bandwidth  | bytes/s                                                                            |
 * | UNIT.launch            | seconds an operation                                                               |
 * | UNIT.workspace         | bytes                                                                              |
 *
 * Only what the machine has: a format that was not measured has no field.
 */
#ifndef BALLAST_MODEL_HARDWARE_SET_H
#define BALLAST_MODEL_HARDWARE_SET_H

#include <stdbool.h>

#include "model/hardware.h"
#include "model/units.h"

enum hardware_field_kind {
    FIELD_CAPACITY,
    FIELD_RATE,
    FIELD_LATENCY,
    FIELD_MATMUL,
    FIELD_ATTENTION_PREFILL,
    FIELD_ATTENTION_DECODE,
    FIELD_MEMORY_BANDWIDTH,
    FIELD_LAUNCH,
    FIELD_WORKSPACE,
    FIELD_KIND_COUNT
};

struct hardware_field {
    enum hardware_field_kind kind;
    int index;          /* of the tier, link or unit */
    bool write;         /* of a link: upper -> lower */
    enum format format; /* of matmul and attention_decode */
};

/* All fields that this machine has; returns how many. */
#define HARDWARE_FIELDS_MAX (TIERS_MAX + 4 * (TIERS_MAX - 1) + COMPUTES_MAX * (4 + 2 * FORMAT_COUNT))
int hardware_fields(const struct hardware *hw, struct hardware_field out[HARDWARE_FIELDS_MAX]);
char *hardware_field_name(const struct hardware *hw, const struct hardware_field *f, char *buf, size_t n); /* returns buf */
/* An unknown name is an error that lists the fields. */
enum status hardware_field_find(const struct hardware *hw, const char *name, struct hardware_field *out, struct error *err);
enum unit_kind hardware_field_unit(const struct hardware_field *f);
double hardware_field_get(const struct hardware *hw, const struct hardware_field *f);
/* value > 0; a latency, launch time or workspace may be 0. Sizes are rounded down to whole bytes. */
void hardware_field_put(struct hardware *hw, const struct hardware_field *f, double value);

/* "NAME=VALUE" or "NAME=FACTORx". What was measured is "mixed" afterwards. On failure *hw is left alone. */
enum status hardware_set(struct hardware *hw, const char *text, struct error *err);

#endif
