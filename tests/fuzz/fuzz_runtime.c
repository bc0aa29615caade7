/* The "runtime" and "contention" of a profile from anywhere, behind a machine that is in order: refused with one line, or written and read
 * back the same, and a table of it can be built. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/cost.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char machine[] =
    "{\"ballast_hardware\": 1, \"name\": \"box\", \"estimate\": \"measured\", \"tiers\": ["
    "{\"name\": \"gpu\", \"kind\": \"device\", \"capacity\": \"16 GiB\", \"source\": \"a\"},"
    "{\"name\": \"cpu\", \"kind\": \"host\", \"capacity\": \"64 GiB\", \"source\": \"a\"},"
    "{\"name\": \"disk\", \"kind\": \"disk\", \"capacity\": \"1 TB\", \"source\": \"a\"}], \"links\": ["
    "{\"upper\": \"gpu\", \"lower\": \"cpu\", \"read\": [{\"size\": \"1 MiB\", \"rate\": \"12 GB/s\"}],"
    " \"write\": [{\"size\": \"1 MiB\", \"rate\": \"12 GB/s\"}], \"read_latency\": \"10 us\", \"write_latency\": \"10 us\","
    " \"source\": \"a\"},"
    "{\"upper\": \"cpu\", \"lower\": \"disk\", \"read\": [{\"size\": \"1 MiB\", \"rate\": \"2 GB/s\"}],"
    " \"write\": [{\"size\": \"1 MiB\", \"rate\": \"1 GB/s\"}], \"read_latency\": \"80 us\", \"write_latency\": \"0 s\","
    " \"source\": \"a\"}], \"compute\": ["
    "{\"name\": \"gpu\", \"tier\": \"gpu\", \"activation\": \"f16\", \"math\": \"f16\","
    " \"matmul\": {\"f16\": [{\"rows\": 1, \"rate\": \"1 TFLOP/s\"}], \"q4\": [{\"rows\": 1, \"rate\": \"1 TFLOP/s\"}]},"
    " \"attention_prefill\": \"1 TFLOP/s\", \"attention_decode\": {\"f16\": \"200 GB/s\", \"q4\": \"80 GB/s\"},"
    " \"memory_bandwidth\": \"200 GB/s\", \"launch\": \"5 us\", \"workspace\": \"64 MiB\", \"source\": \"a\"},"
    "{\"name\": \"cpu\", \"tier\": \"cpu\", \"activation\": \"f32\", \"math\": \"f32\","
    " \"matmul\": {\"f16\": [{\"rows\": 1, \"rate\": \"90 GFLOP/s\"}]}, \"attention_prefill\": \"20 GFLOP/s\","
    " \"attention_decode\": {\"f16\": \"20 GB/s\", \"f32\": \"20 GB/s\", \"q4\": \"8 GB/s\"}, \"memory_bandwidth\": \"21 GB/s\","
    " \"launch\": \"5 us\", \"workspace\": \"64 MiB\", \"source\": \"a\"}],";

/* Turns need a table of their own kind; every time in it is a number. */
static void use(const struct hardware *hw, const struct arch *a)
{
    const struct workload w = {.prompt_tokens = 16, .gen_tokens = 4};
    struct policy p;
    struct cost c;
    struct prediction prediction;
    policy_default(&p, hw->n_tiers);
    p.num_gpu_batches = 3;
    if (cost_build(&c, a, hw, &w, &p, NULL) != STATUS_OK)
        return;
    cost_predict(&c, p.fraction, &prediction);
    assert(prediction.latency_s > 0 && !isnan(prediction.throughput_tok_s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct arch a;
    struct hardware hw;
    struct error err = {0};
    char *text = malloc(sizeof machine + n);
    if (a.n_layers == 0)
        assert(arch_load(&a, "opt-125m", NULL) == STATUS_OK);
    assert(text);
    memcpy(text, machine, sizeof machine - 1);
    memcpy(text + sizeof machine - 1, data, n);
    enum status status = hardware_parse(&hw, "fuzz", text, sizeof machine - 1 + n, &err);
    assert(status == err.status && (status == STATUS_OK) == (err.text[0] == '\0') && !strchr(err.text, '\n'));
    if (status == STATUS_OK)
        use(&hw, &a);
    free(text);
    return 0;
}
