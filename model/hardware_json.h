/* hardware_json.h - the file format of a machine (docs/formats.md); everybody else uses hardware.h. */
#ifndef BALLAST_MODEL_HARDWARE_JSON_H
#define BALLAST_MODEL_HARDWARE_JSON_H

#include <stdio.h>

#include "model/hardware.h"
#include "model/json.h"

/* Reads and checks a machine. On failure *hw is left alone. */
enum status hardware_from_json(struct hardware *hw, const struct json_file *file, struct error *err);

#endif
