/* Hardware profiles from anywhere: refused with one line, or a machine whose curves and budgets can be used. */
#include <assert.h>
#include <string.h>

#include "model/hardware.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const struct curve *c)
{
    for (int i = 0; i < c->n; i++)
        assert(curve_at(c, c->x[i]) == c->y[i] && curve_at(c, c->x[i] + 0.5) > 0);
}

static void use_machine(struct hardware *hw)
{
    char budget[64];
    for (int i = 0; i + 1 < hw->n_tiers; i++) {
        use(&hw->link[i].read_bytes_per_s);
        use(&hw->link[i].write_bytes_per_s);
    }
    for (int i = 0; i < hw->n_computes; i++)
        for (int f = 0; f < FORMAT_COUNT; f++)
            use(&hw->compute[i].matmul[f]);
    for (int i = 0; i < hw->n_tiers; i++) {
        assert(hw->tier[i].capacity_bytes >= 1 && hardware_tier(hw, hw->tier[i].name) == i);
        strcpy(budget, hw->tier[i].name);
        strcat(budget, "=1B");
        assert(hardware_budget(hw, budget, NULL) == STATUS_OK && hw->tier[i].capacity_bytes == 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct hardware hw;
    struct error err = {0};
    enum status status = hardware_parse(&hw, "fuzz", (const char *)data, n, &err);
    assert(status == err.status && (status == STATUS_OK) == (err.text[0] == '\0'));
    assert(!strchr(err.text, '\n'));
    if (!status)
        use_machine(&hw);
    return 0;
}
