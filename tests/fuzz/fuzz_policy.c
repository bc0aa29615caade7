/* Policies from anywhere, as a file and as percentages: refused with one line, or written and read back the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct hardware machine = {.name = "fuzz",
                                        .n_tiers = 3,
                                        .n_computes = 2,
                                        .tier = {{.name = "gpu"},
                                                 {.name = "cpu", .kind = TIER_HOST},
                                                 {.name = "disk", .kind = TIER_DISK}}};

static char *print(const struct policy *p)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    policy_print(p, &machine, out);
    fclose(out);
    return text;
}

static void round_trip(const struct policy *p)
{
    struct policy again;
    char flags[300], *first = print(p);
    assert(policy_parse(&again, "again", first, strlen(first), &machine, NULL) == STATUS_OK);
    char *second = print(&again);
    assert(strcmp(first, second) == 0);
    assert(strstr(policy_flags(p, &machine, flags, sizeof flags), "--prefetch"));
    free(first);
    free(second);
}

static void percentages(const uint8_t *data, size_t n)
{
    struct policy p;
    char text[256];
    if (n >= sizeof text)
        n = sizeof text - 1;
    memcpy(text, data, n);
    text[n] = '\0';
    policy_default(&p, machine.n_tiers);
    if (policy_percent(&p, text, &machine, NULL) == STATUS_OK)
        assert(policy_check(&p, &machine, "percent", NULL) == STATUS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct policy p;
    struct error err = {0};
    enum status status = policy_parse(&p, "fuzz", (const char *)data, n, &machine, &err);
    assert(status == err.status && !strchr(err.text, '\n'));
    if (!status)
        round_trip(&p);
    percentages(data, n);
    return 0;
}
