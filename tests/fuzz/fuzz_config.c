/* Any bytes as config.json: refused with a message, or an architecture whose sums are sound and which reads back the same. */
#include <stdlib.h>
#include <string.h>

#include "model/arch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_layers(const struct arch *a)
{
    int64_t next_row = 0;
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        require(layer_parameters(l) > 0 && layer_placed_bytes(l, FORMAT_Q4) > 0 && layer_resident_bytes(l) >= 0);
        require(layer_decode_flops(l, 4096) >= 0 && layer_prefill_flops(l, 2048) >= 0);
        if (l->kind == LAYER_HEAD) {
            const struct tensor *t = layer_tensor(l, ROLE_EMBED_TOKENS);
            require(t && t->row_begin == next_row && t->row_end > t->row_begin);
            next_row = t->row_end;
        }
    }
    require(next_row == a->vocab && arch_parameters(a) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arch a, b;
    struct error err = {0};
    enum status s = arch_parse(&a, "fuzz/config.json", (const char *)data, size, &err);
    require(s == err.status && (s == STATUS_OK) == (err.text[0] == '\0'));
    if (s != STATUS_OK)
        return 0;
    check_layers(&a);
    char *text = arch_config_json(&a);
    require(text != NULL);
    require(arch_parse(&b, "fuzz/config.json", text, strlen(text), &err) == STATUS_OK);
    require(a.n_layers == b.n_layers && arch_parameters(&a) == arch_parameters(&b));
    free(text);
    arch_free(&a);
    arch_free(&b);
    return 0;
}
