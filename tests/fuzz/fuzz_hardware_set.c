/* "FIELD=VALUE" from anywhere: refused with one line and the machine as it was, or a machine that can still be planned for. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/hardware_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_curve(const struct curve *c)
{
    for (int i = 0; i < c->n; i++)
        assert(c->y[i] > 0 && isfinite(c->y[i]));
}

static void check_machine(const struct hardware *hw)
{
    struct hardware_field field[HARDWARE_FIELDS_MAX];
    const int n = hardware_fields(hw, field);
    for (int i = 0; i < n; i++) {
        struct hardware_field found;
        char name[64];
        assert(hardware_field_find(hw, hardware_field_name(hw, &field[i], name, sizeof name), &found, NULL) == STATUS_OK);
        assert(isfinite(hardware_field_get(hw, &field[i])) && hardware_field_get(hw, &field[i]) >= 0);
    }
    for (int i = 0; i + 1 < hw->n_tiers; i++) {
        check_curve(&hw->link[i].read_bytes_per_s);
        check_curve(&hw->link[i].write_bytes_per_s);
    }
    for (int i = 0; i < hw->n_computes; i++)
        for (int f = 0; f < FORMAT_COUNT; f++)
            check_curve(&hw->compute[i].matmul[f]);
    for (int i = 0; i < hw->n_tiers; i++)
        assert(hw->tier[i].capacity_bytes >= 1);
}

/* Several changes to one machine, a line each. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct hardware machine;
    if (machine.n_tiers == 0)
        assert(hardware_load(&machine, "t4-gcp", NULL) == STATUS_OK);
    struct hardware hw = machine;
    char *text = malloc(n + 1);
    assert(text);
    memcpy(text, data, n);
    text[n] = '\0';
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        const struct hardware before = hw;
        struct error err = {0};
        enum status status = hardware_set(&hw, line, &err);
        assert(status == err.status && (status == STATUS_OK) == (err.text[0] == '\0') && !strchr(err.text, '\n'));
        assert(status == STATUS_OK || memcmp(&hw, &before, sizeof hw) == 0);
        check_machine(&hw);
    }
    free(text);
    return 0;
}
