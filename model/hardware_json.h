/* hardware_json.h - the file format of a machine (docs/formats.md); everybody else uses hardware.h. */
#ifndef BALLAST_MODEL_HARDWARE_JSON_H
#define BALLAST_MODEL_HARDWARE_JSON_H

#include <stdio.h>

#include "model/hardware.h"
#include "model/json.h"

/* A rate that varies more than sevenfold is not a rate. What was measured to vary more is written as this, so that the rest of it is kept. */
#define SPREAD_MAX 2.0

/* Reads and checks a machine. On failure *hw is left alone. */
enum status hardware_from_json(struct hardware *hw, const struct json_file *file, struct error *err);

#endif
